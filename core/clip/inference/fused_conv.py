"""Convolutions fused with BatchNorm, activation and padding, for inference only."""

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
"""Activations that oneDNN can fuse into a convolution, with their oneDNN names."""


@dataclass(frozen=True)
class Planned:
    """The fusion plan of one convolution."""

    size: tuple[int, int]
    """Height and width of the input (pixels)."""
    norm: str | None
    """Name of the BatchNorm2d to fuse."""
    activation: str | None
    """Name of the activation module to fuse, unless it is part of the norm."""
    activation_type: type[nn.Module] | None
    """Type of the fused activation, from ACTIVATIONS."""


class FusedConvolution(nn.Module):
    """A convolution fused with norm, activation and padding."""

    def __init__(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, planned: Planned, *, reorder: bool
    ) -> None:
        """Fuse a convolution.

        Args:
            reorder: store the weight in the layout of oneDNN's kernels, if it can be.
        """
        super().__init__()
        weight, bias = _fused_parameters(convolution, norm)
        weight, padding = _symmetric(convolution, weight, planned.size)
        self.geometry = (padding, convolution.stride, convolution.dilation, convolution.groups)
        self.activation_type = planned.activation_type
        unfused = getattr(norm, "act", None) if planned.activation_type is None else None
        self.activation: nn.Module = unfused or nn.Identity()
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.reordered = reorder and _can_reorder(weight)
        if self.reordered:
            size = [1, convolution.in_channels, *planned.size]
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, size)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padding, stride, dilation, groups = self.geometry
        weight, bias = cast(Tensor, self.weight), cast(Tensor, self.bias)
        if self.reordered:
            attribute = ("none", []) if self.activation_type is None else ACTIVATIONS[self.activation_type]
            traced = torch._C._get_tracing_state() is not None
            convolve = _recordable() if traced else torch.ops.mkldnn._convolution_pointwise
            x = convolve(x, weight, bias, *self.geometry, *attribute, "")
        else:
            x = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
            if self.activation_type is not None:
                x = self.activation_type()(x)
        return cast(Tensor, self.activation(x))


@cache
def _recordable() -> Callable[..., Tensor]:
    """Return oneDNN's convolution in a form that PyTorch's tracer accepts.

    The tracer does not infer the type `List[Optional[Scalar]]` of its last list argument.
    """
    code = """
def convolve(x: Tensor, weight: Tensor, bias: Tensor, padding: List[int], stride: List[int],
             dilation: List[int], groups: int, attribute: str, numbers: List[float], algorithm: str):
    scalars: List[Optional[Union[int, float, complex]]] = []
    for number in numbers:
        scalars.append(number)
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, stride, dilation, groups, attribute, scalars, algorithm)
"""
    return cast(Callable[..., Tensor], torch._C.CompilationUnit(code).convolve)


def _can_reorder(weight: Tensor) -> bool:
    """Return True if oneDNN can store the weight in the layout of its kernels."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return (
        on_cpu
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def _fused_parameters(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Return weight [C, I, K, K] and bias [C] of the convolution followed by the norm in eval mode."""
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
    """Return weight and symmetric padding that are equivalent to TensorFlow's padding.

    TensorFlow may pad one more pixel at the bottom and right, which takes a padded copy of the input. Zeros
    before the filter's rows and columns have the same effect.
    """
    if not isinstance(convolution, Conv2dSame):
        return weight, cast(tuple[int, int], convolution.padding)
    wanted = [
        get_same_padding(n, k, s, d)
        for n, k, s, d in zip(
            size, convolution.kernel_size, convolution.stride, convolution.dilation, strict=True
        )
    ]
    after = (wanted[0] - wanted[0] // 2, wanted[1] - wanted[1] // 2)
    # With dilation a row of zeros would shift the others by more than one pixel.
    more = [2 * a - w for a, w in zip(after, wanted, strict=True)]
    if any(more) and tuple(convolution.dilation) != (1, 1):
        raise TypeError("Uneven padding of a dilated convolution.")
    return F.pad(weight, (more[1], 0, more[0], 0)), after
