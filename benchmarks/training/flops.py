"""Floating-point operations of a training step, counted by torch."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from core.clip.config import AdaptConfig
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.models.features import encode_images, encode_tokens
from core.clip.training.conv_bn import fuse_conv_bn


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of matrix products and convolutions, which are nearly all.

    A multiplication with its addition counts as two.
    """

    forward: int
    backward: int


def _convolution_backward(
    of_output: Sequence[int],
    _x: Sequence[int],
    weight: Sequence[int],
    *rest: Any,
    **_: Any,
) -> int:
    # torch's formula treats grouped filters as full ones, and overcounts depthwise ones by the number of
    # channels. Each gradient costs as much as the forward pass: one filter per element of the output.
    gradients: list[bool] = rest[-1]
    return sum(gradients[:2]) * 2 * math.prod(of_output) * math.prod(weight[1:])


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(
    of_output: Sequence[int],
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_: Any,
    **__: Any,
) -> int:
    return int(sdpa_backward_flop_count(of_output, query, key, value))


FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    # CPU attention, which torch does not count.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_flops(function: Callable[[], Tensor]) -> Flops:
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as forward:
        result = function()
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as backward:
        if result.requires_grad:
            result.sum().backward()
    return Flops(forward.get_total_flops(), backward.get_total_flops())


def step_flops(backbone: Backbone, prompts: Sequence[str], config: AdaptConfig) -> dict[str, int]:
    """Return the floating-point operations of one step of the product, by tower.

    Args:
        prompts: one prompt per class of a batch.
    """
    student = copy.deepcopy(backbone.model)
    fuse_conv_bn(student, backbone.image_size)
    for name, parameter in tower_parameters(student).items():
        parameter.requires_grad_(name.startswith("visual.") or config.text_learning_rate != 0)
    pixels = torch.zeros(1, 3, backbone.image_size, backbone.image_size, device=backbone.device)
    tokens = backbone.tokenize(list(prompts)).to(backbone.device)
    image = count_flops(lambda: encode_images(student, pixels))
    text = count_flops(lambda: encode_tokens(student, tokens))
    batch = config.batch_size
    return {
        "image tower": batch * (image.forward + image.backward),
        "text tower": text.forward + text.backward,
        "teacher": batch * image.forward,
    }
