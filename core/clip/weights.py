"""θ_1 as files: safetensors, and a manifest that binds them to their backbone."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from core.clip.backbone import Backbone, tower_parameters
from core.clip.balance import KeptShots
from core.clip.errors import CorruptWeights, TrainingDiverged
from core.clip.manifest import MANIFEST, WEIGHTS, Manifest, file_sha256

SHOTS, SHOT_LABELS = "shot_features", "shot_labels"


@dataclass(frozen=True)
class Weights:
    theta_1: dict[str, Tensor]
    shots: KeptShots | None
    """None in files that were written before there was such a thing."""


def save_weights(
    folder: Path,
    theta_1: Mapping[str, Tensor],
    *,
    shots: KeptShots | None = None,
    backbone: Backbone,
    class_names: tuple[str, ...],
    config: Mapping[str, Any],
) -> Manifest:
    """Write `weights.safetensors` and `manifest.json` into an existing folder.

    Raises TrainingDiverged, and writes nothing, if a value is not finite. Raises OSError.
    """
    weights = folder / WEIGHTS
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in theta_1.items()}
    if shots is not None:
        tensors[SHOTS] = shots.features.detach().cpu().half().contiguous()
        tensors[SHOT_LABELS] = shots.labels.cpu().contiguous()
    damaged = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    if damaged is not None:
        raise TrainingDiverged(
            f"The trained weights are not finite (in {damaged}). Use a lower learning_rate or precision fp32."
        )
    try:
        save_file(tensors, weights, metadata={"format": "pt"})
    except SafetensorError as error:  # how it passes on what the system says
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number), str(weights)) from error
    manifest = Manifest(
        sha256=file_sha256(weights),
        bytes=weights.stat().st_size,
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        image_size=backbone.image_size,
        class_names=class_names,
        config=config,
    )
    (folder / MANIFEST).write_text(
        json.dumps(asdict(manifest), indent=2, ensure_ascii=False), encoding="utf-8"
    )
    return manifest


def load_weights(data: bytes, manifest: Manifest, backbone: Backbone) -> Weights:
    """What `save_weights` wrote, from the bytes of the file, on the CPU, everything checked.

    Raises:
        CorruptWeights: the hash is another, the backbone is another, or a tensor is missing, has
            another shape or is not finite.
    """
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise CorruptWeights(
            "The stored weights of the model are damaged (another SHA-256); restore them or adapt again."
        )
    if manifest.backbone_sha256 != backbone.sha256:
        raise CorruptWeights(
            f"The model was made from other weights of {manifest.backbone!r} than the ones installed now; "
            "bring those back or adapt again."
        )
    try:
        theta_1 = load(data)
    except SafetensorError as error:
        raise CorruptWeights("The stored weights of the model can't be read; adapt again.") from error
    features, labels = theta_1.pop(SHOTS, None), theta_1.pop(SHOT_LABELS, None)
    expected = {name: p.shape for name, p in tower_parameters(backbone.model).items()}
    if {name: t.shape for name, t in theta_1.items()} != expected:
        raise CorruptWeights("The stored weights don't fit the backbone's tensors; adapt again.")
    stored = [*theta_1.values(), *([] if features is None else [features])]
    if not all(torch.isfinite(t).all() for t in stored):
        raise CorruptWeights("The stored weights hold values that are not finite; adapt again.")
    return Weights(theta_1, None if features is None or labels is None else KeptShots(features, labels))
