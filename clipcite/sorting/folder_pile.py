"""The pile of a folder: the one that has its images already, or a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clipcite.cli.classify import is_stock
from clipcite.datasets.image import ImageFile
from clipcite.errors import ConflictError, InvalidImages, NotFoundError
from clipcite.sorting.plan import FoundImage, SortedAs
from clipcite.types.class_names import same_class

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client
    from clipcite.client._sync.piles import Pile
    from clipcite.client.piles import PileFile
    from clipcite.types.piles import PileSort

OnProgress = Callable[[int, int], None]


@dataclass
class Files:
    """The images of a folder with their hashes."""

    by_key: dict[str, PileFile] = field(default_factory=dict)
    """File by the key of its image, unless it can't be read."""
    errors: dict[str, str] = field(default_factory=dict)
    """Reason by the key of an image that can't be read."""
    positions: dict[str, int] = field(default_factory=dict)
    """Position in the pile by the key of the image, when it was added."""

    @property
    def known(self) -> list[PileFile]:
        return list(self.by_key.values())

    @property
    def paths(self) -> dict[int, str]:
        """Path on this disk by the position in the pile."""
        return {self.positions[key]: str(file.image.path) for key, file in self.by_key.items()}

    def answers(self, found: PileSort | None) -> Mapping[str, SortedAs]:
        """Return what a sort says about each image, by its key."""
        answers = {key: SortedAs(error=reason) for key, reason in self.errors.items()}
        for key, position in self.positions.items():
            assert found is not None
            place = found.images[position]
            answers[key] = SortedAs(place.class_name, place.probability)
        return answers


def read_files(images: Iterable[FoundImage], folder: Path, on_done: Callable[[int], None]) -> Files:
    """Return the hashes of images. A file that can't be opened keeps its reason."""
    from clipcite.client.piles import PileFile  # loads pydantic, which help does not need

    files = Files()
    for image in images:
        try:
            name = image.path.relative_to(folder).as_posix()
            files.by_key[image.key] = PileFile.of(name, ImageFile.of_file(image.path))
        except InvalidImages as error:
            files.errors[image.key] = getattr(error.__cause__, "strerror", None) or str(error)
        on_done(1)
    return files


def find_pile(
    client: Client,
    files: Sequence[PileFile],
    earlier: Sequence[str],
    *,
    model: str | None,
    names: Iterable[str] | None,
    keeps_images: bool,
) -> Pile | None:
    """Return the pile that has at least half of the files, the one with most labels if there are several.

    Args:
        client: connection to the service.
        files: files of the folder.
        earlier: piles of earlier sorts of the folder, oldest first. The last one counts if none has the
            files: an upload was interrupted, or the images were moved.
        model: wanted model. None: as the pile has.
        names: wanted class names. A pile of another model with other names alone is of another sort. None:
            as the pile has.
        keeps_images: the pile must have the images, not only their features.
    """
    wanted = None if names is None else {same_class(name) for name in names}

    def fits(pile: Pile) -> bool:
        own = {same_class(name) for name in pile.class_names}
        if wanted is None:
            alike = bool(own) or (model is None and not is_stock(pile.model))
        else:
            alike = not own or bool(wanted & own) or (pile.model == model and not is_stock(model))
        return alike and (pile.keeps_images or not keeps_images)

    having = [
        pile
        for pile, positions in (client.piles.match(files) if files else ())
        if 2 * sum(position is not None for position in positions) >= len(files)
    ]
    for pile_id in earlier[:-2:-1] if not having else ():
        with suppress(NotFoundError):  # deleted
            having = [client.piles.get(pile_id)]
    return max(filter(fits, having), key=lambda pile: pile.counts.labelled, default=None)


def add(pile: Pile, files: Files, on_progress: OnProgress | None = None) -> None:
    """Add the images that the pile lacks, and note those that the service can't read."""
    added = pile.add(files.known, on_progress=on_progress) if files.by_key else []
    for key, image in zip([*files.by_key], added, strict=True):
        if image.position is None:
            files.errors[key] = "It can't be read." if image.error is None else image.error.detail
            del files.by_key[key]
        else:
            files.positions[key] = image.position


def sort(
    pile: Pile,
    files: Files,
    on_progress: OnProgress | None = None,
    *,
    something_else: bool = True,
    ask: int = 0,
    draw: int = 0,
) -> PileSort:
    """Return the sort of a pile. One without images gets them again, if its model is another one."""
    sorted_again = partial(
        pile.sort, ask=ask, draw=draw, something_else=something_else, on_progress=on_progress
    )
    try:
        return sorted_again()
    except ConflictError as error:
        if error.code != "images_not_kept":
            raise
    pile.add(files.known, again=True, on_progress=on_progress)
    return sorted_again()
