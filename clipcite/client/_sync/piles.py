# Generated from clipcite/client/_async/piles.py by `python -m tests.repository.unasync`. Do not edit.
"""Piles: images that wait for labels, what people said about them, and their sort."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from clipcite.client._sync.transport import Transport
from clipcite.client.classification import ClassNamesLike, names_of
from clipcite.client.piles import (
    PART,
    PART_SECONDS,
    Pileable,
    add_request,
    answers_request,
    match_request,
    pile_files,
)
from clipcite.client.request import Request, json_of, parse, path_of
from clipcite.types.piles import (
    AddedImage,
    AddedImages,
    How,
    PileImage,
    PileImages,
    PileMatches,
    PileSort,
    Said,
)
from clipcite.types.piles import Pile as PileData

POLL_SECONDS = 1.0
OnProgress = Callable[[int, int], None]
"""Called with the number of images that are done, and of all images."""


class Piles:
    """Operations on piles: `client.piles`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        images: Pileable | None = None,
        *,
        name: str | None = None,
        model: str = "stock",
        class_names: ClassNamesLike | None = None,
        keeps_images: bool = True,
        on_progress: OnProgress | None = None,
    ) -> "Pile":
        """Make a pile, and add images.

        Args:
            images: a folder, paths or other images, or a mapping from paths below a folder to images.
            name: name for people (default: the time).
            model: model that sorts the pile, as for `client.classify`.
            class_names: class names (default: the model's). Names in answers are added to them.
            keeps_images: keep reduced copies, which another model, the page and a training need. Without
                them only features are kept.
            on_progress: called with the number of images that the pile has so far, and of all images.

        Raises:
            InvalidImages: images are unreadable or too many; nothing was sent.
        """
        files = None if images is None else pile_files(images)
        names = None if class_names is None else names_of(class_names)
        body = {"name": name, "model": model, "class_names": names, "keeps_images": keeps_images}
        request = Request("POST", "/piles", json=body, idempotent=False)
        pile = self._bind(self._transport.fetch(PileData, request))
        if files is not None:
            pile.add(files, on_progress=on_progress)
        return pile

    def get(self, pile_id: str) -> "Pile":
        """Return the pile with this id."""
        return self._bind(self._transport.fetch(PileData, Request("GET", path_of("piles", pile_id))))

    def list(self, name: str | None = None, *, page_size: int = 100) -> Iterator["Pile"]:
        """Yield all piles, or all of a name, newest first, fetched page by page."""
        query = {"limit": str(page_size), "name": name}
        for data in self._transport.pages(PileData, "/piles", query):
            yield self._bind(data)

    def match(self, images: Pileable) -> Sequence[tuple["Pile", Sequence[int | None]]]:
        """Return the piles that have any of these images, those with the most first. Only hashes are sent.

        With each pile come the positions of the images, None for those that it lacks.
        """
        files = pile_files(images)
        found = self._transport.fetch(PileMatches, match_request(files))
        return [(self._bind(match.pile), match.positions) for match in found.data]

    def delete(self, pile_id: str) -> None:
        """Delete the pile with its images and answers. Models that were trained with them remain."""
        self._transport.send(Request("DELETE", path_of("piles", pile_id)))

    def _bind(self, data: PileData) -> "Pile":
        pile = Pile.model_construct(**vars(data))
        pile._raw, pile._piles = data.raw, self
        return pile


