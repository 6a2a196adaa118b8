"""Files of an adapted model: weights as safetensors, and a manifest that names the backbone."""

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
"""Accepted float types. `isfinite` does not support smaller types."""
SHOTS, SHOT_LABELS = "shot_features", "shot_labels"


@dataclass(frozen=True)
class Weights:
    """Delta and support set: everything that an adapted model adds to its backbone."""

    delta: Delta
    shots: SupportSet | None = None
    """Support set. None for a model that was imported from an open_clip folder, which lacks one."""

    @property
    def bytes(self) -> int:
        """Size of the tensors (bytes)."""
        shots = 0 if self.shots is None else self.shots.features.nbytes + self.shots.labels.nbytes
        return sum(tensor.nbytes for tensor in self.delta.tensors.values()) + shots

    def theta(self, theta_0: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
        """Return `Delta.theta`."""
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

    Raises:
        TrainingDiverged: a value is not finite. Nothing is written.
        OSError: the files can't be written.
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
    except SafetensorError as error:  # safetensors wraps OSError in its own message
        match = re.search(r"os error (\d+)", str(error))
        number = int(match[1]) if match else errno.EIO
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
    """Load and verify the weights from the content of their file, on the CPU.

    Raises:
        CorruptWeights: the hash or the backbone differs, or a tensor is missing, has another shape or is
            not finite.
    """
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise CorruptWeights(
            "The stored weights of the model are damaged (wrong SHA-256). Restore the file, or adapt again."
        )
    if manifest.backbone_sha256 != backbone.sha256:
        raise CorruptWeights(
            f"The installed weights of {manifest.backbone!r} are not those that the model was trained from. "
            "Install the original weights, or adapt again."
        )
    try:
        tensors = load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch does not have
        raise CorruptWeights(
            "The stored weights of the model can't be read. Restore the file, or adapt again."
        ) from error
    features, labels = tensors.pop(SHOTS, None), tensors.pop(SHOT_LABELS, None)
    expected = tensor_layout(tower_parameters(backbone.model), manifest.delta_format)
    if {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()} != expected:
        raise CorruptWeights("The stored weights don't fit the backbone's tensors. Adapt again.")
    if features is not None and features.dtype not in FLOATS:
        raise CorruptWeights(
            "The support set in the stored weights is not of floats of at least 16 bits. Adapt again."
        )
    stored = [*tensors.values(), *([] if features is None else [features])]
    if not all(torch.isfinite(t).all() for t in stored):
        raise CorruptWeights("The stored weights hold values that are not finite. Adapt again.")
    shots = None if features is None or labels is None else SupportSet(features, labels)
    return Weights(Delta(manifest.delta_format, copy_flat(tensors)), shots)
