"""Reader of class folders."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from clipcite.datasets.dataset import Dataset, Labelled
from clipcite.datasets.image import IMAGE_ENDINGS, ImageFile
from clipcite.errors import InvalidImages
from clipcite.types.folders import UnclearLayout, Warnings, is_hidden, place_images


def images_below(
    root: Path,
    around: frozenset[Path] = frozenset(),
    *,
    links: bool = True,
    unreadable: list[Path] | None = None,
) -> Iterator[Path]:
    """Yield every image file, recognised by its suffix, except hidden files and those below `__MACOSX`.

    Args:
        root: the folder.
        around: the resolved folders that contain it.
        links: follow links to folders, unless they lead to a folder that contains them.
        unreadable: list that gets the unreadable folders; without it, they are an error.

    Raises:
        OSError: an unreadable folder.
    """
    around |= {root.resolve()}
    try:
        paths = sorted(root.iterdir())
        if not os.access(root, os.X_OK):
            raise PermissionError(errno.EACCES, "Its files can't be opened", str(root))
    except OSError:
        if unreadable is None:
            raise
        unreadable.append(root)
        return
    for path in paths:
        if is_hidden(path.name):
            continue
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file():
            yield path
        elif path.is_dir() and path.resolve() not in around and (links or not path.is_symlink()):
            yield from images_below(path, around, links=links, unreadable=unreadable)


def read_folders(root: Path) -> Dataset | None:
    """Read the class folders below `root` by the rules of `place_images`. Return None if there are none.

    Warnings become `notes`.

    Raises:
        InvalidImages: ambiguous layout, such as class folders beside train/ and test/.
    """
    try:
        placed, _, warnings = place_images([file.relative_to(root).parts for file in images_below(root)])
    except UnclearLayout as error:
        raise InvalidImages(str(error)) from error
    if not placed:
        return None
    labelled = [
        Labelled(ImageFile.of_file(root.joinpath(*parts)), name, split) for parts, split, name in placed
    ]
    return Dataset("class folders", labelled, notes_of(warnings))


def notes_of(warnings: Warnings) -> list[str]:
    """Return warnings as parts of one line."""
    details = (warning["detail"].rstrip(".") for warning in warnings)
    return [detail[0].lower() + detail[1:] for detail in details]
