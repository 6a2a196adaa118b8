"""Memory of an architecture of open_clip, computed from its shapes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import open_clip
import torch
from torch import Tensor

from core.clip.config import AdaptConfig

PARAMETER_BYTES = 4
TRAINING_COPIES = 8
"""Pre-trained weights, trained weights, gradients, the two moments of AdamW, and at the end their difference,
its packed form and the weights to evaluate. With 8, the peaks of `benchmarks.full_size` are within 11%.
"""
LIBRARY_BYTES = 500_000_000
"""Memory of Python and its libraries."""
TYPICAL_CLASSES = 10


@dataclass(frozen=True)
class Size:
    """Memory of an architecture in fp32 (bytes)."""

    parameters: int
    image_bytes: int
    """Activations that a training step stores per image."""
    prompt_bytes: int
    """Activations that a training step stores per prompt."""

    @property
    def file_bytes(self) -> int:
        """Size of the weights file."""
        return PARAMETER_BYTES * self.parameters

    @property
    def serving_bytes(self) -> int:
        """Memory for the pre-trained model and one adapted model."""
        return 2 * self.file_bytes + LIBRARY_BYTES

    def training_bytes(self, images: int, prompts: int) -> int:
        """Return the memory of a training.

        Args:
            images: images in the image tower at a time.
            prompts: prompts per step, at most one per class.
        """
        activations = images * self.image_bytes + prompts * self.prompt_bytes
        return TRAINING_COPIES * self.file_bytes + activations + LIBRARY_BYTES


def find_size(backbone: str) -> Size | None:
    """Return the size of `Model/pretrained`, or None if its shape is only known to the hub or a folder."""
    architecture = backbone.partition("/")[0]
    return size_of(architecture) if architecture in open_clip.list_models() else None


def training_memory(config: AdaptConfig, classes: int = TYPICAL_CLASSES) -> int | None:
    """Return the memory of a training in fp32 (bytes), or None if the shape of the network is unknown."""
    size = find_size(config.backbone)
    images = min(config.batch_size, config.micro_batch_size or config.batch_size)
    return None if size is None else size.training_bytes(images, classes)


@lru_cache
def size_of(architecture: str) -> Size | None:
    """Compute the size of an architecture, or return None if its shape is only known to the hub."""
    config: Any = open_clip.get_model_config(architecture)
    if "hf_model_name" in config["text_cfg"]:
        return None
    with torch.device("meta"), _without_warnings():
        model = open_clip.create_model(architecture, device="meta", load_weights=False)
        side = open_clip.get_model_preprocess_cfg(model)["size"]
        height, width = (side, side) if isinstance(side, int) else side
        images = torch.zeros(1, 3, height, width)
        tokens = torch.zeros(1, config["text_cfg"].get("context_length", 77), dtype=torch.long)
        return Size(
            sum(parameter.numel() for parameter in model.parameters()),
            _saved_bytes(model, lambda: model.encode_image(images)),
            _saved_bytes(model, lambda: model.encode_text(tokens)),
        )


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Drop open_clip's warnings in the root logger that a network without weights is random."""
    root, reject = logging.getLogger(), logging.Filter("nothing")
    root.addFilter(reject)
    try:
        yield
    finally:
        root.removeFilter(reject)


def _saved_bytes(model: torch.nn.Module, forward: Any) -> int:
    """Return the size of all tensors that autograd stores for the backward pass, without the parameters."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    stored: dict[int, Any] = {}  # keeps the storages, so that no address is reused

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        stored[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for address, storage in stored.items() if address not in own)
