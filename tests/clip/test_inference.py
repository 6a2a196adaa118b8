"""The form that serves against the plain network: the same answers, or the plain network itself."""

import copy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from core.clip.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from core.clip.inference import InferencePlan, plan_inference
from core.clip.zero_shot import encode_images, encode_tokens
from tests.clip.test_folding import Shared, Tower, pixels
from tests.clip.tiny import make_tiny_backbone

NETWORKS = ["tf_efficientnet_lite0", "mobilenetv2_035", "resnet18"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder: Path = tmp_path_factory.mktemp("tiny")
    return load_backbone(make_tiny_backbone(folder / "network"), cache=folder)


def differences(plan: InferencePlan, network: nn.Module, size: int) -> list[float]:
    """In normalised features, for one picture and for several."""
    form = plan.of(network)
    with torch.no_grad():
        return [
            float((encode_images(form, given) - encode_images(network, given)).abs().max())
            for given in (pixels(1, size), pixels(5, size))
        ]


# 67: where TensorFlow's padding is even at some strides and uneven at others.
@pytest.mark.parametrize(("name", "size"), [(name, size) for name in NETWORKS for size in (64, 67)])
def test_a_convolutional_tower_gives_the_same_features(name: str, size: int) -> None:
    torch.manual_seed(0)
    network = Tower(name)
    plan = plan_inference(network, size)
    assert plan.convolutions
    assert max(differences(plan, network, size)) < 1e-5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plan.of(network).modules())


def test_the_plan_is_for_other_weights_too_and_leaves_the_network_as_it_is() -> None:
    torch.manual_seed(0)
    network = Tower("mobilenetv2_035")
    plan = plan_inference(network, 64)
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.data += 0.05 * parameter.data.abs().mean() * torch.randn_like(parameter)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    assert max(differences(plan, other, 64)) < 1e-5
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in other.modules())


def test_a_network_that_would_answer_otherwise_is_served_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    network = Shared("resnet18")
    plan = plan_inference(network, 64)
    assert not plan.convolutions
    assert "as it is" in caplog.text
    assert differences(plan, network, 64) == [0, 0]


def test_without_batch_norm_there_is_nothing_to_change(tiny: Backbone) -> None:
    plan = plan_inference(tiny.model, tiny.image_size)
    assert not plan.convolutions
    assert cast(Any, plan.of(tiny.model)).network is tiny.model


def test_a_picture_of_another_size_is_refused() -> None:
    network = Tower("mobilenetv2_035")
    form = plan_inference(network, 64).of(network)
    with pytest.raises(ValueError, match="64 x 64 pixels, not of 67 x 67"):
        form.encode_image(pixels(1, 67))


def test_texts_are_as_long_as_the_longest_needs(tiny: Backbone) -> None:
    seen: list[int] = []
    theta = {name: t + 0.01 * torch.randn_like(t) for name, t in tower_parameters(tiny.model).items()}
    network = with_parameters(tiny, theta)
    form = plan_inference(tiny.model, tiny.image_size).of(network)
    cast(Any, network).ln_final.register_forward_hook(lambda _m, _i, output: seen.append(output.shape[1]))
    sentences = ["a photo of a red fox.", "x", "a photo of a dog, a very large one, seen from far above."]
    tokens: Tensor = tiny.tokenize(sentences)
    with torch.no_grad():
        assert torch.allclose(encode_tokens(form, tokens), encode_tokens(network, tokens), atol=1e-6)
        # As long as the context: nothing can be left out.
        longest = tiny.tokenize(["fox " * 100])
        assert torch.allclose(encode_tokens(form, longest), encode_tokens(network, longest), atol=1e-6)
    assert seen == [18, 77, 77, 77]
