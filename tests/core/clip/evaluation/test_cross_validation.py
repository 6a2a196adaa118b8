"""Cross-validation without test images: the fold models, their steps and their failures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.clip.config import AdaptConfig
from core.clip.data.images import open_image
from core.clip.data.transforms import to_image
from core.clip.errors import Cancelled
from core.clip.evaluation import cross_validation
from core.clip.evaluation.context import TrainingSet
from core.clip.evaluation.evaluate import OTHERS
from core.clip.evaluation.predictions import predict
from core.clip.inference.calibration import MIN_HELD_OUT
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone
from core.clip.pipeline import TrainedModel, adapt
from core.clip.prompts import class_prompts
from core.clip.training.checkpoint import Checkpoints
from core.clip.training.trainer import fine_tune
from tests.core.clip.recorder import Recorder, same_bits
from tests.core.clip.reports import read
from tests.core.clip.shots import as_tests, config, shots


def test_the_published_model_trains_on_all_images_and_each_fold_model_on_half(tiny: Backbone) -> None:
    every, recorder = shots("red", "green", "blue", each=6), Recorder()
    given = config(epochs=5, batch_size=6)
    result = adapt(tiny, every, given, reporter=recorder)
    assert result.evaluation.stored_metrics()["measured_on"] == {
        "source": "cross_validation",
        "images": 18,
        "trained_images": 18,
        "fold_models": 2,
    }
    assert result.evaluation.stored_metrics()["trained_classes"]["adapted"] > 0.5
    assert result.evaluation.stored_metrics()["new_classes"] is None
    assert recorder.phases == ["reading", "features", "steps", "support", "folds", "report"]
    assert recorder.warnings == []

    plain = adapt(tiny, every, given.model_copy(update={"evaluate": "none"}))
    assert same_bits(dict(plain.weights.delta.tensors), dict(result.weights.delta.tensors))
    assert plain.evaluation.report is None
    assert plain.evaluation.stored_metrics()["verdict"] == "not_evaluated"

    # 5 epochs of 3 batches. The steps of the fold models are a part of the evaluation.
    assert [p.step for p in recorder.steps] == list(range(1, 16))
    assert recorder.shares == sorted(set(recorder.shares))
    assert len(recorder.shares) == 2 * (4 * 2 + 1)
    assert recorder.shares[-1] == 1
    report = read(result.evaluation.report)
    assert (
        report.trained_classes.adapted.value
        == result.evaluation.stored_metrics()["trained_classes"]["adapted"]
    )
    assert len(report.distractor_classes) == OTHERS
    assert not {"red", "green", "blue"} & {w for name in report.distractor_classes for w in name.split()}


@pytest.mark.slow
def test_a_fold_model_predicts_only_images_that_it_was_not_trained_on(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves as far as the model: 15 steps for 18 images in batches of 6, 8 for 9 images in 4 epochs."""
    every = shots("red", "green", "blue", each=6)
    trained: list[set[bytes]] = []
    predicted: list[set[bytes]] = []
    settings: list[AdaptConfig] = []

    def noting_training(backbone: Backbone, images: Any, *given: Any, **named: Any) -> Any:
        trained.append({to_image(image).tobytes() for image in images})
        settings.append(given[2])
        return fine_tune(backbone, images, *given, **named)

    def noting_prediction(*given: Any, **named: Any) -> Any:
        predicted.append({open_image(image.read()).tobytes() for image in given[3]})
        return predict(*given, **named)

    monkeypatch.setattr(cross_validation, "fine_tune", noting_training)
    monkeypatch.setattr(cross_validation, "predict", noting_prediction)
    given = config(epochs=5, text_learning_rate=2e-4, classifier_learning_rate=0.9, seed=3)
    held = adapt(tiny, every, given).evaluation.held_out
    images = [open_image(shot.read()) for shot in every]
    assert [(fold.epochs, fold.batch_size, fold.seed) for fold in settings] == [(4, 6, 4), (4, 6, 5)]
    fold = settings[0]
    rates = (fold.learning_rate, fold.text_learning_rate, fold.classifier_learning_rate)
    assert rates == pytest.approx((15 / 8 * 1e-3, 15 / 8 * 2e-4, 1.0))  # at most 1
    assert [len(of_fold) for of_fold in predicted] == [9, 9]
    for seen, held_out in zip(trained, predicted, strict=True):
        assert seen == {image.tobytes() for image in images} - held_out

    # Each image has its own label, and its own scores by the stock model.
    names = ("red", "green", "blue")
    assert sorted(held.positions.tolist()) == list(range(18))
    assert [every[i].class_name for i in held.positions] == [names[i] for i in held.truth]
    prompts = [class_prompts(name, config().templates) for name in names]
    stock = Classifier(tiny).classify([images[i] for i in held.positions], prompts)
    np.testing.assert_allclose(held.stock.trained_only, stock.similarities.numpy(), rtol=0, atol=1e-5)


