"""A training that was cut off goes on after its last checkpoint, as if nothing had happened: on a CPU the
weights are the same bit for bit.

A checkpoint is one file: the tensors as safetensors, with what is no tensor as JSON in its header. It is
written beside its place, flushed to the disk and renamed, so that a file with this name is whole; what a
disk did to it since is told by the hash in the name.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.clip.config import AdaptConfig
from core.clip.models.backbone import Backbone
from core.clip.training.checkpoint_files import MAX_CHECKPOINTS, checkpoint_name, is_whole, newest_first
from core.clip.training.progress import Reporter
from core.clip.weights.manifest import file_sha256

FORMAT = 1
"""A higher one whenever the training loop changes: what was begun by one must not be ended by another."""


@dataclass(frozen=True)
class TrainingState:
    """All that a step of a training changes. The learning rate is not among it: it follows from the step."""

    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generators: Mapping[str, torch.Generator]

    def tensors(self) -> dict[str, Tensor]:
        """By `kind/name`: `parameter`, `generator`, and what the optimiser keeps of each parameter."""
        tensors = {f"generator/{name}": g.get_state() for name, g in self.generators.items()}
        for name, parameter in self.parameters.items():
            tensors[f"parameter/{name}"] = parameter
            for kind, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{kind}/{name}"] = value
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], scaler: Mapping[str, float]) -> None:
        """The way back, in place."""
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "generator":
                self.generators[name].set_state(tensor)
            elif kind == "parameter":
                self.parameters[name].copy_(tensor)
            else:
                parameter = self.parameters[name]
                moment = tensor.shape == parameter.shape  # which must lie in memory as its parameter does
                value = (
                    torch.empty_like(parameter)
                    if moment
                    else torch.empty_like(tensor, device=parameter.device)
                )
                self.optimizer.state[parameter][kind] = value.copy_(tensor)
        if scaler:
            self.scaler.load_state_dict(dict(scaler))


class Checkpoints:
    """The checkpoints of one training, in a folder of their own.

    Args:
        seconds: no checkpoint before a training has run for so long, and none so soon after another; 0
            writes one after every epoch. Each takes three times the room of the parameters.
    """

    def __init__(self, folder: Path, *, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._written = time.monotonic()
        self._identity = ""

    def resume(self, state: TrainingState, identity: str, reporter: Reporter) -> int:
        """Put the newest usable checkpoint into `state`; returns the epochs that are done, 0 if there
        is none. Of a damaged one, or one of another training (see `identity_of`), the reporter is told.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._written, self._identity = time.monotonic(), identity
        for path in newest_first(self._folder):
            try:
                epoch, fits = self._load(path, state)
            except (SafetensorError, ValueError, KeyError):
                reporter.warn(
                    "checkpoint_damaged",
                    "The stored state of the training is damaged. It goes on from an earlier one, or from "
                    "the beginning; check the disk.",
                )
                continue
            if fits:
                reporter.resumed(epoch)
                return epoch
            reporter.warn(
                "checkpoint_outdated",
                "The stored state is of a training with other images, settings, backbone or version of "
                "this software, and is not used: the training starts again.",
            )
        return 0

    def after_epoch(self, epoch: int, state: TrainingState, reporter: Reporter) -> None:
        """Write one, if it is time. That it can't be written does not end the training."""
        if time.monotonic() - self._written < self._seconds:
            return
        part = self._folder / "part"
        try:
            self._write(part, epoch, state)
        except (SafetensorError, OSError) as error:
            reporter.warn(
                "checkpoint_not_written",
                f"The state of the training can't be stored ({type(error).__name__}), most often because the "
                "disk is full: make room. The training goes on; if it is cut off, more of it is repeated.",
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
            "scaler": state.scaler.state_dict(),
        }
        save_file(state.tensors(), part, metadata={"checkpoint": json.dumps(header)})
        _flush(part)
        part.replace(self._folder / checkpoint_name(epoch, file_sha256(part)))
        _flush(self._folder)
        for old in newest_first(self._folder)[MAX_CHECKPOINTS:]:
            old.unlink()

    def _load(self, path: Path, state: TrainingState) -> tuple[int, bool]:
        """(its epoch, whether it is of this training); only then `state` is changed."""
        if not is_whole(path):
            raise ValueError("Another SHA-256.")
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
    """A hash of all that a training is made from: equal ones are the same training."""
    given = [config.to_dict(), backbone.sha256, backbone.image_size, list(labels), [list(t) for t in prompts]]
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
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
