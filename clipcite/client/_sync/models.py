# Generated from clipcite/client/_async/models.py by `python -m tests.repository.unasync`. Do not edit.
"""Adapted models.

A reference to a model is its id, its name (the version in use), `name@version` or `name@alias`.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

from clipcite.client._sync.adapter import Adapter
from clipcite.client._sync.download import OnDownload, download
from clipcite.client._sync.jobs import Job
from clipcite.client._sync.transport import Transport
from clipcite.client.classification import ClassNamesLike
from clipcite.client.request import ZIP, OnUpload, Request, path_of
from clipcite.client.upload import Adaptable, OnBadImage, model_archive, upload_of
from clipcite.datasets.image import ImageLike
from clipcite.types.classify import Classification, ClassifyOptions
from clipcite.types.evaluation import Evaluation
from clipcite.types.models import ExportFormat
from clipcite.types.models import Model as ModelData

MODEL_SECONDS = 600
"""Read timeout of exports and imports: the service builds or checks the model before it responds."""


class Models:
    """Operations on models: `client.models`."""

    def __init__(self, client: Adapter, transport: Transport) -> None:
        self._client = client
        self._transport = transport

    def get(self, model: str) -> "Model":
        """Return a model by its id, its name (the version in use), `name@version` or `name@alias`."""
        return self._bind(self._transport.fetch(ModelData, Request("GET", path_of("models", model))))

    def list(self, name: str | None = None, *, page_size: int = 100) -> Iterator["Model"]:
        """Yield all models, or all versions of a name, newest first, fetched page by page."""
        query = {"limit": str(page_size), "name": name}
        for data in self._transport.pages(ModelData, "/models", query):
            yield self._bind(data)

    def rename(self, model: str, name: str | None) -> "Model":
        """Make the model the next version of `name`. None removes its name."""
        request = Request("PATCH", path_of("models", model), json={"name": name})
        return self._bind(self._transport.fetch(ModelData, request))

    def promote(self, model: str) -> "Model":
        """Let the model's name refer to this version, even if it is worse than the pre-trained model."""
        request = Request("PATCH", path_of("models", model), json={"promoted": True})
        return self._bind(self._transport.fetch(ModelData, request))

    def delete(self, model: str, *, force: bool = False) -> None:
        """Delete the model and its weights.

        Args:
            model: reference to the model.
            force: also delete aliases of the model. Without `force`, an alias prevents the deletion.

        Raises:
            ConflictError: an alias points to the model, and `force` is False.
        """
        query = {"force": "true" if force else None}
        self._transport.send(Request("DELETE", path_of("models", model), query))

    def export(
        self,
        model: str,
        path: str | os.PathLike[str],
        *,
        format: ExportFormat = "open_clip",
        alpha: float | None = None,
        on_download: OnDownload | None = None,
    ) -> Path:
        """Download the model as a zip to `path`. The file is replaced once the download is complete.

        Args:
            model: reference to the model.
            path: path of the zip.
            format: "open_clip", a folder that open_clip loads; "onnx", two graphs; "delta", only the change
                to the backbone; or "classifier", "transformers" or "immich" for other programs.
            alpha: mixing weight, 0 (pre-trained) to 1 (fine-tuned) (default: the model's).
            on_download: called with the bytes received and their total number, None if unknown.

        Raises:
            OSError: the file cannot be written.
        """
        request = Request(
            "GET",
            path_of("models", model, "export"),
            {"format": format, "alpha": None if alpha is None else f"{alpha:g}"},
            {"Accept": "application/zip", "Accept-Encoding": "identity"},
            read_seconds=MODEL_SECONDS,
        )
        return download(self._transport, request, Path(path), on_download)

    def import_model(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        backbone: str | None = None,
        classes: Sequence[str] | None = None,
        alpha: float | None = None,
        delta_format: str | None = None,
        on_upload: OnUpload | None = None,
    ) -> "Model":
        """Import an exported model, or an open_clip folder that was adapted elsewhere.

        Args:
            path: a zip or a folder.
            name: name of the model. The model becomes its next version.
            backbone: backbone of the model. This and the following defaults come from the archive.
            classes: trained classes.
            alpha: mixing weight, 0 (pre-trained) to 1 (fine-tuned).
            delta_format: storage of an open_clip folder: "full" or "4bit".
            on_upload: called with the bytes sent and their total number, None if unknown.

        Raises:
            InvalidImages: the archive cannot be read.
        """
        archive = model_archive(path)
        options = {
            "name": name,
            "backbone": backbone,
            "alpha": None if alpha is None else f"{alpha:g}",
            "delta_format": delta_format,
            "classes": None if classes is None else json.dumps(classes),
        }
        request = Request(
            "POST",
            "/models",
            fields={field: [value] for field, value in options.items() if value is not None},
            files=[("archive", ("model.zip", archive, ZIP))],
            on_upload=on_upload,
            read_seconds=MODEL_SECONDS,
            idempotent=False,
        )
        with archive:
            return self._bind(self._transport.fetch(ModelData, request))

    def _bind(self, data: ModelData) -> "Model":
        model = Model.model_construct(**vars(data))
        model._raw, model._client, model._models = data.raw, self._client, self
        return model


