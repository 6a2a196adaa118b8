"""Exports of models as zip archives: written in a scratch folder, and sent."""

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import IO

from anyio import CancelScope, to_thread
from safetensors.torch import save_file
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.serving.calibrated import stored_calibration
from api.serving.pool.model_pool import ModelPool
from api.serving.types import WeightsKey
from clipcite.types.class_names import same_class
from clipcite.types.models import ExportFormat
from core.admission import ServerBusy
from core.clip.errors import InvalidClassNames
from core.clip.export.formats.classes import export_format, write_classes
from core.clip.export.model_card import LOAD_DELTA, ModelInfo
from core.clip.export.open_clip_folder import describe, write_open_clip_folder
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import load_backbone, tower_parameters
from core.clip.prompts import clean_class_name
from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest
from core.errors import ExpectedError
from core.scratch import scratch_folder
from core.settings import Settings
from core.store.db.tables import Model
from core.store.registry import models
from core.store.storage.blobs import Blobs

CHUNK = 262_144
ZIP = "application/zip"


class OnnxMissing(ExpectedError):
    """The packages for an ONNX export are not installed."""

    code = "onnx_not_installed"
    status = 501


def export(
    settings: Settings,
    pool: ModelPool,
    blobs: Blobs,
    model: Model,
    alpha: float,
    format: ExportFormat,
    names: Sequence[str] | None = None,
    take: Callable[[int], None] = lambda size: None,
) -> IO[bytes]:
    """Export a model at α. Return an open zip file. Closing the file deletes it.

    Backbone and weights come from memory. On a GPU, the backbone is loaded again, onto the CPU.

    Args:
        names: class names of the exported classifier. None: the trained classes.
        take: called with the size of the zip file before it is written. It may raise an error.

    Raises:
        InvalidClassNames: a name can't be used, or the format has no class names.
        OnnxMissing, OnnxDiffers, ServerBusy, NotPlainClip: for all formats but `open_clip` and `delta`.
        OSError: writing failed, for example because the disk is full.
        ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
    """
    with scratch_folder(settings.scratch()) as scratch:
        folder, path = scratch / "model", scratch / "model.zip"
        folder.mkdir()
        if format != "delta":
            clean = {same_class(name): name for name in map(clean_class_name, names or model.classes)}
            _write_model(folder, settings.cache, pool, model, alpha, format, [*clean.values()])
        elif names:
            raise InvalidClassNames("A delta has no class names. Leave them out, or choose another format.")
        else:  # the stored files, unchanged
            blobs.fetch(model.weights_key, folder / WEIGHTS, sha256=model.sha256)
            blobs.fetch(model.manifest_key, folder / MANIFEST)
            manifest = read_manifest((folder / MANIFEST).read_bytes())
            info = _model_info(model, alpha, manifest.delta_format, manifest.backbone_sha256)
            describe(folder, info, LOAD_DELTA)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        take(sum(file.stat().st_size for file in files))
        # Not compressed: weights barely shrink, and compressing takes longer than sending.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
                file.unlink()
        return path.open("rb")


def _write_model(
    folder: Path,
    cache: Path,
    pool: ModelPool,
    model: Model,
    alpha: float,
    format: ExportFormat,
    names: list[str],
) -> None:
    if format in {"onnx", "classifier", "immich"} and not all(
        map(find_spec, ("onnx", "onnxruntime", "onnxscript"))
    ):
        raise OnnxMissing(
            "This service can't write ONNX, because the packages of `pip install '.[onnx]'` are not "
            "installed. Use format=open_clip, or ask the operator to install them."
        )
    with pool.stored(WeightsKey.of(model)) as (stock, weights):
        backbone = stock.backbone
        if backbone.device.type != "cpu":
            backbone = load_backbone(model.backbone, cache=cache, image_size=model.image_size)
        info = _model_info(model, alpha, weights.delta.kind, backbone.sha256)
        classifier = Classifier(backbone, weights, alpha)
        write_classes(folder, classifier, info, stored_calibration(model, alpha), names)
        if format == "open_clip":
            write_open_clip_folder(folder, backbone, classifier.model, info)
            return
        parameters = folder.with_suffix(".safetensors")
        theta = tower_parameters(classifier.model)
        save_file({name: parameter.detach() for name, parameter in theta.items()}, parameters)
    del classifier, theta
    # In a separate process: while torch traces a network for ONNX, other threads can't run traced networks.
    # An export also holds the GIL for seconds, and uses hundreds of MB that would not be freed.
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=os.nice, initargs=(10,)) as process:
        try:
            process.submit(export_format, format, folder, parameters, cache, info).result()
        except BrokenProcessPool as error:
            raise ServerBusy(
                f"The process that wrote the format {format} ended, probably for lack of memory. Try again "
                "later, or use format=open_clip."
            ) from error


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
        metrics=models.measured(model),
    )


class Download(StreamingResponse):
    """Response with an archive. The temporary file is removed when the response ends in any way."""

    def __init__(self, archive: IO[bytes], held: ExitStack, headers: Mapping[str, str]) -> None:
        super().__init__(iter(partial(archive.read, CHUNK), b""), media_type=ZIP, headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._held.close)  # in a thread: removing a large file takes time
