"""Optimised networks for serving, with the same features within rounding.

Throughput as a multiple of the plain network's, on one core of a busy machine, medians of alternating runs:

                                                           1 image   8 images
    MobileCLIP-S2  BatchNorm fused by torch, as one call      1.13       1.09
    MobileCLIP-S2  with oneDNN's reordered weights            1.44       1.35
    MobileCLIP-S2  with both                                  1.84       1.41
    starter        with both                                  1.55       1.42

So oneDNN's convolution stays, although torch has no public form of it. A convolution with TensorFlow's
padding, which only the starter has, keeps torch's own.

Eager PyTorch needs the GIL before each of hundreds of operations, and in a service other threads hold it. A
traced tower is one call, which releases the GIL once. Beside one busy Python thread it is 1.74 times as fast
for MobileCLIP-S2 and 1.43 times for ViT-B/32. The operations are the same, so the features are bit-identical.
`torch.compile` needs a C++ compiler on the user's machine, and Python interprets a program of `torch.export`
operation by operation. TorchScript is deprecated: in a torch without it serving is slower, with a warning.

The plan is found and verified once per backbone. Applying it to another θ takes 0.2 s for MobileCLIP-S2.
"""

import copy
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from core.clip.data.transforms import Pixels
from core.clip.models.features import (
    MAX_DIFFERENCE,
    encode_images,
    encode_trimmed,
    find_convolutions,
    is_causal_clip,
)

Program = Callable[[Tensor, Any], Tensor]
"""The traced image tower of an architecture: a batch from `Pixels.fit` and the weights to features."""
logger = logging.getLogger(__name__)
_tracing = threading.Lock()  # PyTorch has one tracer per process


class InferenceNetwork(nn.Module):
    """The two encoders of a network after `InferencePlan.of`, not to be trained or saved."""

    def __init__(self, network: nn.Module, plan: "InferencePlan") -> None:
        super().__init__()
        self.network = network
        self._plan = plan
        # A list of TorchScript. With one of Python a call would hold the last reference to each tensor, and
        # dropping the last reference to a tensor with a Python wrapper takes the GIL.
        if plan.program is not None:
            self._weights = torch.jit.script(_tensors(network))  # noqa: TID251

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Encode images [B, 3, S, S] of the plan's size to [B, D] in its precision."""
        with self._plan.autocast(pixels.device):
            return cast(Tensor, cast(Any, self.network).encode_image(pixels))

    def encode_fitted(self, fitted: Tensor) -> Tensor:
        """Encode images [B, ...] from `Pixels.fit` to normalised fp32 features [B, D].

        The traced program computes them in one call, if there is one.
        """
        if self._plan.program is None:
            with self._plan.autocast(fitted.device):
                return encode_images(self, self._plan.pixels.finish(fitted))
        # Optimisation would change the operations, and run again for each batch size.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # noqa: TID251
            return self._plan.program(fitted, self._weights)

    forward = encode_fitted

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode token ids [N, L] to [N, D] on the network's device, in the plan's precision.

        With token ids on the CPU, a GPU is not synchronised.
        """
        device = next(self.network.parameters()).device
        with self._plan.autocast(device):
            if is_causal_clip(self.network):
                return encode_trimmed(self.network, tokens, device)
            tokens = tokens.to(device, non_blocking=True)
            return cast(Tensor, cast(Any, self.network).encode_text(tokens))


@dataclass(frozen=True)
class InferencePlan:
    """The optimisations for networks of one architecture and image size."""

    pixels: Pixels
    convolutions: Mapping[str, tuple[list[int], str | None]] = field(default_factory=dict)
    """The shape of the input of each convolution and the norm to fuse into it, by their names."""
    program: Program | None = None
    dtype: torch.dtype | None = None
    """Autocast type of both towers; None is fp32."""

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the towers compute."""
        if self.dtype is None:
            return nullcontext()
        # The cache would keep a copy of each weight, which a traced program must not hold.
        return torch.autocast(device.type, dtype=self.dtype, cache_enabled=False)

    @torch.no_grad()
    def of(self, network: nn.Module) -> InferenceNetwork:
        """Return the optimised form of a network, which is not modified; unchanged modules are shared."""
        if not self.convolutions:
            return InferenceNetwork(network, self).eval()
        copies = _kept(network)
        for name, (shape, norm_name) in self.convolutions.items():
            convolution = cast(nn.Conv2d, network.get_submodule(name))
            fused = convolution
            if norm_name is not None:
                norm = cast(nn.BatchNorm2d, network.get_submodule(norm_name))
                fused = fuse_conv_bn_eval(convolution, norm)
                copies[id(norm)] = getattr(norm, "act", nn.Identity())  # of timm's BatchNormAct2d
            # oneDNN's convolutions with reordered weights ignore autocast.
            reorder = self.dtype is None and type(fused) is nn.Conv2d and _can_reorder(fused.weight)
            copies[id(convolution)] = Reordered(fused, shape) if reorder else fused
        return InferenceNetwork(copy.deepcopy(network, copies), self).eval()


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
    noise = np.random.default_rng(0).integers(256, size=(2, image_size, image_size, 3), dtype=np.uint8)
    images = torch.stack([pixels.fit(Image.fromarray(image)) for image in noise])
    images = images.to(next(network.parameters()).device)
    finished = pixels.finish(images)
    plan = InferencePlan(pixels)
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        before, found = find_convolutions(network, finished)
        names: dict[nn.Module | None, str] = {module: name for name, module in network.named_modules()}
        convolutions = {names[c]: ([1, *shape[1:]], names.get(norm)) for c, (shape, norm) in found.items()}
        plan = replace(plan, convolutions=convolutions)
        difference = float((encode_images(plan.of(network), finished) - before).abs().max())
        if not difference <= MAX_DIFFERENCE:
            logger.warning("Convolutions are not fused, since the features would differ by %.1e.", difference)
            plan = replace(plan, convolutions={})
    plan = replace(plan, dtype=dtype)
    return replace(plan, program=_traced(plan, plan.of(network).network, images))