class Pile(PileData):
    """A pile. Its attributes are as last fetched. Each method that changes the pile updates them."""

    _piles: Piles

    def add(
        self, images: Pileable, *, again: bool = False, on_progress: OnProgress | None = None
    ) -> Sequence[AddedImage]:
        """Add images in parts. Those that the pile has are not sent.

        Args:
            images, on_progress: as for `client.piles.create`.
            again: send all. A pile without images needs them again for the features of another model.

        Returns:
            The place of each image in the pile, or the error of one that can't be read.
        """
        transport = self._piles._transport
        files = pile_files(images)
        known = next((at for pile, at in self._piles.match(files) if pile.id == self.id), None)
        added = [
            AddedImage(file=file.name, position=position, is_new=False)
            for file, position in zip(files, known or [None] * len(files), strict=True)
        ]
        missing = [number for number, image in enumerate(added) if again or image.position is None]
        for start in range(0, len(missing), PART):
            if on_progress is not None:
                on_progress(len(files) - len(missing) + start, len(files))
            numbers = missing[start : start + PART]
            part = [files[number] for number in numbers]
            # Nothing keeps the request while the next part is read.
            answer = transport.fetch(AddedImages, add_request(self.id, part))
            for number, image in zip(numbers, answer.images, strict=True):
                added[number] = image
            self._update(answer.pile)
        if on_progress is not None:
            on_progress(len(files), len(files))
        return added

    def sort(
        self,
        *,
        model: str | None = None,
        alpha: float | None = None,
        groups: int = 0,
        ask: int = 0,
        draw: int = 0,
        something_else: bool = True,
        on_progress: OnProgress | None = None,
    ) -> PileSort:
        """Sort the images: a class or something else for each. Waits while features are computed.

        Args:
            model: another model (default: the pile's).
            alpha: mixing weight, 0 (pre-trained) to 1 (fine-tuned) (default: the model's).
            groups: number of groups of similar images to ask about.
            ask: number of images to ask about one by one; some of them are drawn at random.
            draw: number of images drawn at random to ask about.
            something_else: False puts every image into a class, except those that a person marked.
            on_progress: called with the number of images that have features, and of all images.
        """
        given = {"model": model, "alpha": alpha, "groups": groups, "ask": ask, "draw": draw}
        given["something_else"] = None if something_else else "false"
        return parse(PileSort, json_of((self._sorted(given, {}, on_progress)).content))

    def csv(self, *, model: str | None = None, alpha: float | None = None) -> str:
        """Return the sort as CSV: file, class, probability, and whether it is something else."""
        headers = {"Accept": "text/csv"}
        return (self._sorted({"model": model, "alpha": alpha}, headers, None)).content.decode()

    def _sorted(
        self, given: Mapping[str, Any], headers: Mapping[str, str], on_progress: OnProgress | None
    ) -> httpx.Response:
        """Return the response with the sort, when it is ready."""
        query = {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in given.items()
            if value is not None
        }
        request = Request("GET", path_of("piles", self.id, "sort"), query, headers, read_seconds=PART_SECONDS)
        while True:
            response = self._piles._transport.send(request)
            if response.status_code != 202:
                return response
            if on_progress is not None:
                unready = parse(PileSort, json_of(response.content))
                on_progress(unready.done, unready.pile.counts.images)
            time.sleep(float(response.headers.get("retry-after", POLL_SECONDS)))

    def answer(
        self,
        positions: int | Sequence[int],
        class_name: str | None = None,
        *,
        said: Said | None = None,
        how: How = "moved",
    ) -> "Pile":
        """Say what a person said about images. The last answer about an image counts.

        Args:
            positions: position of the image, or of several.
            class_name: their class; None for none of these.
            said: what was said (default: "class" or "none"). "not_class": they are not of `class_name`;
                "skip": the person doesn't know; "withdrawn" takes back all answers about them.
            how: how the person was asked. "drawn" for images that the service has drawn at random, which
                measure the sort; "chosen" for others that it asked about; "moved" for the person's choice.
                Several images with one "moved" count as a group, whose labels a check asks about again.
        """
        said = said or ("none" if class_name is None else "class")
        request = answers_request(self.id, positions, said, class_name, how)
        return self._update(self._piles._transport.fetch(PileData, request))

    def images(self) -> Sequence[PileImage]:
        """Return all images with the answers about them, by position."""
        request = Request("GET", path_of("piles", self.id, "images"), read_seconds=PART_SECONDS)
        return (self._piles._transport.fetch(PileImages, request)).data

    def update(self, **changes: Any) -> "Pile":
        """Change `name`, `model` or `class_names`."""
        names = changes.get("class_names")
        body = changes if names is None else {**changes, "class_names": names_of(names)}
        request = Request("PATCH", path_of("piles", self.id), json=body)
        return self._update(self._piles._transport.fetch(PileData, request))

    def rename(self, name: str) -> "Pile":
        """Give the pile another name."""
        return self.update(name=name)

    def refresh(self) -> "Pile":
        """Fetch the current state."""
        return self._update(self._piles.get(self.id))

    def delete(self) -> None:
        """Delete the pile with its images and answers. Models that were trained with them remain."""
        self._piles.delete(self.id)

    def _update(self, current: PileData) -> "Pile":
        vars(self).update(vars(current))
        self._raw = current.raw
        return self
