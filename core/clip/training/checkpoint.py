"""Checkpoints: an interrupted training resumes from the last checkpoint, with the same result.

On a CPU, resuming gives bit-identical weights to an uninterrupted training.

A checkpoint is one safetensors file, with all non-tensor state as JSON in its header. The file is written
under a temporary name and renamed, so that a partial file never has the final name. The worker compares the
hash in the name before it hands a checkpoint to the trainer.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clipcite.types.adapt import Precision
from core.clip.training.checkpoint_files import MAX_CHECKPOINTS, checkpoint_name, newest_first
from core.clip.training.progress import Reporter
from core.clip.weights.manifest import file_sha256

CHECKPOINT_FORMAT = 3
"""Version of the training loop and the file. A training must not resume with a loop of another version."""


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
        self._backbone = ""

    def precision(self) -> Precision | None:
        """Return the precision of the newest checkpoint, or None without a usable one."""
        found = self._newest()
        if found is None or found[1]["format"] != CHECKPOINT_FORMAT:
            return None
        precision: Precision = found[1]["precision"]
        return precision

    def resume(self, state: TrainingState, backbone: str, reporter: Reporter) -> int:
        """Load the newest checkpoint into `state`. Return the completed epochs, or 0 without one.

        A checkpoint of another version of the software or of the backbone causes a warning. The other inputs
        of a training are those of its job and never change.

        Args:
            backbone: SHA-256 of the backbone.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._written, self._backbone = time.monotonic(), backbone
        found = self._newest()
        if found is None:
            return 0
        path, header = found
        if header["format"] == CHECKPOINT_FORMAT and header["backbone"] == backbone:
            state.load(load_file(path), header["scaler"])
            reporter.resumed(header["epoch"])
            return int(header["epoch"])
        reporter.warn(
            "checkpoint_outdated",
            "The checkpoint belongs to another version of the backbone or of this software. It is "
            "ignored, and the training starts again.",
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
            "format": CHECKPOINT_FORMAT,
            "backbone": self._backbone,
            "epoch": epoch,
            "precision": state.precision,
            "scaler": state.scaler.state_dict(),
        }
        save_file(state.tensors(), part, metadata={"checkpoint": json.dumps(header)})
        part.replace(self._folder / checkpoint_name(epoch, file_sha256(part)))
        for old in newest_first(self._folder)[MAX_CHECKPOINTS:]:
            old.unlink()

    def _newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest checkpoint and its header, or None without one."""
        newest = newest_first(self._folder)
        if not newest:
            return None
        with safe_open(newest[0], framework="pt") as file:
            return newest[0], json.loads(file.metadata()["checkpoint"])
