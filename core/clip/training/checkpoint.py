"""Checkpoints: an interrupted training resumes from the last checkpoint, with the same result.

On a CPU, resuming gives bit-identical weights to an uninterrupted training.

A checkpoint is one safetensors file, with all non-tensor state as JSON in its header. The file is written
under a temporary name, flushed and renamed, so that a partial file never has the final name. The hash in
the name detects later corruption.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.clip.config import AdaptConfig, Precision
from core.clip.models.backbone import Backbone
from core.clip.training.checkpoint_files import MAX_CHECKPOINTS, checkpoint_name, is_whole, newest_first
from core.clip.training.progress import Reporter
from core.clip.weights.manifest import file_sha256

FORMAT = 2
"""Version of the training loop. A changed loop must not resume a training of an older version."""


@dataclass(frozen=True)
class TrainingState:
    """All state that a training step changes. The learning rate is derived from the step."""

    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generators: Mapping[str, torch.Generator]
    precision: Precision = "auto"
    """Precision of the steps. It does not change, and the next attempt keeps it."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by `kind/name`: parameters, generators and the optimiser's state."""
        tensors = {f"generator/{name}": g.get_state() for name, g in self.generators.items()}
        for name, parameter in self.parameters.items():
            tensors[f"parameter/{name}"] = parameter
            for kind, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{kind}/{name}"] = value
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], scaler: Mapping[str, float]) -> None:
        """Restore the state from `tensors()`, in place."""
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "generator":
                self.generators[name].set_state(tensor)
            elif kind == "parameter":
                self.parameters[name].copy_(tensor)
            else:
                parameter = self.parameters[name]
                # A moment must have the memory layout of its parameter.
                moment = tensor.shape == parameter.shape
                value = (
                    torch.empty_like(parameter)
                    if moment
                    else torch.empty_like(tensor, device=parameter.device)
                )
                self.optimizer.state[parameter][kind] = value.copy_(tensor)
        if scaler:
            self.scaler.load_state_dict(dict(scaler))


class Checkpoints:
    """The checkpoints of one training, in one folder.

    Args:
        folder: folder that only this training uses.
        seconds: minimum time before the first checkpoint and between checkpoints. 0 writes one per epoch.
            A checkpoint takes three times the size of the parameters.
    """

    def __init__(self, folder: Path, *, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._written = time.monotonic()
        self._identity = ""

    def precision(self) -> Precision | None:
        """Return the precision of the newest checkpoint that can be read, or None without one."""
        for path in newest_first(self._folder):
            with suppress(SafetensorError, ValueError, KeyError), safe_open(path, framework="pt") as file:
                precision: Precision = json.loads(file.metadata()["checkpoint"])["precision"]
                return precision
        return None

    def resume(self, state: TrainingState, identity: str, reporter: Reporter) -> int:
        """Load the newest usable checkpoint into `state`. Return the completed epochs, or 0 without one.

        A damaged checkpoint, or one of another training (see `identity_of`), causes a warning.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._written, self._identity = time.monotonic(), identity
        for path in newest_first(self._folder):
            try:
                epoch, fits = self._load(path, state)
            except (SafetensorError, ValueError, KeyError):
                reporter.warn(
                    "checkpoint_damaged",
                    "A checkpoint of the training is damaged. The training resumes from an earlier "
                    "checkpoint or starts again; check the disk.",
                )
                continue
            if fits:
                reporter.resumed(epoch)
                return epoch
            reporter.warn(
                "checkpoint_outdated",
                "The checkpoint belongs to a training with different images, settings, backbone or version "
                "of this software. It is ignored, and the training starts again.",
            )
        return 0

    def after_epoch(self, epoch: int, state: TrainingState, reporter: Reporter) -> None:
        """Write a checkpoint if one is due. A failure to write causes a warning, not an error."""
        if time.monotonic() - self._written < self._seconds:
            return
        part = self._folder / "part"
        try:
            self._write(part, epoch, state)
        except (SafetensorError, OSError) as error:
            reporter.warn(
                "checkpoint_not_written",
                f"A checkpoint can't be stored ({type(error).__name__}), usually because the disk is full: "
                "free some space. The training continues; if interrupted, it repeats more work.",
            )
            part.unlink(missing_ok=True)
        else:
            reporter.checkpoint(epoch)
        self._written = time.monotonic()

    def _write(self, part: Path, epoch: int, state: TrainingState) -> None:
        header = {
            "format": FORMAT,
            "identity": self._identity,
            "epoch": epoch,
            "precision": state.precision,
            "scaler": state.scaler.state_dict(),
        }
        save_file(state.tensors(), part, metadata={"checkpoint": json.dumps(header)})
        _flush(part)
        part.replace(self._folder / checkpoint_name(epoch, file_sha256(part)))
        _flush(self._folder)
        for old in newest_first(self._folder)[MAX_CHECKPOINTS:]:
            old.unlink()

    def _load(self, path: Path, state: TrainingState) -> tuple[int, bool]:
        """Return the epoch, and whether the checkpoint is of this training. Only then change `state`."""
        if not is_whole(path):
            raise ValueError("The SHA-256 does not match.")
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["checkpoint"])
            epoch, fits = int(header["epoch"]), header["format"] == FORMAT
            fits = fits and header["identity"] == self._identity
            if fits:
                state.load({name: file.get_tensor(name) for name in file.keys()}, header["scaler"])  # noqa: SIM118
        return epoch, fits


def identity_of(
    backbone: Backbone,
    images: Sequence[Tensor],
    labels: Sequence[int],
    prompts: Sequence[Sequence[str]],
    config: AdaptConfig,
) -> str:
    """Return a hash of all inputs of a training. Equal hashes mean the same training."""
    inputs = [
        config.to_dict(),
        backbone.sha256,
        backbone.image_size,
        list(labels),
        [list(t) for t in prompts],
    ]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for image in images:
        digest.update(repr(tuple(image.shape)).encode())
        digest.update(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()).data)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
