"""An adapted model as files: safetensors, and a manifest that binds them to their backbone."""

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

from core.clip.errors import CorruptWeights, TrainingDiverged
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.weights.delta import Delta, tensor_layout
from core.clip.weights.flat import copy_flat
from core.clip.weights.manifest import MANIFEST, WEIGHTS, Manifest, file_sha256
from core.clip.weights.support_set import SupportSet

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
"""Types that an import may have; `isfinite` and `float` know no smaller ones."""
SHOTS, SHOT_LABELS = "shot_features", "shot_labels"


@dataclass(frozen=True)
class Weights:
    """All that an adapted model adds to its backbone."""

    delta: Delta
    shots: SupportSet | None = None
    """None in a model that was imported from an open_clip folder, which has no images."""

    @property
    def bytes(self) -> int:
        shots = 0 if self.shots is None else self.shots.features.nbytes + self.shots.labels.nbytes
        return self.delta.bytes + shots

    def theta(self, theta_0: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
        """θ(α) as new tensors, where θ_0 is. Raises ValueError, see `Delta.theta`."""
        return self.delta.theta(theta_0, alpha)


def save_weights(
    folder: Path,
    weights: Weights,
    *,
    backbone: Backbone,
    class_names: tuple[str, ...],
    config: Mapping[str, Any],
) -> Manifest:
    """Write `weights.safetensors` and `manifest.json` into an existing folder.

    Raises TrainingDiverged, and writes nothing, if a value is not finite. Raises OSError.
    """
    path = folder / WEIGHTS
    tensors = {n: tensor.detach().cpu().contiguous() for n, tensor in weights.delta.tensors.items()}
    if weights.shots is not None:
        tensors[SHOTS] = weights.shots.features.detach().cpu().half().contiguous()
        tensors[SHOT_LABELS] = weights.shots.labels.cpu().contiguous()
    damaged = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    if damaged is not None:
        raise TrainingDiverged(
            f"The trained weights are not finite (in {damaged}). Use a lower learning_rate or precision fp32."
        )
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # how it passes on what the system says
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    manifest = Manifest(
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        image_size=backbone.image_size,
        class_names=class_names,
        config=config,
        delta_format=weights.delta.kind,
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
        tensors = load(data)
    except (SafetensorError, KeyError) as error:  # a type that torch does not have
        raise CorruptWeights("The stored weights of the model can't be read; adapt again.") from error
    features, labels = tensors.pop(SHOTS, None), tensors.pop(SHOT_LABELS, None)
    expected = tensor_layout(tower_parameters(backbone.model), manifest.delta_format)
    if {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()} != expected:
        raise CorruptWeights("The stored weights don't fit the backbone's tensors; adapt again.")
    if features is not None and features.dtype not in FLOATS:
        raise CorruptWeights(
            "The kept shots in the stored weights are no floats of 16 bits or more; adapt again."
        )
    stored = [*tensors.values(), *([] if features is None else [features])]
    if not all(torch.isfinite(t).all() for t in stored):
        raise CorruptWeights("The stored weights hold values that are not finite; adapt again.")
    shots = None if features is None or labels is None else SupportSet(features, labels)
    return Weights(Delta(manifest.delta_format, copy_flat(tensors)), shots)
