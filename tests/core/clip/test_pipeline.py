"""adapt() from files to metrics: on the tiny model, and once on real images with the starter."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image as Pillow
from torch import Tensor, nn

from clipcite.types.images import Image
from core.clip.checks.image_stats import SIDE, measure_image
from core.clip.config import AdaptConfig
from core.clip.data import images
from core.clip.data.images import open_image
from core.clip.errors import Cancelled, InvalidClassNames, OutOfMemory
from core.clip.evaluation.accuracy import job_metrics
from core.clip.evaluation.context import EvalContext, TrainingSet
from core.clip.evaluation.evaluate import predict_test_images
from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone, load_backbone, tower_parameters
from core.clip.pipeline import Adapted, adapt
from core.clip.prompts import class_prompts
from core.clip.training.progress import Reporter, StepProgress
from core.clip.weights import support_set
from core.clip.weights.delta import Delta, encode
from core.clip.weights.files import Weights, load_weights, save_weights
from core.clip.weights.manifest import WEIGHTS
from core.clip.weights.support_set import (
    MAX_SUPPORT_SHOTS,
    SUPPORT_ALPHAS,
    encode_support_set,
    support_shots,
)
from tests.core.clip.recorder import Recorder, same_bits, watch
from tests.core.clip.reports import read
from tests.core.clip.shots import as_tests, config, shot, shots


@pytest.fixture(scope="module")
def adapted(tiny: Backbone) -> Adapted:
    """Train on three colours; test on them and on a fourth."""
    tests = shots("red", "green", "blue", "grey", each=5, seed=1000)
    return adapt(tiny, [*shots("red", "green", "blue"), *as_tests(tests)], config(alpha=1.0))


def test_the_model_learns_and_is_evaluated(adapted: Adapted) -> None:
    assert adapted.class_names == ("red", "green", "blue")
    assert adapted.evaluation.stored_metrics()["measured_on"] == {
        "source": "test",
        "images": 20,
        "trained_images": 12,
        "fold_models": 0,
    }
    trained, new = (
        adapted.evaluation.stored_metrics()["trained_classes"],
        adapted.evaluation.stored_metrics()["new_classes"],
    )
    assert trained["adapted"] == 1
    assert trained["stock"] < 0.9
    assert trained["difference"]["value"] == pytest.approx(trained["adapted"] - trained["stock"])
    # With a single new class as the only candidate, every prediction is correct.
    assert new["adapted"] == new["stock"] == 1
    assert len(adapted.evaluation.held_out.truth) == 20


def held_of(
    backbone: Backbone,
    weights: Weights,
    class_names: Sequence[str],
    tests: list[Image],
    given: AdaptConfig,
    reporter: Reporter,
) -> HeldOutPredictions:
    trained = TrainingSet(tuple(class_names), [], [], [], [], [], torch.empty(0))
    return predict_test_images(
        EvalContext(backbone, trained, given), weights, list(enumerate(tests)), reporter
    )


def correct_per_model(held: HeldOutPredictions | None) -> tuple[list[bool], list[bool]]:
    """Return per image whether the stock and the adapted model predict the true class.

    The candidates are the trained classes and those of the images.
    """
    new = (held.truth >= held.candidates.trained).any()
    stock, adapted = (a.all_classes if new else a.trained_only for a in (held.stock, held.adapted))
    return (stock.argmax(1) == held.truth).tolist(), (adapted.argmax(1) == held.truth).tolist()


def test_the_support_set_has_the_models_features(tiny: Backbone, adapted: Adapted) -> None:
    images = [open_image(s.read()) for s in shots("red", "green", "blue")]
    for kept, alpha in zip(adapted.weights.shots.features, SUPPORT_ALPHAS, strict=True):
        classifier = Classifier(tiny, adapted.weights, alpha)
        expected = classifier.image_features(classifier.preprocess(images))
        torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-5)


def test_the_support_set_holds_a_sample_of_many_shots(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support_set, "MAX_SUPPORT_SHOTS", 6)
    training = sorted(shots("red", "green", "blue", each=4), key=lambda shot: shot.class_name)
    kept = adapt(tiny, training, config(epochs=1, evaluate="none")).weights.shots
    assert kept.labels.tolist() == [0, 0, 1, 1, 2, 2]
    images = [open_image(training[i].read()) for i in (0, 1, 4, 5, 8, 9)]
    classifier = Classifier(tiny)
    expected = classifier.image_features(classifier.preprocess(images))
    torch.testing.assert_close(kept.features[0], expected, rtol=1e-4, atol=1e-5)


@example(labels=[*[0] * 300, *range(1, 20)])
@example(labels=[*range(300), *range(300)])
@given(labels=st.lists(st.integers(0, 400), max_size=900))
def test_every_class_has_its_share_of_the_support_set(labels: list[int]) -> None:
    chosen = support_shots(labels)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(len(labels), max(MAX_SUPPORT_SHOTS, len(set(labels))))
    number, left = Counter(labels[i] for i in chosen), Counter(labels)
    left.subtract(number)
    assert set(number) == set(labels)
    # A class with a shot left over has at most one less than any other.
    assert all(number[c] >= max(number.values()) - 1 for c, rest in left.items() if rest)


def test_a_support_set_of_many_classes_keeps_their_shots_and_needs_little_memory(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def features(model: nn.Module, pixels: Tensor) -> Tensor:
        encoded.append(len(pixels))
        return torch.zeros(len(pixels), 8)

    monkeypatch.setattr(support_set, "image_features", features)
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 400
    theta_0 = tower_parameters(tiny.model)
    kept = encode_support_set(tiny, Delta("full", theta_0), images, [i % 50 for i in range(400)])
    assert kept.features.shape == (3, 400, 8)
    assert max(encoded) <= 64


def test_the_support_shots_pass_the_stock_model_once_and_before_the_first_step(tiny: Backbone) -> None:
    """Every pass after the last step delays the model."""
    watched = watch(tiny, "visual")
    training, stock = shots("red", "green", "blue"), watched.backbone.model.get_submodule("visual")

    def passed() -> int:
        return sum(len(p.given) for p in watched.passes["visual"] if p.module is stock)

    class Counts(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.passed: set[int] = set()

        def step(self, progress: StepProgress) -> None:
            self.passed.add(passed())

    reporter = Counts()
    tests = shots("grey", each=2, seed=9)
    found = adapt(watched.backbone, [*training, *as_tests(tests)], config(), reporter=reporter)
    kept = found.weights.shots
    assert reporter.passed == {len(kept.labels)} == {len(training)}
    assert passed() == len(training) + len(tests)


def test_the_evaluation_equals_a_classifiers_predictions(tiny: Backbone, adapted: Adapted) -> None:
    tests = shots("grey", "red", "green", "blue", each=5, seed=1000)
    names = ["red", "green", "blue", "grey"]
    prompts = [class_prompts(name, ["a photo of a {}."]) for name in names]
    for alpha in (0.5, 1.0):
        held = held_of(tiny, adapted.weights, adapted.class_names, tests, config(alpha=alpha), Reporter())
        for weights, right in zip((None, adapted.weights), correct_per_model(held), strict=True):
            classifier = Classifier(tiny, weights, alpha)
            images = [open_image(s.read()) for s in tests]
            scores = classifier.classify(images, prompts, classes=[0, 1, 2, -1])
            answers = [names[i] for i in scores.probabilities.argmax(dim=1).tolist()]
            assert right == [a == s.class_name for a, s in zip(answers, tests, strict=True)]


@pytest.mark.slow
def test_the_loss_from_packing_is_evaluated(tiny: Backbone) -> None:
    """Predictions and support set come from the packed weights."""
    tests = shots("red", "green", "blue", "grey", each=5, seed=1000)
    training, given = shots("red", "green", "blue"), {"alpha": 1.0, "learning_rate": 3e-2, "epochs": 2}
    packed = adapt(tiny, [*training, *as_tests(tests)], config(**given, delta_format="4bit"))
    full = adapt(tiny, [*training, *as_tests(tests)], config(**given, delta_format="full"))
    small, large = (sum(t.nbytes for t in each.weights.delta.tensors.values()) for each in (packed, full))
    assert small < large / 5
    theta_0 = tower_parameters(tiny.model)
    again = encode(theta_0, full.weights.delta.tensors, "4bit")
    assert same_bits(dict(packed.weights.delta.tensors), dict(again.tensors))
    for adapted in (packed, full):
        held = held_of(tiny, adapted.weights, adapted.class_names, tests, config(**given), Reporter())
        assert correct_per_model(held) == correct_per_model(adapted.evaluation.held_out)
    assert not torch.equal(packed.weights.shots.features[2], full.weights.shots.features[2])


def test_trained_and_tested_spellings_are_one_class(tiny: Backbone, adapted: Adapted) -> None:
    tests = [shot(name, 3000 + i, name.upper()) for i in range(3) for name in ("red", "green", "blue")]
    held = held_of(tiny, adapted.weights, adapted.class_names, tests, config(alpha=1.0), Reporter())
    metrics = job_metrics(held, source="test", trained_images=12)
    assert metrics.new_classes is None
    assert metrics.trained_classes.adapted == 1


def test_an_image_with_statistics_is_decoded_twice(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for the training and once for the stock model's features. Each held-out image is decoded again."""
    decoded: list[bool] = []

    def counted(*given: Any, **how: Any) -> Any:
        decoded.append(how.get("grey", False))
        return images.begin(*given, **how).decode()

    monkeypatch.setattr(images, "_opener", counted)
    training, tests = shots("red", "green", each=3), as_tests(shots("red", each=2, seed=9))
    one = adapt(tiny, [*training, *tests], config(epochs=1))
    assert decoded == [True] * 6 + [False] * (2 * 6 + 2)
    measured = [
        replace(image, stats=measure_image(open_image(image.read(), shortest_side=SIDE, grey=True)))
        for image in training
    ]
    decoded.clear()
    other = adapt(tiny, [*measured, *tests], config(epochs=1))
    assert decoded == [False] * (2 * 6 + 2)
    assert other.evaluation.report == one.evaluation.report


