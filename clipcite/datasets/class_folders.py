"""Reader of class folders.

Supported layouts:

class/image.jpg                 train/class/image.jpg, test/class/image.jpg
anything/class/image.jpg        images/train/class/…, train/images/class/…
                                  class/train/image.jpg
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from clipcite.client.errors import InvalidImages
from clipcite.datasets.dataset import Dataset, Labelled, Split, count_noun
from clipcite.datasets.image import IMAGE_ENDINGS, ImageFile

SPLITS: dict[str, str] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
WRAPPERS = {"image", "images", "img", "imgs", "photo", "photos", "data"}
Placed = tuple[Path, str, str]
"""A file with its split and its class."""


def images_below(root: Path, around: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield every image file, recognised by its suffix, except hidden files and those below `__MACOSX`.

    Links to folders are followed, except into a folder that contains them.

    Args:
        root: the folder.
        around: the folders around it, without links.

    Raises:
        OSError: an unreadable folder.
    """
    around |= {root.resolve()}
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file():
            yield path
        elif path.is_dir() and path.resolve() not in around:
            yield from images_below(path, around)


def read_folders(root: Path) -> Dataset | None:
    """Read the class folders below `root`. Return None if there are none.

    Raises:
        InvalidImages: ambiguous layout, such as class folders beside train/ and test/.
    """
    paths = {file: file.relative_to(root).parts for file in images_below(root)}
    loose: list[Path] = []
    while True:
        loose += [file for file, parts in paths.items() if len(parts) == 1]
        paths = {file: parts for file, parts in paths.items() if len(parts) > 1}
        if not _has_wrapper(list(paths.values())):
            break
        paths = {file: parts[1:] for file, parts in paths.items()}
    placed = _place(paths, loose)
    if not placed:
        return None
    notes = [f"ignored {_named(loose)} outside class folders"] if loose else []
    kept, more = resolve_splits(placed)
    labelled = [Labelled(ImageFile.of_file(file), name, split) for file, split, name in kept]
    return Dataset("class folders", labelled, [*notes, *more])


def resolve_splits(placed: Sequence[Placed]) -> tuple[list[tuple[Path, Split, str]], list[str]]:
    """Use validation images as test images if there are no test images; otherwise drop them.

    Returns:
        The remaining images, and notes about the decision.
    """
    splits = {split for _, split, _ in placed}
    notes = []
    if "validation" in splits:
        number = sum(split == "validation" for _, split, _ in placed)
        if "test" in splits:
            notes.append(f"ignored {count_noun(number, 'validation image')}, since there are test images")
        else:
            notes.append("validation images serve as test images")
    test_split = "test" if "test" in splits else "validation"
    kept: list[tuple[Path, Split, str]] = []
    for file, split, name in placed:
        if split == "train":
            kept.append((file, "train", name))
        elif split == test_split:
            kept.append((file, "test", name))
    return kept, notes


def _has_wrapper(paths: Sequence[tuple[str, ...]]) -> bool:
    """Return True if one top folder holds everything and is neither a split nor the only class."""
    tops = {parts[0] for parts in paths}
    deep = any(len(parts) > 2 for parts in paths)
    return len(tops) == 1 and deep and not {top.lower() for top in tops} & SPLITS.keys()


def _place(paths: dict[Path, tuple[str, ...]], loose: list[Path]) -> list[Placed]:
    """Return the split and class of each file, and append files without a class to `loose`.

    The rules are those of the service for archives. Split folders count only side by side or alone, since a
    class may be called "train", too.
    """
    tops = {parts[0].lower() for parts in paths.values()}
    known = {top for top in tops if top in SPLITS}
    deep = {parts[0].lower() for parts in paths.values() if len(parts) > 2}
    train = any(SPLITS[top] == "train" for top in known & deep)
    if known & deep and (tops == known or train):
        if tops - known:
            odd, splits = sorted(tops - known)[0], ", ".join(sorted(known))
            raise InvalidImages(
                f"There are images in {odd}, beside {splits}. Move every class folder into one of these, or "
                "choose a folder with one layout."
            )
        return _place_split(paths, loose)
    if paths and all(len(parts) > 2 and parts[1].lower() in SPLITS for parts in paths.values()):
        return [(file, SPLITS[parts[1].lower()], parts[0]) for file, parts in paths.items()]
    return [(file, "train", parts[0]) for file, parts in paths.items()]


def _place_split(inner: dict[Path, tuple[str, ...]], loose: list[Path]) -> list[Placed]:
    """Place files whose top folder is a split."""
    placed = []
    for file, parts in inner.items():
        below = parts[1:]
        seconds = {other[1].lower() for other in inner.values() if other[0] == parts[0] and len(other) > 2}
        if len(below) > 2 and len(seconds) == 1 and seconds <= WRAPPERS:
            below = below[1:]
        if len(below) < 2:
            loose.append(file)
        else:
            placed.append((file, SPLITS[parts[0].lower()], below[0]))
    return placed


def _named(files: Sequence[Path]) -> str:
    """Return a text such as `3 images (a.jpg, b.jpg, …)`."""
    names = ", ".join(file.name for file in files[:2])
    return f"{count_noun(len(files), 'image')} ({names}{', …' if len(files) > 2 else ''})"
