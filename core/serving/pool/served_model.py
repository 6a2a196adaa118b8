"""A network as it serves: at one α, with what it costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from core.clip.data.transforms import Pixels
from core.clip.inference.class_offsets import name_offsets
from core.clip.inference.optimised import InferenceNetwork, InferencePlan, plan_inference
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import encode_tokens
from core.clip.weights.files import Weights
from core.serving.batching.batch import Encode, QueueKey


@dataclass(frozen=True)
class ServedModel:
    """Pictures and texts to features, which are normalised, fp32 and on the CPU whatever the device."""

    key: str
    """Of the content and α: networks with the same key give the same features."""
    backbone: Backbone
    model: InferenceNetwork
    shots: tuple[Tensor, Tensor] | None
    """Features [N, D] and labels [N] of what a model keeps of its pictures."""
    bytes: int
    """Of what it does not share with its backbone."""
    plan: InferencePlan
    """Of all networks on this backbone."""
    release: Callable[[], None] = field(default=lambda: None, compare=False)
    """Gives back what it stands on."""

    @property
    def precision(self) -> str:
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def images(self) -> tuple[QueueKey, Encode]:
        """Where its pictures wait, and what becomes of them."""
        return (self.key, "images"), self.encode_images

    @property
    def texts(self) -> tuple[QueueKey, Encode]:
        return (self.key, "texts"), self.encode_tokens

    @torch.inference_mode()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Pictures as `core.clip.data.transforms` fits them, [N, ...], to [N, D]."""
        return self.model.encode_fitted(pixels.to(self.backbone.device)).cpu()

    @torch.inference_mode()
    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids [N, L] to [N, D]."""
        return encode_tokens(self.model, tokens.to(self.backbone.device)).cpu()

    def offsets(self, head: Tensor, classes: Sequence[int], balance: float) -> Tensor:
        """What is to be taken off the cosines of each name, [C], see `core.clip.inference.class_offsets`."""
        if self.shots is None:
            return head.new_zeros(len(head))
        return name_offsets(*self.shots, head, classes, balance)


def stock_model(key: str, backbone: Backbone) -> ServedModel:
    """The backbone as it is."""
    plan = plan_inference(backbone.model, backbone.image_size, Pixels(backbone.preprocess))
    model = plan.of(backbone.model)
    return ServedModel(key, backbone, model, None, own_bytes(model, backbone), plan)


def adapted_network(key: str, stock: ServedModel, weights: Weights, alpha: float) -> ServedModel:
    """θ(α) on the backbone that it shares all else with; α is not 0."""
    backbone = stock.backbone
    theta = weights.theta(tower_parameters(backbone.model), alpha)
    model = stock.plan.of(with_parameters(backbone, theta))
    shots = None
    if weights.shots is not None:
        shots = weights.shots.at(alpha), weights.shots.labels
    kept = sum(tensor.nbytes for tensor in shots or ())
    return ServedModel(key, backbone, model, shots, own_bytes(model, backbone) + kept, stock.plan)


def own_bytes(model: nn.Module, backbone: Backbone) -> int:
    """Memory of the tensors that are not the backbone's."""
    shared = _storages(backbone.model)
    return sum(size for place, size in _storages(model).items() if place not in shared)


def _storages(model: Any) -> dict[int, int]:
    """Address and size of the memory behind each tensor, once."""
    sizes: dict[int, int] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_mkldnn:  # laid out by oneDNN, which keeps the address to itself
            sizes[id(tensor)] = tensor.numel() * tensor.element_size()
        else:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sizes