def saved_again(shot: Image) -> Image:
    """Return the same pixels in another file."""
    file = BytesIO()
    Pillow.open(BytesIO(shot.read())).save(file, "BMP")
    return replace(shot, content=file.getvalue())


@pytest.mark.slow
def test_copies_are_not_evaluated_by_models_of_their_original(tiny: Backbone) -> None:
    """With 16 images of random labels, three times each, no method finds anything."""
    labels = np.random.default_rng(0).permutation(["red", "green"] * 8)
    distinct = [shot("blue", seed, str(label)) for seed, label in enumerate(labels)]
    every = [*distinct, *map(saved_again, distinct), *distinct]
    report = read(adapt(tiny, every, config()).evaluation.report)
    assert (report.measured_on.images, report.measured_on.trained_images) == (16, 48)
    assert report.overall.adapted.value < 0.8


def test_a_confirmed_label_is_not_a_label_issue(tiny: Backbone) -> None:
    planted = shot("red", 900, "green")
    for confirmed in (False, True):
        images = [*shots("red", "green", "blue"), replace(planted, label_confirmed=confirmed)]
        tests = shots("red", "green", "blue", each=2, seed=5)
        report = read(adapt(tiny, [*images, *as_tests(tests)], config(epochs=1)).evaluation.report)
        assert [issue.position for issue in report.label_issues] == ([] if confirmed else [12])


