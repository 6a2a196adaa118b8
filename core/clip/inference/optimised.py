"""Optimised networks for serving, with the same features within rounding.

Convolutional image towers on CPUs are bound by memory bandwidth. BatchNorm, activations and TensorFlow's
padding each read and write the largest tensors once more, and every call reorders the weights for the
processor. Here BatchNorm is fused into the weights, activation and padding into the convolution, and the
weights are reordered once. CLIP's text towers compute 77 tokens per prompt, of which a class name uses
about ten; the padding is cut off.

The plan is found and verified once per backbone. Applying it to another θ takes milliseconds, fast enough
for a cold model. The image tower then runs as a single call (`core.clip.inference.traced`).
"""

import copy
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from core.clip.data.transforms import Pixels
from core.clip.inference.fused_conv import ACTIVATIONS, FusedConvolution, Planned
from core.clip.inference.traced import Program, record
from core.clip.models.features import encode_images

MAX_DIFFERENCE = 1e-5
"""Maximum difference of a normalised feature from the original network's, due to rounding order."""
logger = logging.getLogger(__name__)


class InferenceNetwork(nn.Module):
    """The two encoders of a network after `InferencePlan.of`, not to be trained or saved."""

    def __init__(self, network: nn.Module, plan: "InferencePlan") -> None:
        super().__init__()
        self.network = network
        self._plan = plan
        self._images = None if plan.program is None else plan.program.of(network)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Encode images [B, 3, S, S] of the plan's size to [B, D] in its precision."""
        with self._plan.autocast(pixels.device):
            return cast(Tensor, cast(Any, self.network).encode_image(pixels))

    def encode_fitted(self, fitted: Tensor) -> Tensor:
        """Encode images [B, ...] from `Pixels.fit` to normalised fp32 features [B, D].

        The traced program computes them in one call, if there is one.
        """
        if self._images is None:
            return _encode_fitted(self._plan, self, fitted)
        return self._images(fitted)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode token ids [N, L] to [N, D] on the network's device, in the plan's precision.

        With token ids on the CPU, a GPU is not synchronised.
        """
        device = next(self.network.parameters()).device
        with self._plan.autocast(device):
            if self._plan.trims_prompts:
                return _encode_trimmed(self.network, tokens, device)
            tokens = tokens.to(device, non_blocking=True)
            return cast(Tensor, cast(Any, self.network).encode_text(tokens))


@dataclass(frozen=True)
class InferencePlan:
    """The optimisations for networks of one architecture and image size."""

    pixels: Pixels
    convolutions: Mapping[str, Planned] = field(default_factory=dict)
    trims_prompts: bool = False
    program: Program | None = None
    dtype: torch.dtype | None = None
    """Autocast type of both towers; None is fp32."""

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the towers compute."""
        if self.dtype is None:
            return nullcontext()
        # The cache would keep a copy of each weight, which a recorded program must not hold.
        return torch.autocast(device.type, dtype=self.dtype, cache_enabled=False)

    @torch.no_grad()
    def of(self, network: nn.Module) -> InferenceNetwork:
        """Return the optimised form of a network, which is not modified; unchanged modules are shared."""
        replaced: dict[nn.Module, nn.Module] = {}
        for name, planned in self.convolutions.items():
            convolution = cast(nn.Conv2d, network.get_submodule(name))
            norm = None if planned.norm is None else network.get_submodule(planned.norm)
            # oneDNN's convolutions with reordered weights ignore autocast.
            replaced[convolution] = FusedConvolution(
                convolution, cast(nn.BatchNorm2d | None, norm), planned, reorder=self.dtype is None
            )
            if norm is not None:
                replaced[norm] = nn.Identity()
            if planned.activation is not None:
                replaced[network.get_submodule(planned.activation)] = nn.Identity()
        changed = _with_replaced(network, replaced)
        return InferenceNetwork(changed, self).eval()


@torch.no_grad()
def plan_inference(
    network: nn.Module, image_size: int, pixels: Pixels, dtype: torch.dtype | None = None
) -> InferencePlan:
    """Find the plan for this architecture and verify it on this network.

    An optimisation that would change the features in fp32 is left out, with a warning in the log.

    Args:
        network: an open_clip network in eval mode, on its serving device.
        pixels: the preprocessing of its backbone.
        dtype: autocast type of both towers; None is fp32.
    """
    plan = InferencePlan(pixels, trims_prompts=_is_causal_clip(network))
    noise = np.random.default_rng(0).integers(256, size=(2, image_size, image_size, 3), dtype=np.uint8)
    images = torch.stack([pixels.fit(Image.fromarray(image)) for image in noise])
    images = images.to(next(network.parameters()).device)
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        plan = _fused(plan, network, images)
    plan = replace(plan, dtype=dtype)
    return replace(plan, program=record(partial(_encode_fitted, plan), plan.of(network).network, images))


