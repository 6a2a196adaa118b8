"""Archives of models, made in a scratch folder."""

import zipfile
from pathlib import Path
from typing import IO, Literal

from core.clip.export.model_card import ModelInfo
from core.clip.export.open_clip_folder import describe_delta, write_open_clip_folder
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest
from core.errors import ClipCiteError
from core.scratch import scratch_folder
from core.serving.service import Serving
from core.store.db.tables import Model

Format = Literal["open_clip", "onnx", "delta"]


class OnnxMissing(ClipCiteError):
    code = "onnx_not_installed"
    status = 501


def export(serving: Serving, model: Model, alpha: float, format: Format) -> IO[bytes]:
    """A zip at its beginning, open and already without a name: it is gone when it is closed.

    Raises:
        ModelNotFound, ModelUnavailable, BackboneUnavailable, StillLoading, StorageUnavailable.
        OnnxMissing, OnnxDiffers: for `onnx`.
        OSError: the disk is full, for example.
    """
    with scratch_folder(serving.settings.scratch()) as scratch:
        folder, path = scratch / "model", scratch / "model.zip"
        folder.mkdir()
        if format == "delta":
            _lay_delta(folder, serving, model, alpha)
        else:
            _lay_network(folder, serving, model, alpha, format)
        # Weights don't shrink, and packing them would take longer than sending them.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
                file.unlink()
        return path.open("rb")


def _lay_delta(folder: Path, serving: Serving, model: Model, alpha: float) -> None:
    """The stored files as they are."""
    serving.blobs.fetch(model.weights_key, folder / WEIGHTS, sha256=model.sha256)
    serving.blobs.fetch(model.manifest_key, folder / MANIFEST)
    manifest = read_manifest((folder / MANIFEST).read_bytes())
    describe_delta(folder, _about(model, alpha, manifest.weights, manifest.backbone_sha256))


def _lay_network(folder: Path, serving: Serving, model: Model, alpha: float, format: Format) -> None:
    with serving.acquire(model) as (backbone, weights):
        network = with_parameters(backbone, weights.theta(tower_parameters(backbone.model), alpha))
        about = _about(model, alpha, weights.delta.kind, backbone.sha256)
        if format == "open_clip":
            write_open_clip_folder(folder, backbone, network, about)
            return
        try:
            from core.clip.export.onnx_graphs import write_onnx_folder
        except ModuleNotFoundError as error:
            raise OnnxMissing(
                "This service can't write ONNX: its operator has not installed what it takes (`pip install "
                "'clipcite[onnx]'`). Ask for format=open_clip."
            ) from error
        write_onnx_folder(folder, backbone, network, about)


def _about(model: Model, alpha: float, weights: str, backbone_sha256: str) -> ModelInfo:
    return ModelInfo(
        id=model.id,
        name=model.name,
        backbone=model.backbone,
        backbone_sha256=backbone_sha256,
        image_size=model.image_size,
        alpha=alpha,
        classes=model.classes,
        templates=model.templates,
        texts=model.texts,
        weights=weights,
        metrics=model.metrics,
    )
