# Generated from clipcite/client/_async/models.py by `python -m tests.repository.unasync`. Do not edit.
"""Adapted models.

A reference to a model is its id, its name (latest version), `name@version` or `name@alias`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcite.client import model_requests
from clipcite.client._sync.download import OnDownload, download
from clipcite.client._sync.jobs import Job
from clipcite.client._sync.transport import Transport
from clipcite.client.model_requests import ClassNames, Format
from clipcite.client.multipart import OnUpload
from clipcite.client.upload import Adaptable, model_archive
from clipcite.datasets.image import ImageLike
from clipcite.wire.models import Model as ModelData
from clipcite.wire.predictions import Classification

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client


class Models:
    """Operations on models: `client.models`."""

    def __init__(self, client: "Client", transport: Transport) -> None:
        self._client = client
        self._transport = transport

    def get(self, model: str) -> "Model":
        """Return a model by its id, its name (latest version), `name@version` or `name@alias`."""
        return self._bind(self._transport.send(model_requests.get_model(model)))

    def list(self, name: str | None = None, *, page_size: int = 100) -> Iterator["Model"]:
        """Yield all models, or all versions of a name, newest first, fetched page by page."""
        pages = self._transport.pages(lambda cursor: model_requests.list_models(page_size, cursor, name))
        for data in pages:
            yield self._bind(data)

    def rename(self, model: str, name: str | None) -> "Model":
        """Make the model the next version of `name`; None removes its name."""
        return self._bind(self._transport.send(model_requests.rename_model(model, name)))

    def delete(self, model: str, *, force: bool = False) -> None:
        """Delete the model and its weights.

        Args:
            model: reference to the model.
            force: delete aliases of the model, too. Without it an alias prevents the deletion.

        Raises:
            ConflictError: an alias points to the model, and `force` is False.
        """
        self._transport.send(model_requests.delete_model(model, force=force))

    def export(
        self,
        model: str,
        path: str | os.PathLike[str],
        *,
        format: Format = "open_clip",
        alpha: float | None = None,
        on_download: OnDownload | None = None,
    ) -> Path:
        """Download the model as a zip to `path`. The file is replaced once the download is complete.

        Args:
            model: reference to the model.
            path: path of the zip.
            format: "open_clip", a folder that open_clip loads; "onnx", two graphs; "delta", the change to the
                backbone only.
            alpha: mixing weight, 0 (pre-trained) to 1 (fine-tuned) (default: the model's).
            on_download: called with the bytes received and their total number, None if unknown.

        Raises:
            OSError: the file cannot be written.
        """
        request = model_requests.export(model, format, alpha)
        return download(self._transport, request, Path(path), on_download)

    def import_model(
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
    ) -> "Model":
        """Import an exported model, or an open_clip folder that was adapted elsewhere.

        Args:
            path: a zip or a folder.
            name: name of the model, of which it becomes the next version.
            backbone: backbone of the model. This and the following defaults come from the archive.
            classes: trained classes.
            alpha: mixing weight, 0 (pre-trained) to 1 (fine-tuned).
            templates: prompt templates.
            prompts: prompts per class.
            delta_format: storage of an open_clip folder: "full", "4bit" or "1bit".
            on_upload: called with the bytes sent and their total number, None if unknown.

        Raises:
            InvalidImages: the archive cannot be read.
        """
        archive = model_archive(path)
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
        return self._bind(self._transport.send(call))

    def _bind(self, data: ModelData) -> "Model":
        model = Model.model_construct(**vars(data))
        model._raw, model._client = data.raw, self._client
        return model


class Model(ModelData):
    """An adapted model. Its attributes are as last fetched; `refresh` and `rename` update them."""

    _client: "Client"

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        class_names: ClassNames | None = None,
        **options: Any,
    ) -> Classification:
        """Rank class names for each image; options as for `client.classify`.

        Args:
            images: paths, bytes, PIL images or uint8 arrays [H, W, 3]; one or a list.
            class_names: class names (default: the trained classes).
        """
        return self._client.classify(images, class_names, model=self.id, **options)

    def extend(self, images: Adaptable, **options: Any) -> Job:
        """Train a new model on these images and the training images of this model.

        Options as for `client.adapt`.
        """
        return self._client.adapt(images, extends=self.id, **options)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: Format = "open_clip",
        alpha: float | None = None,
        on_download: OnDownload | None = None,
    ) -> Path:
        """Download the model as a zip to `path`; see `client.models.export`."""
        return self._client.models.export(self.id, path, format=format, alpha=alpha, on_download=on_download)

    def refresh(self) -> "Model":
        """Fetch the current state."""
        return self._update(self._client.models.get(self.id))

    def rename(self, name: str | None) -> "Model":
        """Make this model the next version of `name`; None removes its name."""
        return self._update(self._client.models.rename(self.id, name))

    def delete(self, *, force: bool = False) -> None:
        """Delete the model and its weights, with `force` also if aliases point to it."""
        self._client.models.delete(self.id, force=force)

    def _update(self, current: "Model") -> "Model":
        vars(self).update(vars(current))
        self._raw = current._raw
        return self
