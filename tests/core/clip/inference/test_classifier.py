"""Features, classifier weights and scores, on the tiny model."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from core.clip.inference.classifier import Classifier
from core.clip.inference.request_rule import adapted_rule
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.models.features import (
    CPU_IMAGE_BATCH_SIZE,
    PROMPT_BATCH_SIZE,
    build_zero_shot_classifier,
    image_features,
)
from core.clip.weights.delta import Delta
from core.clip.weights.ensemble import interpolate
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SupportSet
from tests.core.clip.recorder import fingerprint, watch

TEXTS = [["a photo of a cat.", "a drawing of a cat."], ["a dog"], ["a tree", "a fir", "a drawing of a cat."]]


def images(count: int) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [
        Image.fromarray(generator.integers(0, 256, (30 + i % 9, 40, 3), dtype=np.uint8)) for i in range(count)
    ]


@pytest.fixture(scope="module")
def theta_1(tiny: Backbone) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: (p + torch.randn(p.shape, generator=generator) / 50).detach()
        for name, p in tower_parameters(tiny.model).items()
    }


def slow_classifier_weights(backbone: Backbone, prompts: Sequence[Sequence[str]]) -> Tensor:
    rows = []
    with torch.no_grad():
        for of_class in prompts:
            vectors = [backbone.model.encode_text(backbone.tokenize([text]))[0] for text in of_class]
            mean = sum(v / v.norm() for v in vectors) / len(vectors)
            rows.append(mean / mean.norm())
    return torch.stack(rows)


def test_classifier_weights_are_the_normalised_mean_of_normalised_prompts(tiny: Backbone) -> None:
    head = build_zero_shot_classifier(tiny.model, tiny.tokenize, TEXTS)
    torch.testing.assert_close(head, slow_classifier_weights(tiny, TEXTS), rtol=1e-5, atol=1e-6)
    assert not head.requires_grad


def test_shared_prompts_are_encoded_once(tiny: Backbone) -> None:
    watched = watch(tiny, "token_embedding")
    build_zero_shot_classifier(watched.backbone.model, tiny.tokenize, TEXTS)
    assert sum(len(p.given) for p in watched.passes["token_embedding"]) == 5


def test_many_prompts_are_encoded_in_chunks(tiny: Backbone) -> None:
    prompts = [[f"a photo of thing number {i}"] for i in range(PROMPT_BATCH_SIZE + 3)]
    watched = watch(tiny, "token_embedding")
    head = build_zero_shot_classifier(watched.backbone.model, tiny.tokenize, prompts)
    assert [len(p.given) for p in watched.passes["token_embedding"]] == [PROMPT_BATCH_SIZE, 3]
    for i in (0, 1, PROMPT_BATCH_SIZE - 1, PROMPT_BATCH_SIZE, PROMPT_BATCH_SIZE + 2):
        torch.testing.assert_close(
            head[[i]], slow_classifier_weights(tiny, [prompts[i]]), rtol=1e-5, atol=1e-6
        )


def test_many_images_are_encoded_in_chunks(tiny: Backbone) -> None:
    pixels = torch.randn(CPU_IMAGE_BATCH_SIZE + 5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    watched = watch(tiny, "visual")
    features = image_features(watched.backbone.model, pixels)
    assert [len(p.given) for p in watched.passes["visual"]] == [CPU_IMAGE_BATCH_SIZE, 5]
    with torch.no_grad():
        whole = tiny.model.encode_image(pixels)
    torch.testing.assert_close(features, whole / whole.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert not features.requires_grad


def test_scores_are_cosines_and_their_softmax(tiny: Backbone) -> None:
    scores = Classifier(tiny).classify(images(4), TEXTS)
    assert scores.similarities.shape == scores.probabilities.shape == (4, 3)
    head = slow_classifier_weights(tiny, TEXTS)
    for row, image in enumerate(images(4)):
        with torch.no_grad():
            feature = tiny.model.encode_image(tiny.preprocess(image)[None])[0]
        cosines = [float(feature @ text / feature.norm() / text.norm()) for text in head]
        assert scores.similarities[row].tolist() == pytest.approx(cosines, abs=1e-5)
        weights = [math.exp(cosine / 0.07) for cosine in cosines]
        assert scores.probabilities[row].tolist() == pytest.approx(
            [w / sum(weights) for w in weights], abs=1e-4
        )


def test_at_alpha_0_it_is_the_stock_model_bit_for_bit(tiny: Backbone, theta_1: dict[str, Tensor]) -> None:
    stock, at_0 = Classifier(tiny), Classifier(tiny, Weights(Delta("full", theta_1)), 0.0)
    assert stock.model is at_0.model is tiny.model  # Equal weights are not copied.
    one, other = stock.classify(images(3), TEXTS), at_0.classify(images(3), TEXTS)
    assert torch.equal(one.similarities, other.similarities)
    assert torch.equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_a_classifier_holds_the_ensemble_at_alpha(
    tiny: Backbone, theta_1: dict[str, Tensor], alpha: float
) -> None:
    before = fingerprint(tiny.model)
    classifier = Classifier(tiny, Weights(Delta("full", theta_1)), alpha)
    theta = interpolate(tower_parameters(tiny.model), theta_1, alpha)
    for name, parameter in classifier.model.named_parameters():
        expected = tiny.model.get_parameter(name) if name == "logit_scale" else theta[name]
        assert torch.equal(parameter, expected)
    scores = classifier.classify(images(3), TEXTS)
    assert (scores.similarities - Classifier(tiny).classify(images(3), TEXTS).similarities).abs().max() > 0.01
    assert fingerprint(tiny.model) == before


def test_probabilities_follow_the_rule_of_the_request(tiny: Backbone, theta_1: dict[str, Tensor]) -> None:
    plain = Classifier(tiny, Weights(Delta("full", theta_1)), 1.0)
    features = plain.image_features(plain.preprocess(images(5)))
    shots = SupportSet(features.expand(3, -1, -1), torch.tensor([0, 1, 0, 1, 0]))
    classifier = Classifier(tiny, Weights(Delta("full", theta_1), shots), 1.0)
    classes = [0, 1, -1]

    scores = classifier.classify(images(4), TEXTS, classes=classes, balance=0.4)
    unbalanced = classifier.classify(images(4), TEXTS, classes=classes, balance=0)
    texts = plain.text_features(TEXTS)
    expected = adapted_rule((features, shots.labels), texts, classes, tiny.logit_scale, 0.4)
    torch.testing.assert_close(scores.rule.offsets, expected.offsets)
    torch.testing.assert_close(scores.rule.classifier_weights, expected.classifier_weights)
    assert expected.among_trained is not None
    assert not unbalanced.rule.offsets.any()
    assert torch.equal(scores.similarities, unbalanced.similarities)  # Similarities remain cosines.
    by_rule = expected.scores(plain.image_features(plain.preprocess(images(4))))
    torch.testing.assert_close(scores.scores, by_rule)
    torch.testing.assert_close(scores.probabilities, (tiny.logit_scale * by_rule).softmax(dim=-1))
    torch.testing.assert_close(unbalanced.probabilities, plain.classify(images(4), TEXTS).probabilities)
    # The stock model has no support set.
    for stock in (Classifier(tiny), Classifier(tiny, Weights(Delta("full", theta_1), shots), 0.0)):
        rule = stock.classify(images(1), TEXTS, classes=classes).rule
        assert rule.kind == "untrained"
        assert not rule.offsets.any()
