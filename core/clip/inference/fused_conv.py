"""A convolution with what follows it: BatchNorm, activation and padding, for inference only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn

ACTIVATIONS: Mapping[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
"""What a convolution can do to its own output, as oneDNN names it."""


@dataclass(frozen=True)
class Planned:
    """What one convolution does from now on."""

    size: tuple[int, int]
    """Of its input."""
    norm: str | None
    """Name of the BatchNorm2d that is folded into it."""
    activation: str | None
    """Name of the module that it does the work of, if that is not a part of the norm."""
    activation_type: type[nn.Module] | None
    """One of ACTIVATIONS."""


class FusedConvolution(nn.Module):
    """With norm, activation and padding in one."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, planned: Planned) -> None:
        super().__init__()
        weight, bias = _folded(convolution, norm)
        weight, padding = _symmetric(convolution, weight, planned.size)
        self.geometry = (padding, convolution.stride, convolution.dilation, convolution.groups)
        self.activation_type = planned.activation_type
        left = getattr(norm, "act", None) if planned.activation_type is None else None
        self.activation: nn.Module = left or nn.Identity()
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.laid_out = _lays_out(weight)
        if self.laid_out:
            size = [1, convolution.in_channels, *planned.size]
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, size)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padding, stride, dilation, groups = self.geometry
        weight, bias = cast(Tensor, self.weight), cast(Tensor, self.bias)
        if self.laid_out:
            does = ("none", []) if self.activation_type is None else ACTIVATIONS[self.activation_type]
            traced = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
            convolve = _recordable() if traced else torch.ops.mkldnn._convolution_pointwise
            x = convolve(x, weight, bias, *self.geometry, *does, "")
        else:
            x = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
            if self.activation_type is not None:
                x = self.activation_type()(x)
        return cast(Tensor, self.activation(x))


@cache
def _recordable() -> Callable[..., Tensor]:
    """oneDNN's convolution for PyTorch's tracer, which can't tell that its numbers may be missing."""
    code = """
def convolve(x: Tensor, weight: Tensor, bias: Tensor, padding: List[int], stride: List[int],
             dilation: List[int], groups: int, does: str, numbers: List[float], algorithm: str):
    scalars: List[Optional[Union[int, float, complex]]] = []
    for number in numbers:
        scalars.append(number)
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, stride, dilation, groups, does, scalars, algorithm)
"""
    return cast(Callable[..., Tensor], torch.jit.CompilationUnit(code).convolve)


def _lays_out(weight: Tensor) -> bool:
    """Whether oneDNN can keep the weight as its kernels want it."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return (
        on_cpu
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """(weight [C, I, K, K], bias [C]) of the convolution and the affine map that the norm is in eval mode."""
    weight, bias = convolution.weight.detach(), convolution.bias
    zero = weight.new_zeros(len(weight))
    before = zero if bias is None else bias.detach()
    if norm is None:
        return weight, before
    scale = (cast(Tensor, norm.running_var) + norm.eps).rsqrt()  # [C]
    shift = -cast(Tensor, norm.running_mean) * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    return weight * scale[:, None, None, None], before * scale + shift


def _symmetric(
    convolution: nn.Conv2d, weight: Tensor, size: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    """(weight, padding) such that TensorFlow's padding, which may be one more below and at the right,
    needs no padded copy of the input: zeros are put before the filter's rows and columns instead."""
    if not isinstance(convolution, Conv2dSame):
        return weight, cast(tuple[int, int], convolution.padding)
    wanted = [
        get_same_padding(n, k, s, d)
        for n, k, s, d in zip(
            size, convolution.kernel_size, convolution.stride, convolution.dilation, strict=True
        )
    ]
    after = (wanted[0] - wanted[0] // 2, wanted[1] - wanted[1] // 2)
    # With dilation a row of zeros would move the others by more than one.
    more = [2 * a - w for a, w in zip(after, wanted, strict=True)]
    if any(more) and tuple(convolution.dilation) != (1, 1):
        raise TypeError("Uneven padding of a dilated convolution.")
    return F.pad(weight, (more[1], 0, more[0], 0)), after