@pytest.mark.parametrize("each", [4, 1])
def test_no_images_to_evaluate_on(tiny: Backbone, each: int) -> None:
    recorder = Recorder()
    result = adapt(tiny, shots("red", "green", each=each), config(epochs=1), reporter=recorder)
    assert len(result.evaluation.held_out.truth) == 0
    assert result.evaluation.stored_metrics()["verdict"] == "not_evaluated"
    assert result.evaluation.stored_metrics()["measured_on"] == {
        "source": "none",
        "images": 0,
        "trained_images": 2 * each,
        "fold_models": 0,
    }
    before = ["reading", "features", "steps", "support"]
    assert recorder.phases == [*before, "report"]
    recorder = Recorder()
    given = config(epochs=1, evaluate="none")
    adapt(tiny, shots("red", "green", each=each), given, reporter=recorder)
    assert recorder.phases == before


@pytest.mark.parametrize("evaluate", ["auto", "none"])
def test_classes_whose_training_images_are_not_recognised(tiny: Backbone, evaluate: str) -> None:
    """Two classes have the same images, so one of them loses all."""
    for each, found in ((4, ["unrecognised_classes"]), (3, [])):
        images, recorder = shots("red", "green", each=each), Recorder()
        images += [replace(image, class_name="scarlet") for image in images if image.class_name == "red"]
        adapt(tiny, images, config(evaluate=evaluate), reporter=recorder)
        assert [code for code, _ in recorder.warnings] == found
        for _, detail in recorder.warnings:
            assert ("'red' (0 of 4)" in detail) != ("'scarlet' (0 of 4)" in detail)
            assert "'green'" not in detail


