"""Predictions on held-out images."""

import numpy as np
import pytest
import torch

from core.clip.data.images import open_image
from core.clip.evaluation.context import Candidates, EvalContext, TrainingSet
from core.clip.evaluation.predictions import predict
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone
from core.clip.models.features import IMAGE_BATCH_SIZE
from core.clip.pipeline import adapt
from core.clip.training.progress import Reporter
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
        Candidates(("red", "green", "grey"), 2, prompts),
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