def test_photos_of_a_burst_are_in_one_fold_and_count_once(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three images each are of one photo here. `test_pile.py` tests which are."""
    monkeypatch.setattr(TrainingSet, "photos", property(lambda own: np.arange(len(own.labels)) // 3))
    predicted: list[list[int]] = []

    def noting_prediction(*given: Any, **named: Any) -> Any:
        predicted.append(given[5])
        return predict(*given, **named)

    monkeypatch.setattr(cross_validation, "predict", noting_prediction)
    every = [*shots("red", each=12), *shots("green", each=12, seed=50)]
    evaluation = adapt(tiny, every, config(epochs=2)).evaluation
    one, other = ({position // 3 for position in positions} for positions in predicted)
    assert not one & other
    assert sum(map(len, predicted)) == 24
    assert evaluation.held_out.positions.tolist() == [*map(min, predicted_photos(predicted))]
    assert evaluation.stored_metrics()["measured_on"]["images"] == 8
    assert evaluation.held_out.images_per_fold_model == 4


def predicted_photos(folds: list[list[int]]) -> list[list[int]]:
    """Return the positions of each photo, in the order in which the folds predict them."""
    photos: dict[int, list[int]] = {}
    for position in (position for fold in folds for position in fold):
        photos.setdefault(position // 3, []).append(position)
    return [*photos.values()]


def test_test_images_need_no_fold_model(tiny: Backbone) -> None:
    recorder = Recorder()
    tests = shots("red", "green", "grey", each=3, seed=77)
    result = adapt(
        tiny, [*shots("red", "green", each=6), *as_tests(tests)], config(epochs=2), reporter=recorder
    )
    assert len(recorder.steps) == 4
    assert recorder.shares == [1.0]
    report = read(result.evaluation.report)
    assert report.measured_on.source == "test"
    assert report.new_classes.images == 3
    assert report.distractor_classes == ["grey"]
    assert {m.position for m in report.mistakes} <= set(range(12, 21))


@pytest.mark.slow
def test_enough_images_give_a_calibration(tiny: Backbone) -> None:
    result = adapt(
        tiny, shots("red", "green", "blue", each=MIN_HELD_OUT // 3), config(epochs=1, batch_size=16)
    )
    fitted = result.evaluation.stored_metrics()["calibration"]
    assert fitted["images"] == len(fitted["nonconformity"]) == MIN_HELD_OUT
    assert fitted["alpha"] == 0.5
    assert read(result.evaluation.report).calibration.calibrated
    few = adapt(tiny, shots("red", "green", each=5), config(epochs=1))
    assert few.evaluation.stored_metrics()["calibration"] is None


@pytest.mark.slow
def test_an_interrupted_cross_validation_resumes_to_the_same_report(tiny: Backbone, tmp_path: Path) -> None:
    every, given = shots("red", "green", each=6), config(epochs=2, batch_size=6)
    whole = adapt(tiny, every, given)
    with pytest.raises(Cancelled):
        adapt(
            tiny,
            every,
            given,
            reporter=Recorder(cancel_evaluation=True),
            checkpoints=Checkpoints(tmp_path, seconds=0),
        )
    recorder = Recorder()
    again = adapt(tiny, every, given, reporter=recorder, checkpoints=Checkpoints(tmp_path, seconds=0))
    assert recorder.warnings == []
    assert recorder.steps == []  # Only the fold models have steps.
    assert same_bits(dict(again.weights.delta.tensors), dict(whole.weights.delta.tensors))
    assert again.evaluation.metrics == whole.evaluation.metrics


def test_a_failing_fold_model_costs_the_report_only(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr("core.clip.evaluation.cross_validation.fine_tune", out_of_memory)
    recorder = Recorder()
    result = adapt(tiny, shots("red", "green", each=6), config(epochs=1), reporter=recorder)
    assert [code for code, _ in recorder.warnings] == ["report_failed"]
    assert result.evaluation.stored_metrics()["verdict"] == "not_evaluated"


def test_a_model_is_complete_before_its_evaluation(tiny: Backbone) -> None:
    recorder = Recorder()
    early: list[TrainedModel] = []

    def publish(trained: TrainedModel) -> None:
        assert recorder.phases[-1] == "support"
        early.append(trained)

    every, given = shots("red", "green", each=6), config(epochs=2, batch_size=6)
    whole = adapt(tiny, every, given, reporter=recorder, on_trained=publish)
    assert early[0].weights is whole.weights
    assert whole.evaluation.metrics.measured_on.trained_images == 12

    again = Recorder()
    evaluated = adapt(tiny, every, given, reporter=again, on_trained=publish, trained=early[0])
    assert len(early) == 1
    assert (again.phases, again.steps) == (["reading", "features", "folds", "report"], [])
    assert evaluated.evaluation.metrics == whole.evaluation.metrics


@pytest.mark.slow
def test_label_issues_are_those_of_two_models(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single fold of a fifth predicts few images. The others have one vote: none is reported."""
    monkeypatch.setattr(TrainingSet, "photos", property(lambda own: np.arange(len(own.labels))))
    every = [*shots("red", "green", each=300)]
    planted = [every[i] for i in range(0, 600, 13)]
    other = {"red": "green", "green": "red"}
    images = [replace(s, class_name=other[s.class_name]) if s in planted else s for s in every]
    evaluation = adapt(tiny, images, config(epochs=1, batch_size=64)).evaluation
    assert evaluation.held_out.fold_models == 1
    held_out = set(evaluation.held_out.positions.tolist())
    assert len(held_out) == 120
    found = {issue.position for issue in read(evaluation.report).label_issues}
    assert found
    assert found <= held_out
