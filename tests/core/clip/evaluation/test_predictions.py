"""Predictions on held-out images: a sample of many images is on the curve."""

import numpy as np

from core.clip.evaluation.predictions import Candidates, HeldOutPredictions, predict
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone
from core.clip.models.features import IMAGE_BATCH_SIZE
from core.clip.pipeline import adapt
from core.clip.training.progress import Reporter
from tests.core.clip.test_pipeline import config, shots


def test_every_third_image_is_on_the_curve(tiny: Backbone) -> None:
    weights = adapt(tiny, shots("red", "green"), config(epochs=1, evaluate="none")).weights
    support = weights.shots
    assert support is not None
    images = shots("red", "green", each=IMAGE_BATCH_SIZE // 2 + 3, seed=50)  # More than one chunk.
    count = len(images)

    def predicted(curve_images: int) -> HeldOutPredictions:
        return predict(
            tiny,
            weights,
            Candidates(("red", "green", "grey"), 2, (("a red",), ("a green",), ("a grey",))),
            PrototypeClassifier(support.features[0].float(), support.labels),
            [shot.source for shot in images],
            [i % 2 for i in range(count)],
            range(count),
            alpha=0.5,
            curve=(0.0, 0.5, 1.0),
            curve_images=curve_images,
            reporter=Reporter(),
        )

    every, some = predicted(count), predicted(-(-count // 3))
    assert every.on_curve.tolist() == list(range(count))
    assert some.on_curve.tolist() == list(range(0, count, 3))
    assert list(some.curve) == [0.0, 0.5, 1.0]
    for alpha, scores in some.curve.items():
        expected = every.curve[alpha].all_classes[some.on_curve]
        np.testing.assert_allclose(scores.all_classes, expected, rtol=0, atol=1e-5)
        assert np.abs(np.diff(expected, axis=0)).max(axis=1).min() > 1e-5  # No image for its neighbour.
