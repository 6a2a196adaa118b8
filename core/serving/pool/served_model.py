"""A network as it serves: at one α, with what it costs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from core.clip.data.transforms import Pixels
from core.clip.errors import CorruptWeights
from core.clip.inference.optimised import InferenceNetwork, InferencePlan, plan_inference
from core.clip.models.backbone import Backbone, tower_parameters, trim_padding, with_parameters
from core.clip.models.features import encode_tokens
from core.clip.weights.files import Weights, load_weights
from core.clip.weights.manifest import read_manifest
from core.serving.types import WeightsKey, WeightsSource
from core.store.storage.blobs import Blobs


@dataclass(frozen=True)
class ServedModel:
    """Images and prompts to features, which are normalised, fp32 and on the CPU whatever the device."""

    key: str
    """Of the content and α: networks with the same key give the same features."""
    backbone: Backbone
    model: InferenceNetwork
    shots: tuple[Tensor, Tensor] | None
    """Features [N, D] and labels [N] of what a model keeps of its images."""
    bytes: int
    """Of what it does not share with its backbone."""
    plan: InferencePlan
    """Of all networks on this backbone."""
    preprocess: str
    """`Backbone.preprocess_settings`."""
    release: Callable[[], None] = field(default=lambda: None, compare=False)
    """Gives back what it stands on."""

    @property
    def precision(self) -> str:
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @torch.inference_mode()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Images as `core.clip.data.transforms` fits them, [N, ...], to [N, D]."""
        return self.model.encode_fitted(pixels.to(self.backbone.device)).cpu()

    @torch.inference_mode()
    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids [N, L] to [N, D]."""
        tokens = trim_padding(tokens, self.backbone.tokenizer)
        return encode_tokens(self.model, tokens.to(self.backbone.device)).cpu()


def read_model(blobs: Blobs, key: WeightsKey, backbone: Backbone) -> Weights:
    """The stored change of the backbone. Raises CorruptWeights, BlobNotFound, StorageUnavailable."""
    source = cast(WeightsSource, key.source)
    manifest = read_manifest(blobs.get(source.manifest))
    if manifest.sha256 != key.sha256:
        raise CorruptWeights("Its manifest is of other weights than were published.")
    return load_weights(blobs.get(source.weights), manifest, backbone)


def stock_model(key: str, backbone: Backbone) -> ServedModel:
    """The backbone as it is."""
    plan = plan_inference(backbone.model, backbone.image_size, Pixels(backbone.preprocess))
    model = plan.of(backbone.model)
    size = own_bytes(model, backbone)
    return ServedModel(key, backbone, model, None, size, plan, backbone.preprocess_settings)


def adapted_network(key: str, stock: ServedModel, weights: Weights, alpha: float) -> ServedModel:
    """θ(α) on the backbone that it shares all else with; α is not 0."""
    backbone = stock.backbone
    theta = weights.theta(tower_parameters(backbone.model), alpha)
    model = stock.plan.of(with_parameters(backbone, theta))
    shots = None
    if weights.shots is not None:
        shots = weights.shots.at(alpha), weights.shots.labels
    kept = sum(tensor.nbytes for tensor in shots or ())
    size = own_bytes(model, backbone) + kept
    return ServedModel(key, backbone, model, shots, size, stock.plan, stock.preprocess)


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
