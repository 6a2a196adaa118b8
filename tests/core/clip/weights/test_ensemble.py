import math

import pytest
import torch
from torch import Tensor

from core.clip.weights.ensemble import interpolate
from tests.core.clip.recorder import same_bits

AWKWARD = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 0.1, 1 / 3]


def thetas(one: list[float], other: list[float]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return {"visual.w": torch.tensor(one)}, {"visual.w": torch.tensor(other)}


def test_the_ends_are_bit_identical() -> None:
    pairs = [(a, b) for a in AWKWARD for b in AWKWARD]
    theta_0, theta_1 = thetas([a for a, _ in pairs], [b for _, b in pairs])
    assert same_bits(interpolate(theta_0, theta_1, 0), theta_0)
    assert same_bits(interpolate(theta_0, theta_1, 0.0), theta_0)
    assert same_bits(interpolate(theta_0, theta_1, 1), theta_1)
    assert same_bits(interpolate(theta_0, theta_1, 1.0), theta_1)


@pytest.mark.parametrize("alpha", [0.001, 0.25, 0.5, 0.7, 0.999])
def test_between_the_ends_the_result_is_the_formula(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    theta_0 = {"visual.a": torch.randn(7, 3, generator=generator), "b": torch.randn(5, generator=generator)}
    theta_1 = {name: t + torch.randn(t.shape, generator=generator) for name, t in theta_0.items()}
    theta = interpolate(theta_0, theta_1, alpha)
    assert list(theta) == list(theta_0)
    for name, tensor in theta.items():
        exact = alpha * theta_1[name].double() + (1 - alpha) * theta_0[name].double()
        torch.testing.assert_close(tensor.double(), exact, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_result_is_new(alpha: float) -> None:
    theta_0, theta_1 = thetas([1.0, 2.0], [3.0, 4.0])
    interpolate(theta_0, theta_1, alpha)["visual.w"].zero_()
    assert same_bits(theta_0, thetas([1.0, 2.0], [])[0])
    assert same_bits(theta_1, thetas([3.0, 4.0], [])[0])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_unequal_names_are_refused(alpha: float) -> None:
    one, two = {"a": torch.ones(1)}, {"a": torch.ones(1), "b": torch.ones(1)}
    for theta_0, theta_1 in ((one, two), (two, one)):
        with pytest.raises(ValueError, match="'b'"):
            interpolate(theta_0, theta_1, alpha)


@pytest.mark.parametrize("alpha", [-0.001, 1.001, 2.0, -math.inf, math.nan])
def test_alpha_outside_0_to_1_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        interpolate(*thetas([1.0], [2.0]), alpha)


def test_theta_1_comes_from_a_file_while_theta_0_is_on_a_device() -> None:
    theta_0 = {"w": torch.zeros(3, device="meta")}  # Any device other than the CPU.
    for alpha in (0.0, 0.5):
        assert interpolate(theta_0, {"w": torch.ones(3)}, alpha)["w"].device.type == "meta"