def test_large_classes_are_not_lost_to_small_ones_that_look_alike(tiny: Backbone) -> None:
    """All classes have the same colour. The whole prior would assign no image to a large class."""
    counts = {"fox": 16, "dog": 16, "cat": 16, "owl": 2, "hen": 2, "jay": 2}
    images = [
        shot("grey", 1000 * c + i, name) for c, (name, n) in enumerate(counts.items()) for i in range(n)
    ]
    given, recorder = config(epochs=6, batch_size=16, evaluate="none"), Recorder()
    model = adapt(tiny, images, given, reporter=recorder)
    prompts = [class_prompts(name, given.templates, {}) for name in counts]
    classifier = Classifier(tiny, model.weights, given.alpha)
    found = classifier.classify(
        [open_image(image.content) for image in images], prompts, classes=range(len(counts))
    )
    names = [list(counts)[c] for c in found.scores.argmax(dim=1).tolist()]
    right = Counter(
        image.class_name for image, name in zip(images, names, strict=True) if name == image.class_name
    )
    assert all(right[name] >= n / 2 for name, n in counts.items())
    assert recorder.warnings == []


@pytest.mark.parametrize("names", [(), ("red",)])
def test_fewer_than_two_classes_are_refused(tiny: Backbone, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidClassNames, match=f"there are {len(names)}"):
        adapt(tiny, shots(*names), config())


def test_cancelling_during_the_evaluation(tiny: Backbone) -> None:
    recorder = Recorder(cancel_after=2)
    with pytest.raises(Cancelled, match="evaluation"):
        adapt(
            tiny,
            [*shots("red", "green"), *as_tests(shots("red", each=2, seed=5))],
            config(epochs=2, batch_size=16),
            reporter=recorder,
        )
    assert recorder.phases[-1] == "tests"


def test_running_out_of_memory_says_what_to_do(tiny: Backbone) -> None:
    class Full(Recorder):
        def step(self, progress: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory, match=r"batch_size \(now 6\) or image_size \(now 32\)"):
        adapt(tiny, shots("red", "green"), config(), reporter=Full())


@pytest.mark.slow
def test_own_prompts_and_templates_reach_training_and_evaluation(tiny: Backbone) -> None:
    given: dict[str, Any] = {"epochs": 1, "batch_size": 16}
    tests = shots("red", "green", each=2, seed=5)

    def result(**more: Any) -> Adapted:
        return adapt(tiny, [*shots("red", "green"), *as_tests(tests)], config(**given, **more))

    plain = result()
    own = result(prompts={"RED": ["a photo of a red."], "Green": ["a photo of a green."]})
    # The same prompts, found under another spelling.
    assert same_bits(plain.weights.delta.tensors, own.weights.delta.tensors)
    for more in ({"prompts": {"RED": ["a tomato"]}}, {"templates": ["{} paint", "something {}"]}):
        assert not same_bits(plain.weights.delta.tensors, result(**more).weights.delta.tensors)
    crossed = config(alpha=0, prompts={"red": ["a photo of a green."], "green": ["a photo of a red."]})
    swapped = held_of(tiny, plain.weights, ("red", "green"), tests, crossed, Reporter())
    before = correct_per_model(plain.evaluation.held_out)[0]
    assert correct_per_model(swapped)[0] == [not right for right in before]


def test_another_image_size_all_the_way(tiny: Backbone, tiny_folder: Path, tmp_path: Path) -> None:
    large = load_backbone(tiny.name, cache=tiny_folder.parent, image_size=48)
    result = adapt(large, [*shots("red", "green", each=2), *as_tests(shots("red", each=1))], config(epochs=1))
    assert len(result.weights.delta.tensors["scale/visual.positional_embedding"]) == 37
    manifest = save_weights(
        tmp_path, result.weights, backbone=large, class_names=result.class_names, config=config().model_dump()
    )
    assert manifest.image_size == 48
    weights = load_weights((tmp_path / WEIGHTS).read_bytes(), manifest, large)
    scores = Classifier(large, weights).classify([Pillow.new("RGB", (9, 70))], [["red"], ["green"]])
    assert scores.probabilities.sum().item() == pytest.approx(1)