def _fused(plan: InferencePlan, network: nn.Module, images: Tensor) -> InferencePlan:
    """Add fused convolutions to the plan, if the features stay the same."""
    finished = plan.pixels.finish(images)
    fused = replace(plan, convolutions=_traced(network, finished))
    try:
        features = encode_images(fused.of(network), finished)
        difference = float((features - encode_images(network, finished)).abs().max())
    except (RuntimeError, TypeError) as error:  # a kernel that this build of torch doesn't have
        logger.warning("Convolutions are not fused, which makes serving slower: %s", error)
        return plan
    if not difference <= MAX_DIFFERENCE:
        logger.warning("Convolutions are not fused, since the features would differ by %.1e.", difference)
        return plan
    return fused


def _encode_fitted(plan: InferencePlan, network: nn.Module, fitted: Tensor) -> Tensor:
    with plan.autocast(fitted.device):
        return encode_images(network, plan.pixels.finish(fitted))


def _with_replaced(module: nn.Module, replaced: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Return the module with submodules replaced; only modules on the way to a replacement are copied.

    A deep copy would take as long as all other steps together.
    """
    if module in replaced:
        return replaced[module]
    inside = {n: m if m is None else _with_replaced(m, replaced) for n, m in module._modules.items()}
    if all(m is module._modules[name] for name, m in inside.items()):
        return module
    changed = copy.copy(module)
    changed._modules = inside
    return changed


def _traced(network: nn.Module, images: Tensor) -> dict[str, Planned]:
    """Plan each convolution by the modules that follow it in a forward pass."""
    names = {module: name for name, module in network.named_modules()}
    # id of an output → (module that made it, version of the output). The version changes with in-place
    # operations such as `x += shortcut`.
    made_by: dict[int, tuple[nn.Module, int]] = {}
    follows: dict[nn.Module, nn.Module] = {}
    sizes: dict[nn.Conv2d, tuple[int, int]] = {}
    kept: list[Tensor] = []  # references prevent the reuse of an id

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        source, version = made_by.get(id(inputs[0]), (None, 0))
        if source is not None and version == inputs[0]._version:
            follows.setdefault(source, module)
        if isinstance(module, nn.Conv2d):
            height, width = inputs[0].shape[-2:]
            sizes[module] = (height, width)

    def after(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        made_by[id(output)] = (module, output._version)
        kept.append(output)

    watched = (nn.Conv2d, nn.BatchNorm2d, *ACTIVATIONS)
    modules = [m for m in network.modules() if isinstance(m, watched)]
    hooks = [
        hook
        for m in modules
        for hook in (m.register_forward_pre_hook(before), m.register_forward_hook(after))
    ]
    try:
        encode_images(network, images)
    finally:
        for hook in hooks:
            hook.remove()

    planned = {}
    for convolution, size in sizes.items():
        if convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
            continue
        follower = follows.get(convolution)
        norm = follower if isinstance(follower, nn.BatchNorm2d) else None
        inner = getattr(norm, "act", None)  # timm's BatchNormAct2d
        outer = follows.get(norm) if norm is not None and inner is None else None
        activation_type = next((kind for kind in ACTIVATIONS if type(inner or outer) is kind), None)
        planned[names[convolution]] = Planned(
            size=size,
            norm=None if norm is None else names[norm],
            activation=names[outer] if activation_type is not None and outer is not None else None,
            activation_type=activation_type,
        )
    return planned


def _is_causal_clip(network: nn.Module) -> bool:
    """Return True for open_clip's CLIP text tower: causal attention, feature of the end token.

    The end token is the one with the largest id.
    """
    mask = getattr(network, "attn_mask", None)
    parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
    if not isinstance(mask, Tensor) or not all(hasattr(network, part) for part in parts):
        return False
    causal = torch.full_like(mask, float("-inf")).triu_(1)
    return getattr(network, "text_pool_type", None) == "argmax" and torch.equal(mask, causal)


def _encode_trimmed(network: Any, tokens: Tensor, device: torch.device) -> Tensor:
    """Compute CLIP.encode_text without the tokens after the end of the longest prompt."""
    ends = tokens.argmax(dim=-1)  # [N]
    length = int(ends.max()) + 1
    tokens, ends = (x.to(device, non_blocking=True) for x in (tokens[:, :length], ends))
    x = network.token_embedding(tokens)
    x = (x + network.positional_embedding[:length]).to(network.transformer.get_cast_dtype())
    x = network.ln_final(network.transformer(x, attn_mask=network.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), ends]  # [N, D]
    project: nn.Linear | nn.Parameter | None = network.text_projection
    if project is None:
        return cast(Tensor, x)
    return cast(Tensor, project(x) if isinstance(project, nn.Linear) else x @ project)
