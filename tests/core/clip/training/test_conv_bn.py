"""The model with fused convolutions against the plain one: values, gradients, and models left unchanged."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.clip.training.conv_bn import depthwise, fuse_conv_bn
from tests.core.clip.towers import Shared, Tower, pixels


def gradients(model: Tower, given: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model.encode_image(given).square().sum().backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "mobilenetv2_035", "resnet18", "vit_tiny_patch16_224"]
)
def test_a_fused_model_is_the_same_function_of_the_same_parameters(name: str) -> None:
    torch.manual_seed(0)
    size = 224 if name.startswith("vit") else 64
    plain = Tower(name)
    folded = copy.deepcopy(plain)
    fuse_conv_bn(folded, size)
    if not name.startswith("vit"):
        assert any("forward" in vars(module) for module in folded.modules())
    assert [n for n, _ in folded.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert list(folded.state_dict()) == list(plain.state_dict())
    given = pixels(2, size)
    torch.testing.assert_close(folded.encode_image(given), plain.encode_image(given), rtol=1e-3, atol=1e-4)
    expected, found = gradients(plain, given), gradients(folded, given)
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-2, atol=1e-4 * largest, msg=parameter)


def test_a_copy_of_a_fused_model_has_its_own_parameters() -> None:
    original = Tower("mobilenetv2_035")
    fuse_conv_bn(original, 64)
    copied = copy.deepcopy(original)
    given = pixels(2, 64)
    before = original.encode_image(given)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(original.encode_image(given), before)
    assert copied.encode_image(given).abs().max() == 0


def test_a_model_that_fusing_would_change_is_left_unchanged() -> None:
    model = Shared("resnet18")
    given = pixels(2, 64)
    before = model.encode_image(given)
    fuse_conv_bn(model, 64)
    assert torch.equal(model.encode_image(given), before)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_in_bf16_has_the_gradients_of_conv2d(kernel: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(2)
    shapes = ((2, 6, 11, 12), (6, 1, kernel, kernel), (6,))
    drawn = [torch.randn(shape, generator=generator).bfloat16().requires_grad_(True) for shape in shapes]
    geometry = ((stride, stride), (kernel // 2, kernel // 2), (1, 1))
    ours = depthwise(*drawn, *geometry)
    plain = F.conv2d(*(tensor.float() for tensor in drawn), *geometry, groups=6)
    of_output = torch.randn(plain.shape, generator=generator)
    found = torch.autograd.grad(ours, drawn, of_output.bfloat16())
    expected = torch.autograd.grad(plain, drawn, of_output)
    for one, other in zip((ours, *found), (plain, *expected), strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.float(), other.float(), rtol=2e-2, atol=0.2)


def test_depthwise_follows_autocast() -> None:
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 1, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = depthwise(x, weight, None, (1, 1), (1, 1), (1, 1))
    assert result.dtype == torch.bfloat16
    result.float().sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad.dtype == torch.float32


class Strided(nn.Module):
    """The first layer of FastViT, the image tower of MobileCLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 80, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(80)
        self.eval()

    def encode_image(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.bn(self.conv(pixels)).square().mean(dim=(2, 3))
        return features


def test_a_strided_filter_of_one_pixel_has_a_gradient() -> None:
    """In channels last, torch 2.13 crashes the process here."""
    torch.manual_seed(0)
    plain = Strided()
    fused = copy.deepcopy(plain)
    fuse_conv_bn(fused, 64)
    given = pixels(4, 256)
    plain.encode_image(given.contiguous()).square().sum().backward()  # type: ignore[no-untyped-call]
    fused.encode_image(given).square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(fused.conv.weight.grad, plain.conv.weight.grad, rtol=1e-3, atol=1e-4)
