"""Which folders are splits and which are classes.

`class name/image.jpg`, or `train/class name/image.jpg` and `test/class name/image.jpg` (`val`, `valid`
and `validation` serve as `test` where there is none). Folders that hold everything else are passed over; a
image deeper than its class folder belongs to that class, as in torchvision's ImageFolder. Where a layout
could mean two things the archive is refused: a label is never guessed.
"""

from typing import Literal

from api.archives.errors import ArchiveError, Warnings, name_list, short, shown, warn

Split = Literal["train", "test"]
TRAIN = {"train", "training"}
TEST = {"test", "testing"}
VALIDATION = {"val", "valid", "validation"}


def layout(paths: list[tuple[str, ...]], warnings: Warnings) -> list[tuple[tuple[str, ...], Split, str]]:
    """The split and the class of each path; paths without one are left out, with a warning."""
    root = 0
    loose: list[str] = []
    while True:
        loose += [shown(path) for path in paths if len(path) == root + 1]
        paths = [path for path in paths if len(path) > root + 1]
        tops = {path[root] for path in paths}
        deep = {path[root] for path in paths if len(path) > root + 2}
        known = {top for top in tops if top.casefold() in TRAIN | TEST | VALIDATION}
        if len(tops) != 1 or not deep or known:
            break
        warnings.append(
            {
                "code": "extra_root_folder",
                "detail": f"The folder {short(tops.pop())!r} holds everything else and was passed over.",
            }
        )
        root += 1

    train = {top for top in known & deep if top.casefold() in TRAIN}
    test = {top for top in known & deep if top.casefold() in TEST}
    validation = {top for top in known & deep if top.casefold() in VALIDATION}
    placed: list[tuple[tuple[str, ...], Split, str]] = []
    # Only train/ and test/ side by side, or alone, are splits: a class may be called "train" too.
    if train | test | validation and (tops == known or (train and test | validation)):
        odd = sorted(tops - known)
        if odd:
            raise ArchiveError(
                "unclear_layout",
                f"Beside {name_list(sorted(known))} the archive has images in {name_list(odd)}; put every "
                "class folder into train or test.",
            )
        if validation and not test:
            test = validation
            warnings.append(
                {
                    "code": "validation_is_test",
                    "detail": f"No test folder: {name_list(sorted(validation))} measures the result.",
                }
            )
        passed: list[str] = []
        for path in paths:
            top = path[root]
            if len(path) == root + 2:
                loose.append(shown(path))
            elif top in train:
                placed.append((path, "train", path[root + 1]))
            elif top in test:
                placed.append((path, "test", path[root + 1]))
            else:
                passed.append(shown(path))
        warn(
            warnings,
            "validation_ignored",
            "There is a test folder, so {n} images of the validation folder were passed over: {names}",
            passed,
        )
        depth = root + 3
    else:
        placed = [(path, "train", path[root]) for path in paths]
        depth = root + 2
    warn(
        warnings,
        "images_without_class",
        "{n} images lie in no class folder and were passed over: {names}",
        loose,
    )
    warn(
        warnings,
        "nested_folders",
        "{n} images lie deeper than their class folder and count to it: {names}",
        [shown(path) for path, _, _ in placed if len(path) > depth],
    )
    return placed
