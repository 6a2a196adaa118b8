"""Methods for models, and the handle of one model.

A model is named by its id, its name (the latest version), `name@version` or `name@alias`.
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

from clipcite.client import model_requests
from clipcite.client._async.download import OnDownload, download
from clipcite.client._async.jobs import AsyncJobHandle, AsyncJobs
from clipcite.client.errors import InvalidImages, UnprocessableEntityError
from clipcite.client.model_requests import CLASSIFY_BATCH_SIZE, Expected, Format, Names
from clipcite.client.multipart import OnUpload
from clipcite.client.types import Alias, Classification, Model
from clipcite.client.upload import Adaptable, model_archive
from clipcite.datasets.image import ImageLike, as_image


class AsyncModels(AsyncJobs):
    async def model(self, model: str) -> "AsyncModelHandle":
        """One of them, to classify with or to export, say."""
        return AsyncModelHandle(self, await self.get_model(model))

    async def get_model(self, model: str) -> Model:
        return await self._transport.send(model_requests.get_model(model))

    def models(self, name: str | None = None, *, page_size: int = 100) -> AsyncIterator[Model]:
        """All of them, or all versions of a name, the newest first, read page by page."""
        return self._transport.pages(lambda cursor: model_requests.models(page_size, cursor, name))

    async def rename_model(self, model: str, name: str | None) -> Model:
        """It becomes the next version of this name; None takes its name away."""
        return await self._transport.send(model_requests.rename_model(model, name))

    async def delete_model(self, model: str, *, force: bool = False) -> None:
        """Its weights too. `force`: also when aliases point to it, which are removed."""
        await self._transport.send(model_requests.delete_model(model, force=force))

    async def export(
        self,
        model: str,
        path: str | os.PathLike[str],
        *,
        format: Format = "open_clip",
        alpha: float | None = None,
        on_download: OnDownload | None = None,
    ) -> Path:
        """Download the model as a zip to the file `path`, which is replaced once all of it is there.

        Args:
            format: "open_clip", a folder that open_clip loads; "onnx", two graphs; "delta", the change of the
                backbone alone.
            alpha: 0 (pre-trained) to 1 (fine-tuned); default the model's.

        Raises:
            OSError: the file can't be written.
        """
        request = model_requests.export(model, format, alpha)
        return await download(self._transport, request, Path(path), on_download)

    async def import_model(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        backbone: str | None = None,
        classes: Sequence[str] | None = None,
        alpha: float | None = None,
        templates: Sequence[str] | None = None,
        prompts: Mapping[str, Sequence[str]] | None = None,
        delta_format: str | None = None,
        on_upload: OnUpload | None = None,
    ) -> Model:
        """Bring a model that was exported, or an open_clip folder that was adapted elsewhere.

        Args:
            path: a zip, or the folder.
            backbone: what it was adapted from; like the others, default what it says itself.
            delta_format: "full", "4bit" or "1bit": how an open_clip folder is kept.
        """
        archive = await anyio.to_thread.run_sync(model_archive, path)
        call = model_requests.import_model(
            archive,
            name=name,
            backbone=backbone,
            classes=classes,
            alpha=alpha,
            templates=templates,
            prompts=prompts,
            delta_format=delta_format,
            on_upload=on_upload,
        )
        return await self._transport.send(call)

    async def aliases(self, name: str) -> list[Alias]:
        """Of a name, in alphabetical order."""
        return await self._transport.send(model_requests.aliases(name))

    async def get_alias(self, name: str, alias: str) -> Alias:
        return await self._transport.send(model_requests.get_alias(name, alias))

    async def promote(self, name: str, alias: str, model: str, *, expected: Expected = ...) -> Alias:
        """Point `name@alias` to a model of this name; the alias is made if it is new.

        `expected` is what it is believed to point to (None: nothing yet); if that is wrong nothing is
        changed and Conflict is raised.
        """
        return await self._transport.send(model_requests.promote(name, alias, model, expected))

    async def rollback(self, name: str, alias: str, *, expected: Expected = ...) -> Alias:
        """Take the last promotion back; again, the one before that."""
        return await self._transport.send(model_requests.rollback(name, alias, expected))

    async def delete_alias(self, name: str, alias: str) -> None:
        """The alias and its history; the models stay."""
        await self._transport.send(model_requests.delete_alias(name, alias))

    async def classify(
        self,
        images: Sequence[ImageLike],
        class_names: Names,
        *,
        model: str = "stock",
        alpha: float | None = None,
        templates: Sequence[str] | None = None,
        new_class_balance: float | None = None,
        top_k: int | None = None,
        coverage: float | None = None,
        reject: bool = False,
    ) -> Classification:
        """Rank class names, trained or new, for each image. Many images go in several requests.

        Args:
            class_names: names, or a mapping from names to sentences that are read for them (or None).
            alpha: 0 (pre-trained) to 1 (fine-tuned); default the model's.
            coverage: adds `names` to each image, the set that holds the true one so often.
            reject: adds `rejected`, whether the image looks like none of the names.

        An image that can't be read has an `error` in its result; if none can,
        UnprocessableEntityError is raised.
        """
        given = [as_image(image, f"image-{i}") for i, image in enumerate(images, 1)]
        if not given:
            raise InvalidImages("There is no image to classify.")
        answers: list[Classification] = []
        refused: dict[int, UnprocessableEntityError] = {}
        for number, start in enumerate(range(0, len(given), CLASSIFY_BATCH_SIZE)):
            call = model_requests.classify(
                given[start : start + CLASSIFY_BATCH_SIZE],
                class_names,
                model=model,
                alpha=alpha,
                templates=templates,
                new_class_balance=new_class_balance,
                top_k=top_k,
                coverage=coverage,
                reject=reject,
            )
            try:
                answers.append(await self._transport.send(call))
            except UnprocessableEntityError as error:
                if error.code != "bad_images":
                    raise
                refused[number] = error
        if not answers:
            raise refused[0]
        return model_requests.join_answers(answers, refused)


class AsyncModelHandle:
    """A model of a client."""

    def __init__(self, client: AsyncModels, model: Model) -> None:
        self._client = client
        self.model = model
        """As it was last seen."""

    @property
    def id(self) -> str:
        return self.model.id

    def __repr__(self) -> str:
        return f"<{self.id}: {', '.join(self.model.trained_classes)}>"

    async def classify(
        self, images: Sequence[ImageLike], class_names: Names | None = None, **options: Any
    ) -> Classification:
        """As `Client.classify`; without names it is asked for those that it was trained with."""
        names = self.model.trained_classes if class_names is None else class_names
        return await self._client.classify(images, names, model=self.id, **options)

    async def extend(self, images: Adaptable, **options: Any) -> AsyncJobHandle:
        """A new model from these images and all that this one was made from; options as of `adapt`."""
        return await self._client.adapt(images, extends=self.id, **options)

    async def export(
        self, path: str | os.PathLike[str], *, format: Format = "open_clip", alpha: float | None = None
    ) -> Path:
        """As `Client.export`."""
        return await self._client.export(self.id, path, format=format, alpha=alpha)

    async def rename(self, name: str | None) -> Model:
        self.model = await self._client.rename_model(self.id, name)
        return self.model

    async def delete(self, *, force: bool = False) -> None:
        await self._client.delete_model(self.id, force=force)
