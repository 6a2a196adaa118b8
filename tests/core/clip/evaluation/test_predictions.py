"""Predictions on held-out images."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from core.clip.data.images import open_image
from core.clip.evaluation.context import EvalContext, TrainingSet
from core.clip.evaluation.predictions import predict
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone
from core.clip.models.features import IMAGE_BATCH_SIZE
from core.clip.pipeline import adapt
from core.clip.prompts import Candidates
from core.clip.training.progress import Reporter
from core.clip.weights.support_set import SupportSet
from tests.core.clip.shots import config, shots


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_each_image_has_the_scores_of_a_classifier_with_this_alpha(tiny: Backbone, alpha: float) -> None:
    weights = adapt(tiny, shots("red", "green"), config(epochs=1, evaluate="none")).weights
    images = shots("red", "green", each=IMAGE_BATCH_SIZE // 2 + 3, seed=50)  # More than one batch.
    trained = TrainingSet(("red", "green"), [4, 4], [], [], [], [], torch.empty(0))
    prompts = (("a red",), ("a green",), ("a grey",))
    held = predict(
        EvalContext(tiny, trained, config(alpha=alpha)),
        weights,
        Candidates(("red", "green", "grey"), (0, 1, -1), prompts),
        images,
        [i % 2 for i in range(len(images))],
        range(len(images)),
        Reporter(),
    )
    decoded = [open_image(shot.read()) for shot in images]
    for scores, at in ((held.stock, 0.0), (held.adapted, alpha)):
        expected = Classifier(tiny, weights, at).classify(decoded, prompts, classes=[0, 1, -1]).scores.numpy()
        np.testing.assert_allclose(scores.all_classes, expected, rtol=0, atol=1e-5)
        assert np.abs(np.diff(expected, axis=0)).max(axis=1).min() > 1e-5  # No image for its neighbour.


def test_what_the_model_was_not_trained_for_has_the_scores_of_the_pre_trained_model(tiny: Backbone) -> None:
    """As in a request. Scores of the trained classes alone stay."""
    weights = adapt(tiny, shots("red", "green"), config(epochs=1, evaluate="none")).weights
    assert weights.shots is not None
    pool = shots("red", each=12, seed=50)
    adapted = Classifier(tiny, weights, 0.5)
    decoded = [open_image(shot.content) for shot in pool]
    images = adapted.image_features(adapted.preprocess(decoded))
    near = images @ images.T
    pair = max(combinations(range(len(pool)), 2), key=lambda p: float(near[p]))
    # The training images are a pair that is nearer to each other than to any other image.
    seen = SupportSet(images[list(pair)].expand(3, -1, -1).clone(), torch.tensor([0, 1]))
    prompts = (("a red",), ("a green",), ("a b",), ("the old house",), ("7",))
    held = predict(
        EvalContext(
            tiny,
            TrainingSet(("red", "green"), [4, 4], [], [], [], [], torch.empty(0)),
            config(alpha=0.5),
        ),
        replace(weights, shots=seen),
        Candidates(("red", "green", "b", "the old house", "7"), (0, 1, -1, -1, -1), prompts),
        pool,
        [0] * len(pool),
        range(len(pool)),
        Reporter(),
    )
    texts = Classifier(tiny).text_features(prompts)
    names = [max(float(text @ t) for t in texts[:2]) < float(texts[0] @ texts[1]) for text in texts]
    plain = Classifier(tiny, replace(weights, shots=seen), 0.5)
    own = {
        kind: plain.classify(decoded, prompts[of], classes=[0, 1, -1, -1, -1][of]).scores.numpy()
        for kind, of in (("trained_only", slice(2)), ("all_classes", slice(None)), ("new_only", slice(2, 5)))
    }
    np.testing.assert_allclose(held.adapted.trained_only, own["trained_only"], rtol=0, atol=1e-5)
    replaced = 0
    for kind, first in (("all_classes", 0), ("new_only", 2)):
        found, stock = getattr(held.adapted, kind), getattr(held.stock, kind)
        for row in range(len(pool)):
            before = row not in pair and names[first + int(stock[row].argmax())]
            np.testing.assert_allclose(found[row], (stock if before else own[kind])[row], rtol=0, atol=1e-5)
            replaced += before
    assert replaced
