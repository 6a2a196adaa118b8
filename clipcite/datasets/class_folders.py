"""Reader of class folders."""

from collections.abc import Iterator
from pathlib import Path

from clipcite.client.errors import InvalidImages
from clipcite.datasets.dataset import Dataset, Labelled
from clipcite.datasets.image import IMAGE_ENDINGS, ImageFile
from clipcite.wire.folders import UnclearLayout, Warnings, place_images


def images_below(root: Path, around: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield every image file, recognised by its suffix, except hidden files and those below `__MACOSX`.

    Links to folders are followed, unless they lead to a folder that contains them.

    Args:
        root: the folder.
        around: the resolved folders that contain it.

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
    try:
        placed, warnings = place_images([file.relative_to(root).parts for file in images_below(root)])
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
