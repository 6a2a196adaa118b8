"""Predictions on held-out images, at the model's own α and on the curve."""

import numpy as np
import torch

from core.clip.evaluation.context import Candidates, EvalContext, TrainingSet
from core.clip.evaluation.predictions import CURVE, ClassScores, predict
from core.clip.models.backbone import Backbone
from core.clip.models.features import IMAGE_BATCH_SIZE
from core.clip.pipeline import adapt
from core.clip.training.progress import Reporter
from tests.core.clip.test_pipeline import config, shots


def test_the_curve_has_the_scores_of_a_model_with_this_alpha(tiny: Backbone) -> None:
    weights = adapt(tiny, shots("red", "green"), config(epochs=1, evaluate="none")).weights
    images = shots("red", "green", each=IMAGE_BATCH_SIZE // 2 + 3, seed=50)  # More than one batch.

    def at(alpha: float) -> tuple[ClassScores, dict[float, ClassScores]]:
        trained = TrainingSet(("red", "green"), [4, 4], [], [], [], [], torch.empty(0), 0.0)
        held = predict(
            EvalContext(tiny, trained, config(alpha=alpha)),
            weights,
            Candidates(("red", "green", "grey"), 2, (("a red",), ("a green",), ("a grey",))),
            [shot.source for shot in images],
            [i % 2 for i in range(len(images))],
            range(len(images)),
            Reporter(),
        )
        return held.adapted, dict(held.curve)

    curve = at(0.3)[1]
    assert tuple(curve) == CURVE
    for alpha, scores in curve.items():
        expected = at(alpha)[0].all_classes
        np.testing.assert_allclose(scores.all_classes, expected, rtol=0, atol=1e-5)
        assert np.abs(np.diff(expected, axis=0)).max(axis=1).min() > 1e-5  # No image for its neighbour.