class Model(ModelData):
    """An adapted model. Its attributes are as last fetched. `refresh`, `rename` and `promote` update them."""

    _client: Adapter
    _models: Models

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        class_names: ClassNamesLike | None = None,
        **options: Unpack[ClassifyOptions],
    ) -> Classification:
        """Rank class names for each image. Takes the options of `client.classify`.

        Args:
            images: paths, bytes, PIL images or uint8 arrays [H, W, 3]; one or a list.
            class_names: class names (default: the trained classes).
        """
        return self._client.classify(images, class_names, model=self.id, **options)

    def extend(self, images: Adaptable | None = None, **options: Any) -> Job:
        """Train a new model on these images and this model's training images.

        Takes the options of `client.adapt`. With a `pile`, `images` may be None.
        """
        return self._client.adapt(images, extends=self.id, **options)

    def evaluate(self, images: Adaptable, *, on_bad_image: OnBadImage = "fail") -> Evaluation:
        """Measure the accuracy of the model and its pre-trained model on labelled images.

        The service keeps the result, but not the images.

        Args:
            images: test images, as for `client.adapt`.
            on_bad_image: "fail" rejects unusable images, "skip" ignores them.
        """
        upload = upload_of(images)
        path = path_of("models", self.id, "evaluate")
        response = self._client._send_upload(Evaluation, upload, path, {"on_bad_image": on_bad_image})
        for mistake in response.mistakes:
            mistake.file = upload.local_name(mistake.file)
        return response

    def evaluation(self) -> Evaluation:
        """Return the last evaluation. Raise NotFoundError without one."""
        request = Request("GET", path_of("models", self.id, "evaluation"))
        return self._client._transport.fetch(Evaluation, request)

    def export(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Download the model as a zip to `path`. Takes the options of `client.models.export`."""
        return self._models.export(self.id, path, **options)

    def refresh(self) -> "Model":
        """Fetch the current state."""
        return self._update(self._models.get(self.id))

    def rename(self, name: str | None) -> "Model":
        """Make this model the next version of `name`. None removes its name."""
        return self._update(self._models.rename(self.id, name))

    def promote(self) -> "Model":
        """Let the model's name refer to this version, even if it is worse than the pre-trained model."""
        return self._update(self._models.promote(self.id))

    def delete(self, *, force: bool = False) -> None:
        """Delete the model and its weights. With `force`, also delete aliases that point to it."""
        self._models.delete(self.id, force=force)

    def _update(self, current: "Model") -> "Model":
        vars(self).update(vars(current))
        self._raw = current._raw
        return self
