import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcite.types.adapt import DeltaFormat
from core.clip.weights.delta import UNPACK_BATCH_SIZE, Delta, encode, tensor_layout
from core.clip.weights.ensemble import interpolate
from tests.core.clip.recorder import same_bits

SHAPES = {
    "vector": (7,),
    "matrix": (5, 40),
    "odd": (3, 33),
    "filters": (4, 3, 3, 3),
    "depthwise": (6, 1, 3, 3),
}
KINDS: list[DeltaFormat] = ["full", "4bit"]


def thetas(seed: int = 0, size: float = 1e-3) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    theta_0 = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return theta_0, {n: t + size * torch.randn(t.shape, generator=generator) for n, t in theta_0.items()}


def plain(theta_0: dict[str, Tensor], theta_1: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Compute the packed weights one row and one weight at a time."""
    found = {}
    for name, before in theta_0.items():
        after = before.clone()
        if before.dim() == 1:
            found[name] = torch.lerp(before, theta_1[name], alpha)
            continue
        for row in range(len(before)):
            difference = (theta_1[name][row] - before[row]).flatten()
            step = difference.abs().max() / 7
            kept = [step * round(float(d / step)) if step else torch.tensor(0.0) for d in difference]
            after[row] += alpha * torch.stack(kept).view_as(after[row])
        found[name] = after
    return found


@pytest.mark.parametrize("alpha", [0.01, 0.5, 1.0])
def test_a_packed_delta_is_the_rounded_difference(alpha: float) -> None:
    theta_0, theta_1 = thetas()
    theta = encode(theta_0, theta_1, "4bit").theta(theta_0, alpha)
    assert list(theta) == list(theta_0)
    torch.testing.assert_close(theta, plain(theta_0, theta_1, alpha), rtol=0, atol=3e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_0_is_theta_0_bit_for_bit(kind: DeltaFormat) -> None:
    theta_0, theta_1 = thetas()
    theta_0["matrix"][0, 0] = -0.0
    theta = encode(theta_0, theta_1, kind).theta(theta_0, 0)
    assert same_bits(theta, theta_0)
    theta["vector"].zero_()  # New tensors.
    assert theta_0["vector"].any()


def test_full_gives_theta_1_back_bit_for_bit() -> None:
    """This holds even where θ_0 + (θ_1 − θ_0) differs from θ_1."""
    theta_0, theta_1 = thetas()
    theta_0["matrix"][0, :2] = torch.tensor([1e8, 1.0])
    theta_1["matrix"][0, :2] = torch.tensor([0.1, -0.0])
    for delta in (encode(theta_0, theta_1, "full"), Delta("full", theta_1)):
        assert same_bits(delta.theta(theta_0, 1), theta_1)
        assert same_bits(delta.theta(theta_0, 0.3), interpolate(theta_0, theta_1, 0.3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_packed_size(kind: DeltaFormat) -> None:
    theta_0, theta_1 = thetas()
    delta = encode(theta_0, theta_1, kind)
    bits = {"full": 32, "4bit": 4}[kind]
    expected = 7 * 4
    for shape in list(SHAPES.values())[1:]:
        rows, columns = shape[0], math.prod(shape[1:])
        words = math.ceil(columns * bits / 32)
        expected += 4 * rows * (words + (kind != "full"))
    assert sum(tensor.nbytes for tensor in delta.tensors.values()) == expected
    assert tensor_layout(theta_0, kind) == {n: (t.dtype, tuple(t.shape)) for n, t in delta.tensors.items()}


def test_large_tensors_are_unpacked_in_pieces() -> None:
    generator = torch.Generator().manual_seed(1)
    for shape in ((UNPACK_BATCH_SIZE // 64 * 2 + 3, 64), (3, UNPACK_BATCH_SIZE + 5)):
        before = {"w": torch.randn(shape, generator=generator)}
        after = {"w": before["w"] + 1e-2 * torch.randn(shape, generator=generator)}
        theta = encode(before, after, "4bit").theta(before, 1)["w"]
        kept, moved = theta - before["w"], after["w"] - before["w"]
        assert bool(((kept - moved).abs().amax(dim=1) <= 1.01 * moved.abs().amax(dim=1)).all())
        cosine = torch.cosine_similarity(kept.flatten(), moved.flatten(), dim=0)
        assert cosine > 0.97


def test_any_memory_layout_of_theta_0() -> None:
    """A backbone may be kept in channels-last memory."""
    theta_0, theta_1 = thetas()
    turned = {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in theta_0.items()}
    for kind in KINDS:
        delta = encode(turned, theta_1, kind)
        assert same_bits(dict(delta.tensors), dict(encode(theta_0, theta_1, kind).tensors))
        assert same_bits(delta.theta(turned, 0.5), delta.theta(theta_0, 0.5))


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 70),
    seed=st.integers(0, 2**31),
    exponent=st.integers(-20, 4),
)
def test_four_bits_are_within_half_a_step(rows: int, columns: int, seed: int, exponent: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = torch.zeros(rows, columns)
    after = torch.randn(rows, columns, generator=generator) * 10.0**exponent
    theta = encode({"w": before}, {"w": after}, "4bit").theta({"w": before}, 1)["w"]
    assert bool(((theta - after).abs() <= 0.5001 * after.abs().amax(dim=1, keepdim=True) / 7).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [-0.01, 1.01, float("nan")])
def test_other_alphas_are_refused(kind: DeltaFormat, alpha: float) -> None:
    theta_0, theta_1 = thetas()
    with pytest.raises(ValueError, match="alpha"):
        encode(theta_0, theta_1, kind).theta(theta_0, alpha)


@pytest.mark.parametrize("kind", KINDS)
def test_other_parameters_are_refused(kind: DeltaFormat) -> None:
    theta_0, theta_1 = thetas()
    delta = encode(theta_0, theta_1, kind)
    with pytest.raises(ValueError, match="different parameters"):
        delta.theta({**theta_0, "more": torch.zeros(2)}, 0.5)
    with pytest.raises(ValueError, match="different parameters"):
        encode(theta_0, {"matrix": theta_1["matrix"]}, kind)


def test_a_non_finite_weight_shows_in_the_scale() -> None:
    theta_0, theta_1 = thetas()
    theta_1["matrix"][2, 2] = float("nan")
    delta = encode(theta_0, theta_1, "4bit")
    assert not torch.isfinite(delta.tensors["scale/matrix"][2])
