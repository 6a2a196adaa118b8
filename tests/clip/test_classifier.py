"""Features, heads and scores, on the tiny network."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from core.clip.backbone import Backbone, tower_parameters
from core.clip.classifier import Classifier
from core.clip.ensemble import interpolate
from core.clip.zero_shot import PICTURES_AT_ONCE_ON_CPU, TEXTS_AT_ONCE, image_features, text_head
from tests.clip.recorder import fingerprint, watch

TEXTS = [["a photo of a cat.", "a drawing of a cat."], ["a dog"], ["a tree", "a fir", "a drawing of a cat."]]


def pictures(count: int) -> list[Image.Image]:
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


def slow_head(backbone: Backbone, texts: Sequence[Sequence[str]]) -> Tensor:
    rows = []
    with torch.no_grad():
        for of_class in texts:
            vectors = [backbone.model.encode_text(backbone.tokenize([text]))[0] for text in of_class]
            mean = sum(v / v.norm() for v in vectors) / len(vectors)
            rows.append(mean / mean.norm())
    return torch.stack(rows)


def test_the_head_is_the_normalised_mean_of_normalised_texts(tiny: Backbone) -> None:
    head = text_head(tiny.model, tiny.tokenize, TEXTS)
    torch.testing.assert_close(head, slow_head(tiny, TEXTS), rtol=1e-5, atol=1e-6)
    assert not head.requires_grad


def test_shared_sentences_are_encoded_once(tiny: Backbone) -> None:
    watched = watch(tiny, "token_embedding")
    text_head(watched.backbone.model, tiny.tokenize, TEXTS)
    assert sum(len(p.given) for p in watched.passes["token_embedding"]) == 5


def test_many_texts_are_encoded_in_chunks(tiny: Backbone) -> None:
    texts = [[f"a photo of thing number {i}"] for i in range(TEXTS_AT_ONCE + 3)]
    watched = watch(tiny, "token_embedding")
    head = text_head(watched.backbone.model, tiny.tokenize, texts)
    assert [len(p.given) for p in watched.passes["token_embedding"]] == [TEXTS_AT_ONCE, 3]
    for i in (0, 1, TEXTS_AT_ONCE - 1, TEXTS_AT_ONCE, TEXTS_AT_ONCE + 2):
        torch.testing.assert_close(head[[i]], slow_head(tiny, [texts[i]]), rtol=1e-5, atol=1e-6)


def test_many_pictures_are_encoded_in_chunks(tiny: Backbone) -> None:
    pixels = torch.randn(PICTURES_AT_ONCE_ON_CPU + 5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    watched = watch(tiny, "visual")
    features = image_features(watched.backbone.model, pixels)
    assert [len(p.given) for p in watched.passes["visual"]] == [PICTURES_AT_ONCE_ON_CPU, 5]
    with torch.no_grad():
        whole = tiny.model.encode_image(pixels)
    torch.testing.assert_close(features, whole / whole.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert not features.requires_grad


def test_scores_are_cosines_and_their_softmax(tiny: Backbone) -> None:
    scores = Classifier(tiny).classify(pictures(4), TEXTS)
    assert scores.similarities.shape == scores.probabilities.shape == (4, 3)
    head = slow_head(tiny, TEXTS)
    for row, picture in enumerate(pictures(4)):
        with torch.no_grad():
            image = tiny.model.encode_image(tiny.preprocess(picture)[None])[0]
        cosines = [float(image @ text / image.norm() / text.norm()) for text in head]
        assert scores.similarities[row].tolist() == pytest.approx(cosines, abs=1e-5)
        weights = [math.exp(cosine / 0.07) for cosine in cosines]
        assert scores.probabilities[row].tolist() == pytest.approx(
            [w / sum(weights) for w in weights], abs=1e-4
        )


def test_classify_is_its_parts(tiny: Backbone, theta_1: dict[str, Tensor]) -> None:
    classifier = Classifier(tiny, theta_1)
    parts = classifier.scores(
        classifier.image_features(classifier.preprocess(pictures(3))), classifier.text_features(TEXTS)
    )
    whole = classifier.classify(pictures(3), TEXTS)
    assert torch.equal(parts.probabilities, whole.probabilities)
    assert torch.equal(parts.similarities, whole.similarities)


def test_at_alpha_0_it_is_the_stock_network_bit_for_bit(tiny: Backbone, theta_1: dict[str, Tensor]) -> None:
    stock, at_0 = Classifier(tiny), Classifier(tiny, theta_1, 0.0)
    assert stock.model is at_0.model is tiny.model  # no copy of what is the same
    one, other = stock.classify(pictures(3), TEXTS), at_0.classify(pictures(3), TEXTS)
    assert torch.equal(one.similarities, other.similarities)
    assert torch.equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_it_holds_the_ensemble_at_alpha(tiny: Backbone, theta_1: dict[str, Tensor], alpha: float) -> None:
    before = fingerprint(tiny.model)
    classifier = Classifier(tiny, theta_1, alpha)
    theta = interpolate(tower_parameters(tiny.model), theta_1, alpha)
    for name, parameter in classifier.model.named_parameters():
        expected = tiny.model.get_parameter(name) if name == "logit_scale" else theta[name]
        assert torch.equal(parameter, expected)
    scores = classifier.classify(pictures(3), TEXTS)
    assert (
        scores.similarities - Classifier(tiny).classify(pictures(3), TEXTS).similarities
    ).abs().max() > 0.01
    assert fingerprint(tiny.model) == before


def test_alpha_is_a_half_unless_said(tiny: Backbone, theta_1: dict[str, Tensor]) -> None:
    one, other = Classifier(tiny, theta_1), Classifier(tiny, theta_1, 0.5)
    assert torch.equal(one.model.get_parameter("visual.proj"), other.model.get_parameter("visual.proj"))


@pytest.mark.parametrize(
    "alpha",
    [1.5, -0.5, math.nan],
)
def test_other_alphas_are_refused(tiny: Backbone, theta_1: dict[str, Tensor], alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        Classifier(tiny, theta_1, alpha)


def test_new_names_are_helped_by_a_penalty_on_trained_ones(
    tiny: Backbone, theta_1: dict[str, Tensor]
) -> None:
    plain = Classifier(tiny, theta_1, 1.0)
    shots = plain.image_features(plain.preprocess(pictures(5)))
    classifier = Classifier(tiny, theta_1, 1.0, shots.expand(3, -1, -1))
    head = plain.text_features(TEXTS)
    margins = (shots @ head.T)[:, :2].amax(dim=1) - (shots @ head.T)[:, 2]
    trained = [0, 1] if margins.median() > 0 else [2]  # whichever its own shots prefer
    expected = 0.4 * margins.median().abs().item()

    scores = classifier.classify(pictures(4), TEXTS, trained=trained, balance=0.4)
    unbalanced = classifier.classify(pictures(4), TEXTS, trained=trained, balance=0)
    assert scores.penalty == pytest.approx(expected, rel=1e-3)
    assert unbalanced.penalty == 0
    assert torch.equal(scores.similarities, unbalanced.similarities)  # cosines stay cosines
    adjusted = scores.similarities.clone()
    adjusted[:, trained] -= scores.penalty
    torch.testing.assert_close(scores.probabilities, (tiny.logit_scale * adjusted).softmax(dim=-1))
    torch.testing.assert_close(unbalanced.probabilities, plain.classify(pictures(4), TEXTS).probabilities)
    # Among names of one kind there is nothing to balance, and the stock network has no shots.
    for among in ([], [0, 1, 2]):
        assert classifier.classify(pictures(1), TEXTS, trained=among).penalty == 0
    assert Classifier(tiny).classify(pictures(1), TEXTS, trained=trained).penalty == 0
    assert (
        Classifier(tiny, theta_1, 0.0, shots.expand(3, -1, -1))
        .classify(pictures(1), TEXTS, trained=trained)
        .penalty
        == 0
    )
