"""Faster training of convolutional image towers: fused BatchNorm, fast depthwise gradients on CPUs.

The network trains in eval mode, where BatchNorm is an affine map per channel with fixed statistics.
Fusing that map into the preceding convolution, differentiably at every step, leaves function and
parameters unchanged. It saves three passes over the largest tensors of the network.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from core.clip.models.features import find_convolutions, image_features


def fuse_conv_bn(model: nn.Module, image_size: int) -> None:
    """Fuse each BatchNorm2d into its preceding convolution, and speed up depthwise gradients, in place.

    Parameters, their names and the function (up to rounding) stay the same. Afterwards the network works
    only in eval mode. If the output would change, because a convolution feeds more than its norm, the network
    is left unmodified.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.padding_mode == "zeros"]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms and not any(map(_is_depthwise, convolutions)):
        return
    image = torch.linspace(-1, 1, 3 * image_size**2).view(1, 3, image_size, image_size)
    image = image.to(next(model.parameters()).device)
    before, found = find_convolutions(model, image)
    changed: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
    for convolution in convolutions:
        _, norm = found.get(convolution, ((), None))
        if norm is not None or _is_depthwise(convolution):
            changed[convolution] = _Fused(convolution, norm)
        if norm is not None:
            changed[norm] = _after(norm)
    for module, forward in changed.items():
        module.forward = forward
    if not torch.allclose(image_features(model, image), before, atol=1e-4):
        for module in changed:
            del module.forward


def _is_depthwise(convolution: nn.Conv2d) -> bool:
    c = convolution
    return c.groups == c.in_channels == c.out_channels > 1 and c.stride[0] == c.stride[1]


def _after(norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    """Return the rest of a fused norm: the activation of timm's BatchNormAct2d, else the identity."""
    activation: Callable[[Tensor], Tensor] = getattr(norm, "act", nn.Identity())
    return lambda x: activation(x)  # a module assigned to `forward` would be registered as a child


class _Fused:
    """Forward pass of a convolution and the norm after it, if any."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
        self.convolution, self.norm = convolution, norm

    def __call__(self, x: Tensor) -> Tensor:
        c, n = self.convolution, self.norm
        weight, bias = c.weight, c.bias
        if n is not None:
            scale = (cast(Tensor, n.running_var) + n.eps).rsqrt() * n.weight  # [C]
            mean = cast(Tensor, n.running_mean)
            bias = n.bias + scale * (-mean if bias is None else bias - mean)
            weight = weight * scale[:, None, None, None]
        padding = c.padding
        if isinstance(c, Conv2dSame):  # TensorFlow's padding depends on the input size
            x, padding = pad_same(x, list(c.kernel_size), list(c.stride), list(c.dilation)), (0, 0)
        stride = c.stride
        if c.kernel_size == (1, 1) and padding == (0, 0):
            # Skip pixels before the convolution, because on a CPU torch 2.13 crashes in the gradient of a
            # strided 1 x 1 filter with few channels.
            x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
        if _is_depthwise(c) and x.device.type == "cpu" and isinstance(padding, tuple):
            return depthwise(x, weight, bias, stride, padding, c.dilation)
        return F.conv2d(x, weight, bias, stride, padding, c.dilation, c.groups)


def depthwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """Apply F.conv2d with one filter per channel, in the autocast type if autocast is on.

    Args:
        x: [B, C, H, W]. weight: [C, 1, K, K]. bias: [C].
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    bias = None if bias is None else bias.to(dtype)
    arguments = (x.to(dtype), weight.to(dtype), bias, stride, padding, dilation)
    return cast(Tensor, _Depthwise.apply(*arguments))  # type: ignore[no-untyped-call]


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution with fp32 gradients where oneDNN's bf16 gradients are slow.

    oneDNN lacks a fast bf16 gradient for filters larger than 3 x 3, and for the input at stride 2. There fp32
    is 2 to 20 times faster, including the conversion.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Tensor:
        channels = x.shape[1]
        ctx.save_for_backward(x, weight)
        ctx.geometry = (stride, padding, dilation, False, (0, 0), channels)
        return F.conv2d(x, weight, bias, stride, padding, dilation, channels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (output_gradient,) = gradients
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]

        def differentiate(dtype: torch.dtype, wanted: list[bool]) -> tuple[Tensor | None, ...]:
            operands = (output_gradient.to(dtype), x.to(dtype), weight.to(dtype))
            computed = torch.ops.aten.convolution_backward(*operands, None, *ctx.geometry, [*wanted, False])
            return tuple(computed[:2])

        x_gradient = weight_gradient = None
        if needs_x:
            strided = ctx.geometry[0][0] > 1
            x_gradient = differentiate(torch.float32 if strided else x.dtype, [True, False])[0]
        if needs_weight:
            large = weight.shape[-1] > 3
            weight_gradient = differentiate(torch.float32 if large else x.dtype, [False, True])[1]
        bias_gradient = output_gradient.sum((0, 2, 3)) if needs_bias else None
        return (
            None if x_gradient is None else x_gradient.to(x.dtype),
            None if weight_gradient is None else weight_gradient.to(weight.dtype),
            bias_gradient,
            None,
            None,
            None,
        )
