"""Exports of models as zip archives, written in a scratch folder."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal, assert_never, cast

from core.clip.export.model_card import ModelInfo
from core.clip.export.open_clip_folder import describe_delta, write_open_clip_folder
from core.clip.models.backbone import load_backbone, tower_parameters, with_parameters
from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest
from core.errors import ClipCiteError
from core.scratch import scratch_folder
from core.serving.pool.model_pool import ModelPool
from core.serving.types import WeightsKey, WeightsSource
from core.settings import Settings
from core.store.db.tables import Model
from core.store.storage.blobs import Blobs

Format = Literal["open_clip", "onnx", "delta"]


class OnnxMissing(ClipCiteError):
    """An ONNX export without the packages for it."""

    code = "onnx_not_installed"
    status = 501


def export(
    settings: Settings,
    pool: ModelPool,
    blobs: Blobs,
    model: Model,
    alpha: float,
    format: Format,
    take: Callable[[int], None] = lambda size: None,
) -> IO[bytes]:
    """Export a model at α. Return an open zip file, which is deleted when it is closed.

    Backbone and weights are those in memory. On a GPU, the backbone is loaded for the export, onto the CPU.

    Args:
        take: called with the size of the zip before it is written; it may raise an error.

    Raises:
        OnnxMissing, OnnxDiffers: for `onnx`.
        OSError: writing failed, for example because the disk is full.
        ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
    """
    with scratch_folder(settings.scratch()) as scratch:
        folder, path = scratch / "model", scratch / "model.zip"
        folder.mkdir()
        if format == "delta":
            _write_delta(folder, blobs, model, alpha)
        else:
            _write_model(folder, settings, pool, model, alpha, format)
        take(sum(file.stat().st_size for file in folder.iterdir()))
        # Not compressed: weights don't shrink, and compressing takes longer than sending.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
                file.unlink()
        return path.open("rb")


def _write_delta(folder: Path, blobs: Blobs, model: Model, alpha: float) -> None:
    """Copy the stored files, unchanged."""
    blobs.fetch(model.weights_key, folder / WEIGHTS, sha256=model.sha256)
    blobs.fetch(model.manifest_key, folder / MANIFEST)
    manifest = read_manifest((folder / MANIFEST).read_bytes())
    describe_delta(folder, _model_info(model, alpha, manifest.delta_format, manifest.backbone_sha256))


def _write_model(
    folder: Path,
    settings: Settings,
    pool: ModelPool,
    model: Model,
    alpha: float,
    format: Literal["open_clip", "onnx"],
) -> None:
    key = WeightsKey.of(model)
    with pool.stored(key, cast(WeightsSource, key.source)) as (stock, weights):
        backbone = stock.backbone
        if backbone.device.type != "cpu":
            backbone = load_backbone(model.backbone, cache=settings.cache, image_size=model.image_size)
        model_at_alpha = with_parameters(backbone, weights.theta(tower_parameters(backbone.model), alpha))
        info = _model_info(model, alpha, weights.delta.kind, backbone.sha256)
        if format == "open_clip":
            write_open_clip_folder(folder, backbone, model_at_alpha, info)
        elif format == "onnx":
            try:
                from core.clip.export.onnx_graphs import write_onnx_folder
            except ModuleNotFoundError as error:
                raise OnnxMissing(
                    "This service can't write ONNX, because the packages of `pip install '.[onnx]'` are not "
                    "installed. Use format=open_clip, or ask the operator to install them."
                ) from error
            write_onnx_folder(folder, backbone, model_at_alpha, info)
        else:
            assert_never(format)


def _model_info(model: Model, alpha: float, delta_format: str, backbone_sha256: str) -> ModelInfo:
    return ModelInfo(
        id=model.id,
        name=model.name,
        backbone=model.backbone,
        backbone_sha256=backbone_sha256,
        image_size=model.image_size,
        alpha=alpha,
        classes=model.classes,
        templates=model.templates,
        prompts=model.prompts,
        delta_format=delta_format,
        metrics=model.metrics,
    )
