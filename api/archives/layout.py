"""Assignment of an archive's folders to splits and classes.

Layouts: `class name/image.jpg`, or `train/class name/image.jpg` with `test/class name/image.jpg`. `val`,
`valid` and `validation` serve as `test` if there is no test folder. A single folder around everything is
ignored. An image in a subfolder belongs to its class folder, as in torchvision's ImageFolder. An ambiguous
layout is rejected, because labels are never guessed.
"""

from typing import Literal

from api.archives.errors import ArchiveError, Warnings, name_list, short, shown, warn

Split = Literal["train", "test"]
TRAIN = {"train", "training"}
TEST = {"test", "testing"}
VALIDATION = {"val", "valid", "validation"}


def layout(paths: list[tuple[str, ...]], warnings: Warnings) -> list[tuple[tuple[str, ...], Split, str]]:
    """Return path, split and class of each image. Images without a class are dropped with a warning.

    Raises:
        ArchiveError: the layout is ambiguous.
    """
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
                "detail": f"The outer folder {short(tops.pop())!r} was ignored.",
            }
        )
        root += 1

    train = {top for top in known & deep if top.casefold() in TRAIN}
    test = {top for top in known & deep if top.casefold() in TEST}
    validation = {top for top in known & deep if top.casefold() in VALIDATION}
    placed: list[tuple[tuple[str, ...], Split, str]] = []
    # Only train/ and test/ side by side, or alone, are splits, because a class may be named "train".
    if train | test | validation and (tops == known or (train and test | validation)):
        odd = sorted(tops - known)
        if odd:
            raise ArchiveError(
                "unclear_layout",
                f"The archive has images in {name_list(odd)} besides {name_list(sorted(known))}. Put every "
                "class folder into train or test.",
            )
        if validation and not test:
            test = validation
            warnings.append(
                {
                    "code": "validation_is_test",
                    "detail": f"There is no test folder, so {name_list(sorted(validation))} is used as test.",
                }
            )
        ignored: list[str] = []
        for path in paths:
            top = path[root]
            if len(path) == root + 2:
                loose.append(shown(path))
            elif top in train:
                placed.append((path, "train", path[root + 1]))
            elif top in test:
                placed.append((path, "test", path[root + 1]))
            else:
                ignored.append(shown(path))
        warn(
            warnings,
            "validation_ignored",
            "There is a test folder, so {n} images of the validation folder were ignored: {names}",
            ignored,
        )
        depth = root + 3
    else:
        placed = [(path, "train", path[root]) for path in paths]
        depth = root + 2
    warn(
        warnings,
        "images_without_class",
        "{n} images are in no class folder and were ignored: {names}",
        loose,
    )
    warn(
        warnings,
        "nested_folders",
        "{n} images are in subfolders of a class folder and belong to that class: {names}",
        [shown(path) for path, _, _ in placed if len(path) > depth],
    )
    return placed
