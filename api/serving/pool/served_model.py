"""A model prepared for inference at one α."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from core.clip.data.transforms import Pixels
from core.clip.inference.optimised import InferenceNetwork, InferencePlan, plan_inference
from core.clip.inference.pile import Foreign, Support
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import USUAL_TOKENS, encode_tokens, is_causal_clip
from core.clip.models.tokenizer import trim_padding
from core.clip.weights.files import Weights


@dataclass(frozen=True)
class ServedModel:
    """A model at one α. Models with equal keys compare equal, because their features are equal.

    Features are normalised, in fp32 and on the CPU, for any device and precision of the towers.
    """

    key: str
    """Key of the weights and α."""
    backbone: Backbone = field(compare=False)
    model: InferenceNetwork = field(compare=False)
    shots: tuple[Tensor, Tensor] | None = field(compare=False)
    """Support set: features [N, D] and labels [N]."""
    bytes: int = field(compare=False)
    """Memory that is not shared with the backbone."""
    plan: InferencePlan = field(compare=False)
    """Inference plan, which all models on this backbone share."""
    preprocess: str = field(compare=False)
    """`Backbone.preprocess_settings`."""
    release: Callable[[], None] = field(default=lambda: None, compare=False)
    """Releases the backbone."""

    @cached_property
    def support(self) -> Support | None:
        """The training images in the format of `pile`, kept with the model because its limit takes time."""
        if self.shots is None:
            return None
        features, labels = self.shots
        return Support.of(features.numpy(), labels.numpy())

    @cached_property
    def foreign(self) -> Foreign | None:
        """Detector of images unlike the training images. None without images of two classes."""
        return None if self.support is None else Foreign.of(self.support)

    @torch.inference_mode()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return features [N, D] of fitted images [N, ...] (`core.clip.data.transforms`).

        A GPU synchronises only once, when the features are copied.
        """
        return self.model.encode_fitted(pixels.to(self.backbone.device, non_blocking=True)).cpu()

    def trimmed(self, tokens: Tensor) -> Tensor:
        """Return token ids [N, L] without padding that does not affect the features.

        The length is a multiple of USUAL_TOKENS, so that prompts of about equal lengths share batches.
        """
        if is_causal_clip(self.model):
            used = int(tokens.argmax(dim=-1).max()) + 1
        else:
            used = trim_padding(tokens, self.backbone.padding).shape[1]
        return tokens[:, : -(-used // USUAL_TOKENS) * USUAL_TOKENS]

    @torch.inference_mode()
    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Return features [N, D] of token ids [N, L] on the CPU."""
        return encode_tokens(self.model, trim_padding(tokens, self.backbone.padding)).cpu()


def stock_model(key: str, backbone: Backbone, dtype: torch.dtype | None = None) -> ServedModel:
    """Return the pre-trained model, prepared for inference with this autocast type (None: fp32)."""
    plan = plan_inference(backbone.model, backbone.image_size, Pixels(backbone.preprocess), dtype)
    model = plan.of(backbone.model)
    size = own_bytes(model, backbone)
    return ServedModel(key, backbone, model, None, size, plan, backbone.preprocess_settings)


def adapted_model(key: str, stock: ServedModel, weights: Weights, alpha: float) -> ServedModel:
    """Return the model θ(α), α ≠ 0. It shares all unchanged parameters with its backbone."""
    backbone = stock.backbone
    theta = weights.theta(tower_parameters(backbone.model), alpha)
    model = stock.plan.of(with_parameters(backbone, theta))
    shots = None
    if weights.shots is not None:
        shots = weights.shots.at(alpha), weights.shots.labels
    shot_bytes = sum(tensor.nbytes for tensor in shots or ())
    size = own_bytes(model, backbone) + shot_bytes
    return ServedModel(key, backbone, model, shots, size, stock.plan, stock.preprocess)


def own_bytes(model: nn.Module, backbone: Backbone) -> int:
    """Return the memory of all tensors that are not shared with the backbone."""
    shared = _storages(backbone.model)
    return sum(size for address, size in _storages(model).items() if address not in shared)


def _storages(model: Any) -> dict[int, int]:
    """Return the address and size of each distinct tensor storage."""
    sizes: dict[int, int] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_mkldnn:  # oneDNN's opaque layout has no accessible address
            sizes[id(tensor)] = tensor.numel() * tensor.element_size()
        else:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sizes