class Reordered(nn.Module):
    """A convolution whose weight has the layout of oneDNN's kernels. A plain one reorders it in each call."""

    def __init__(self, convolution: nn.Conv2d, shape: list[int]) -> None:
        super().__init__()
        padding = cast(tuple[int, ...], convolution.padding)
        self.geometry = (padding, convolution.stride, convolution.dilation, convolution.groups)
        weight = convolution.weight.detach().contiguous(memory_format=torch.channels_last)
        weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, shape)
        self.register_buffer("weight", weight, persistent=False)
        bias = weight.new_zeros(convolution.out_channels) if convolution.bias is None else convolution.bias
        self.register_buffer("bias", bias.detach(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        convolve = _compiled().convolve
        return cast(Tensor, convolve(x, self.weight, self.bias, *self.geometry))


@cache
def _compiled() -> Any:
    """Return oneDNN's convolution in a form for the tracer, which can't infer the type of an empty list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.CompilationUnit("""
def convolve(x: Tensor, weight: Tensor, bias: Tensor, padding: List[int], stride: List[int],
             dilation: List[int], groups: int):
    scalars: List[Optional[Union[int, float, complex]]] = []
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, stride, dilation, groups, "none", scalars, "")
""")  # noqa: TID251


def _can_reorder(weight: Tensor) -> bool:
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and torch.backends.mkldnn.is_available()


def _traced(plan: InferencePlan, network: nn.Module, images: Tensor) -> Program | None:
    """Trace the image tower with its weights as an argument, and verify it on a batch of another size.

    Returns:
        None, with a warning in the log, if tracing fails or the results differ.
    """
    form = InferenceNetwork(copy.deepcopy(network, _kept(network)), plan)  # gets the tensors of the tracer
    places = list(_places(form))

    def compute(batch: Tensor, weights: list[Tensor]) -> Tensor:
        for (owner, name), tensor in zip(places, weights, strict=True):
            owner[name] = tensor
        return form.encode_fitted(batch)

    try:
        with _tracing, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation, and what the check below covers
            arguments = (images[:1], _tensors(network))
            program = torch.jit.trace(compute, arguments, check_trace=False)  # noqa: TID251
        traced = InferenceNetwork(network, replace(plan, program=program))
        same = torch.equal(traced(images), InferenceNetwork(network, plan)(images))
    except Exception as error:  # TorchScript or this build of PyTorch may fail in any way
        logger.warning("The image tower is not traced, which makes serving slower: %s", error)
        return None
    if not same:
        logger.warning("The image tower is not traced, since the features would differ.")
        return None
    return cast(Program, program)


def _kept(network: nn.Module) -> dict[int, Any]:
    """Return the tensors that a deep copy shares with the network, by their ids."""
    return {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}


def _places(network: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield owner and name of each parameter and buffer, shared ones repeatedly."""
    for module in network.modules():
        for owner in (module._parameters, module._buffers):
            yield from ((cast(dict[str, Any], owner), name) for name in owner if owner[name] is not None)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [owner[name].detach() for owner, name in _places(network)]
