"""The optimised model against the plain one: equal features, or the plain model itself."""

import copy
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, ToTensor

from core.clip.data.transforms import Pixels
from core.clip.inference.optimised import InferencePlan, plan_inference
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.device import is_out_of_memory
from core.clip.models.features import encode_images, encode_tokens
from tests.core.clip.towers import Shared, Tower, pixels

PIXELS = Pixels(Compose([ToTensor(), Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))]))
NETWORKS = ["tf_efficientnet_lite0", "mobilenetv2_035", "resnet18"]


def differences(plan: InferencePlan, network: nn.Module, size: int) -> list[float]:
    """Return the differences of normalised features, for one image and for several."""
    form = plan.of(network)
    with torch.no_grad():
        return [
            float((encode_images(form, given) - encode_images(network, given)).abs().max())
            for given in (pixels(1, size), pixels(5, size))
        ]


# 67: at this size TensorFlow's padding is even at some strides and uneven at others.
@pytest.mark.parametrize(("name", "size"), [(name, size) for name in NETWORKS for size in (64, 67)])
def test_a_convolutional_tower_gives_the_same_features(name: str, size: int) -> None:
    torch.manual_seed(0)
    network = Tower(name)
    plan = plan_inference(network, size, PIXELS)
    assert plan.convolutions
    assert max(differences(plan, network, size)) < 1e-5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plan.of(network).modules())


def test_a_plan_applies_to_other_weights_and_does_not_change_the_model() -> None:
    torch.manual_seed(0)
    network = Tower("mobilenetv2_035")
    plan = plan_inference(network, 64, PIXELS)
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.data += 0.05 * parameter.data.abs().mean() * torch.randn_like(parameter)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    assert max(differences(plan, other, 64)) < 1e-5
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in other.modules())


def test_a_model_that_would_differ_is_served_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    network = Shared("resnet18")
    plan = plan_inference(network, 64, PIXELS)
    assert not plan.convolutions
    assert "not fused" in caplog.text
    assert differences(plan, network, 64) == [0, 0]


def test_without_batch_norm_there_is_nothing_to_change(tiny: Backbone) -> None:
    plan = plan_inference(tiny.model, tiny.image_size, PIXELS)
    assert not plan.convolutions
    assert cast(Any, plan.of(tiny.model)).network is tiny.model


def test_prompts_are_padded_to_the_longest(tiny: Backbone) -> None:
    seen: list[int] = []
    theta = {name: t + 0.01 * torch.randn_like(t) for name, t in tower_parameters(tiny.model).items()}
    network = with_parameters(tiny, theta)
    form = plan_inference(tiny.model, tiny.image_size, PIXELS).of(network)
    cast(Any, network).ln_final.register_forward_hook(lambda _m, _i, output: seen.append(output.shape[1]))
    sentences = ["a photo of a red fox.", "x", "a photo of a dog, a very large one, seen from far above."]
    tokens: Tensor = tiny.tokenize(sentences)
    # The second prompts are as long as the context: no padding can be trimmed.
    with torch.no_grad():
        for prompts in (tokens, tiny.tokenize(["fox " * 100])):
            padded = F.normalize(cast(Any, network).encode_text(prompts), dim=-1)
            for trimmed in (form, network):
                assert torch.allclose(encode_tokens(trimmed, prompts), padded, atol=1e-6)
    assert seen == [77, 18, 18, 77, 77, 77]


@pytest.mark.parametrize("name", [*NETWORKS, "vit_tiny_patch16_224"])
def test_the_tower_as_one_call_gives_the_same_features(name: str) -> None:
    torch.manual_seed(0)
    size = 224 if name.startswith("vit") else 64
    networks = [Tower(name), Tower(name)]
    for parameter in networks[1].parameters():
        parameter.data *= 1 + 0.01 * torch.randn_like(parameter)
    plan = plan_inference(networks[0], size, PIXELS)
    assert plan.program is not None
    stepwise = replace(plan, program=None)
    for network in networks:  # The recorded batch size and another one.
        one_call, step_by_step = plan.of(network), stepwise.of(network)
        for count in (1, 2, 5):
            fitted = torch.randint(256, (count, size, size, 3), dtype=torch.uint8)
            with torch.inference_mode():
                assert torch.equal(one_call.encode_fitted(fitted), step_by_step.encode_fitted(fitted))


def test_a_model_that_cannot_be_recorded_runs_in_python(caplog: pytest.LogCaptureFixture) -> None:
    class OfTheBatch(Tower):
        """Model whose computation depends on the batch size, which a recording cannot express."""

        def encode_image(self, pixels: Tensor) -> Tensor:
            return super().encode_image(pixels) + len(pixels) * torch.arange(16)

    network = OfTheBatch("resnet18")
    plan = plan_inference(network, 64, PIXELS)
    fitted = torch.randint(256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = encode_images(network, PIXELS.finish(fitted))
        assert torch.allclose(plan.of(network).encode_fitted(fitted), expected, atol=1e-5)
    assert plan.program is None
    assert "not traced" in caplog.text


def test_a_torch_without_torchscript_serves_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.jit, "trace")  # noqa: TID251
    network = Tower("mobilenetv2_035")
    plan = plan_inference(network, 64, PIXELS)
    fitted = torch.randint(256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = encode_images(network, PIXELS.finish(fitted))
        assert torch.allclose(plan.of(network).encode_fitted(fitted), expected, atol=1e-5)
    assert plan.convolutions
    assert "not traced" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_reduced_precision_is_recorded(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    size = 224 if name.startswith("vit") else 64
    network = Tower(name)
    plan = plan_inference(network, size, PIXELS, dtype)
    assert plan.program is not None
    fitted = torch.randint(256, (3, size, size, 3), dtype=torch.uint8)
    exact = plan_inference(network, size, PIXELS).of(network)
    with torch.inference_mode():
        features = plan.of(network).encode_fitted(fitted)
        assert torch.equal(features, replace(plan, program=None).of(network).encode_fitted(fitted))
        difference = float((features - exact.encode_fitted(fitted)).abs().max())
    assert features.dtype == torch.float32
    assert 1e-4 < difference < 0.05


def test_the_gpu_is_not_synchronised(tiny: Backbone) -> None:
    """A meta tensor refuses to give a number to Python, for which a GPU would have to be synchronised."""
    plan = plan_inference(tiny.model, tiny.image_size, Pixels(tiny.preprocess))
    network = replace(plan, program=None).of(copy.deepcopy(tiny.model).to("meta"))
    fitted = torch.zeros(2, tiny.image_size, tiny.image_size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        images = network.encode_fitted(fitted.to("meta"))
        texts = encode_tokens(network, tiny.tokenize(["a fox", "a badger"]))
    assert images.is_meta
    assert texts.is_meta


def test_lack_of_memory_in_the_recorded_call_is_recognised() -> None:
    """TorchScript replaces the type of the error."""

    class Hungry(Tower):
        """Network that needs a tensor of B^8 bytes."""

        def encode_image(self, pixels: Tensor) -> Tensor:
            zeros = pixels.new_zeros([pixels.shape[0] ** 8], dtype=torch.uint8)
            return super().encode_image(pixels) + zeros.sum()

    network = Hungry("resnet18")
    plan = plan_inference(network, 64, PIXELS)
    assert plan.program is not None
    form = plan.of(network)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="TorchScript") as caught:
        form.encode_fitted(torch.zeros(200, 64, 64, 3, dtype=torch.uint8))
    assert is_out_of_memory(caught.value)
