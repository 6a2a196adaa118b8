"""The training loop on a tiny real model, observed through its reporter and through hooks."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from core.clip.config import AdaptConfig
from core.clip.data.transforms import to_pixels, to_tensor
from core.clip.errors import Cancelled, TrainingDiverged
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.models.features import build_zero_shot_classifier, encode_images, encode_tokens
from core.clip.training.trainer import cosine, fine_tune
from tests.core.clip.recorder import Recorder, fingerprint, same_bits, watch
from tests.core.clip.training.slow_losses import pairs, slow_dva, slow_kl, slow_scl

LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 0, 0]
TEXTS = [["a photo of a cat."], ["a photo of a dog."], ["a photo of a tree."]]
WEIGHTS = [field for field in AdaptConfig.model_fields if field.endswith("_weight")]
"""Each loss has one, but L_DVA."""


def noise(count: int, size: tuple[int, int] = (40, 36)) -> list[Image.Image]:
    """Return distinct images; each class has a colour of its own."""
    generator = np.random.default_rng(0)
    images = []
    for i in range(count):
        values = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        values[:, :, LABELS[i % len(LABELS)]] //= 4
        images.append(Image.fromarray(values))
    return images


def plain(count: int) -> list[Image.Image]:
    """Return images of one colour each: any crop identifies its image."""
    return [Image.new("RGB", (40, 36), (10 * i, 255 - 10 * i, 100)) for i in range(count)]


def config(**given: Any) -> AdaptConfig:
    settings: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "classifier_learning_rate": 1e-2,
        "precision": "fp32",
    }
    return AdaptConfig(**{**settings, **given})


def train(
    backbone: Backbone,
    reporter: Recorder | None = None,
    images: Sequence[Image.Image] | None = None,
    texts: Sequence[Sequence[str]] = TEXTS,
    **given: Any,
) -> dict[str, Tensor]:
    images = images or noise(len(LABELS))
    labels = (LABELS * 2)[: len(images)]
    shots = [to_tensor(image) for image in images]
    return fine_tune(backbone, shots, labels, texts, config(**given), reporter or Recorder())


def largest_change(backbone: Backbone, theta_1: dict[str, Tensor], *, text: bool) -> float:
    theta_0 = tower_parameters(backbone.model)
    names = [name for name in theta_0 if name.startswith("visual.") is not text]
    assert names
    return max(float((theta_1[name] - theta_0[name]).abs().max()) for name in names)


# --- results


def slow_fine_tune(backbone: Backbone, images: list[Image.Image], given: AdaptConfig) -> list[list[float]]:
    """Train with full batches and plain AdamW. Return [total, dva, scl, vld, …] of each step."""
    labels = torch.tensor(LABELS[: len(images)])
    student = copy.deepcopy(backbone.model).requires_grad_(True)
    classifier = nn.Parameter(build_zero_shot_classifier(backbone.model, backbone.tokenize, TEXTS))
    towers = [p for name, p in student.named_parameters() if name != "logit_scale"]
    optimizer = torch.optim.AdamW(
        [{"params": towers}, {"params": [classifier], "weight_decay": 0.0}],
        weight_decay=given.weight_decay,
        foreach=False,
    )
    pixels = to_pixels(torch.stack([to_tensor(p) for p in images]), backbone.mean, backbone.std)
    tokens = backbone.tokenize([sentence for (sentence,) in TEXTS])
    scale = math.exp(float(backbone.model.logit_scale))  # type: ignore[arg-type]
    with torch.no_grad():
        teacher = encode_images(backbone.model, pixels), encode_tokens(backbone.model, tokens)[labels]
    trace = []
    for step in range(given.epochs):
        share = 0.5 * (1 + math.cos(math.pi * step / given.epochs))
        optimizer.param_groups[0]["lr"] = share * given.learning_rate
        optimizer.param_groups[1]["lr"] = share * given.classifier_learning_rate
        image_features, text_features = encode_images(student, pixels), encode_tokens(student, tokens)[labels]
        losses = {
            "dva": slow_dva(image_features, classifier, labels, scale),
            "scl": slow_scl(image_features, text_features, labels, scale),
            "vld": slow_kl(pairs(image_features, text_features, scale), pairs(*teacher, scale)),
        }
        weighted = [getattr(given, field) * losses[field.removesuffix("_weight")] for field in WEIGHTS]
        total = losses["dva"] + sum(weighted)
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        trace.append([x.item() for x in (total, *losses.values())])
    return trace


def test_the_loop_computes_the_papers_losses(tiny: Backbone) -> None:
    # Square images of the model's size with crop_scale 1 are not cropped, and one batch is an
    # epoch, so nothing is random.
    images = noise(6, (32, 32))
    weights = {field: 0.9 / (number + 1) for number, field in enumerate(WEIGHTS)}
    given = config(epochs=5, batch_size=6, crop_scale=1.0, weight_decay=0.3, **weights)
    recorder = Recorder()
    fine_tune(tiny, [to_tensor(p) for p in images], LABELS[:6], TEXTS, given, recorder)
    trace = torch.tensor([list(s.loss.values()) for s in recorder.steps])
    slow = torch.tensor(slow_fine_tune(tiny, images, given))
    torch.testing.assert_close(trace, slow, rtol=2e-3, atol=2e-4)
    assert slow[-1, 0] < 0.7 * slow[0, 0]
    assert slow[-1, 3] > 0.01


@pytest.mark.xfail(torch.__version__ < (2, 11), reason="torch 2.10 copies them, which is slower")
def test_no_weight_is_copied_for_each_image(tiny: Backbone) -> None:
    """torch.matmul copies them for the projections of attention if they need no gradient."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        train(tiny, precision="bf16", epochs=1)
    products = profiled.key_averages(group_by_input_shape=True)
    projections = {3 * 64, 3 * 32}  # Query, key and value of either tower.

    def widths(operation: str, weight: int) -> set[int]:
        return {event.input_shapes[weight][-1] for event in products if event.key == operation}

    assert not widths("aten::bmm", 1) & projections
    assert projections <= widths("aten::addmm", 2) | widths("aten::mm", 1)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_learning_rate_follows_the_cosine(tiny: Backbone, steps: int) -> None:
    """Adam's first steps move a parameter by the learning rate itself: 1 + 0.5 times the peak
    in two steps.
    """
    theta_1 = train(tiny, epochs=steps, batch_size=16, learning_rate=1e-3, weight_decay=0.0)
    moved = sum(cosine(step, steps) for step in range(steps)) * 1e-3
    for text in (False, True):
        assert largest_change(tiny, theta_1, text=text) == pytest.approx(moved, rel=0.02)


def test_weight_decay_is_the_towers_alone(tiny: Backbone) -> None:
    """In one AdamW step θ first shrinks by lr · decay, then moves as without decay."""
    without, decayed = (
        train(tiny, epochs=1, batch_size=16, learning_rate=0.01, weight_decay=decay) for decay in (0.0, 1.0)
    )
    for name, parameter in tower_parameters(tiny.model).items():
        torch.testing.assert_close(decayed[name], without[name] - 0.01 * parameter, rtol=1e-4, atol=1e-6)


def test_only_w_trains_at_learning_rate_0(tiny: Backbone) -> None:
    trained, frozen = Recorder(), Recorder()
    settings: dict[str, Any] = {"learning_rate": 0, "epochs": 6, "batch_size": 16, "crop_scale": 1.0}
    square = noise(len(LABELS), (32, 32))
    theta_1 = train(tiny, trained, square, **settings, classifier_learning_rate=0.05)
    assert same_bits(theta_1, dict(tower_parameters(tiny.model)))
    train(tiny, frozen, square, **settings, classifier_learning_rate=0)
    first = frozen.steps[0]
    for step in frozen.steps:
        assert (step.loss["dva"], step.loss["scl"]) == pytest.approx(
            (first.loss["dva"], first.loss["scl"]), rel=1e-4
        )
        assert abs(step.loss["vld"]) < 1e-5
    assert trained.steps[0].loss["dva"] == pytest.approx(first.loss["dva"], rel=1e-6)
    assert trained.steps[-1].loss["dva"] < first.loss["dva"] - 0.05
    assert trained.steps[-1].loss["scl"] == pytest.approx(first.loss["scl"], rel=1e-4)


# --- the result, and side effects


def test_theta_1_is_both_towers_without_the_temperature(tiny: Backbone) -> None:
    theta_1 = train(tiny)
    assert theta_1.keys() == tower_parameters(tiny.model).keys()
    assert theta_1.keys() == dict(tiny.model.named_parameters()).keys() - {"logit_scale"}
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in theta_1.values())
    assert largest_change(tiny, theta_1, text=False) > 1e-4
    assert largest_change(tiny, theta_1, text=True) > 1e-4


def test_the_shared_backbone_is_not_touched(tiny: Backbone) -> None:
    before = fingerprint(tiny.model)
    theta_1 = train(tiny)
    for tensor in theta_1.values():
        tensor.zero_()  # Memory of its own.
    assert fingerprint(tiny.model) == before
    train(tiny, texts=[["a", "b"], ["c"], ["d"]], precision="bf16")
    with pytest.raises(Cancelled):
        train(tiny, Recorder(cancel_after=1))
    assert fingerprint(tiny.model) == before


def test_the_network_trains_in_eval_mode(tiny: Backbone) -> None:
    watched = watch(tiny, "visual", "transformer")
    recorder = Recorder()
    train(watched.backbone, recorder)
    for module in ("visual", "transformer"):
        assert not any(p.in_train_mode for p in watched.passes[module])
        student = watched.of_student(module)
        assert len(student) == len(recorder.steps)
        assert len({p.module for p in student}) == 1
        assert student[0].module is not watched.backbone.model.get_submodule(module)
    # Fusing the convolutions encodes a single image.
    teacher = [p for p in watched.passes["visual"] if not p.with_gradients and len(p.given) > 1]
    (of_teacher,) = {p.module for p in teacher}
    assert of_teacher is not student[0].module
    # The teacher sees the same augmented images.
    for one, other in zip(watched.of_student("visual"), teacher, strict=True):
        assert torch.equal(one.given, other.given)


@pytest.mark.slow
def test_the_starter_trains_with_frozen_statistics_and_without_dropout(starter: Backbone) -> None:
    watched = watch(starter, "visual", "text")
    assert any(isinstance(m, nn.Dropout) and m.p > 0 for m in starter.model.modules())
    before = fingerprint(starter.model)
    recorder = Recorder()
    train(watched.backbone, recorder, noise(4, (170, 180)), learning_rate=1e-3)
    assert fingerprint(starter.model) == before
    assert abs(recorder.steps[0].loss["vld"]) < 1e-4  # With dropout the difference is a hundred times larger.
    for name in ("visual", "text"):
        assert not any(p.in_train_mode for p in watched.passes[name])
        trained = watched.of_student(name)[-1].module
        stock = starter.model.get_submodule(name)
        assert same_bits(dict(trained.named_buffers()), dict(stock.named_buffers()))
        assert not same_bits(dict(trained.named_parameters()), dict(stock.named_parameters()))
    statistics = [name for name, _ in watched.backbone.model.named_buffers() if "running" in name]
    assert len(statistics) > 80


# --- randomness


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("threads")
def test_a_seed_gives_the_same_weights_bit_for_bit(tiny: Backbone) -> None:
    texts = [["a cat", "a kitten", "a tabby"], ["a dog", "a puppy"], ["a tree"]]
    torch.manual_seed(1)
    first = train(tiny, texts=texts, seed=5, epochs=1)
    torch.manual_seed(2)  # The global generator has no influence.
    np.random.seed(2)
    second = train(tiny, texts=texts, seed=5, epochs=1)
    assert same_bits(first, second)
    assert not same_bits(first, train(tiny, texts=texts, seed=6, epochs=1))


def test_the_largest_seed(tiny: Backbone) -> None:
    train(tiny, seed=2**63 - 1, epochs=1)


def seen(pixels: Tensor, images: list[Image.Image], backbone: Backbone) -> list[int]:
    """Return the indices of the plain images in a batch."""
    corners = torch.stack([to_tensor(p)[:, :1, :1] for p in images])
    colours = to_pixels(corners, backbone.mean, backbone.std)[:, :, 0, 0]
    distances = torch.cdist(pixels[:, :, 16, 16], colours)
    assert distances.min(dim=1).values.max() < 0.02
    return distances.argmin(dim=1).tolist()


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(10, 4, {3, 4}), (3, 4, {3}), (17, 16, {8, 9})],
)
def test_an_epoch_is_cut_into_equal_batches(
    tiny: Backbone, count: int, batch_size: int, sizes: set[int]
) -> None:
    watched = watch(tiny, "visual")
    images = plain(count)
    recorder = Recorder()
    train(watched.backbone, recorder, images, batch_size=batch_size, epochs=3)
    batches = [seen(p.given, images, tiny) for p in watched.of_student("visual")]
    per_epoch = math.ceil(count / batch_size)
    assert len(batches) == len(recorder.steps) == 3 * per_epoch
    assert {len(batch) for batch in batches} == sizes
    orders = []
    for epoch in range(3):
        of_epoch = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        order = [i for batch in of_epoch for i in batch]
        assert sorted(order) == list(range(count))  # Every image once.
        orders.append(tuple(order))
    if count > 3:
        assert len(set(orders)) == 3  # A new order each time.


def test_the_order_and_the_crops_follow_the_seed(tiny: Backbone) -> None:
    def batches(images: list[Image.Image], seed: int) -> list[Tensor]:
        watched = watch(tiny, "visual")
        train(watched.backbone, images=images, seed=seed, epochs=1)
        return [p.given for p in watched.of_student("visual")]

    colours = plain(10)
    orders = [[seen(pixels, colours, tiny) for pixels in batches(colours, seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    crops = [torch.cat(batches(noise(1) * 4, seed)) for seed in (0, 0, 1)]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])


def test_a_step_draws_one_prompt_per_class_of_its_batch(tiny: Backbone) -> None:
    texts = [["a cat", "a kitten", "a tabby"], ["a dog", "a puppy"], ["a tree"]]
    sentences = {sentence: c for c, of_class in enumerate(texts) for sentence in of_class}
    tokens = tiny.tokenize(list(sentences))
    rows = {tuple(row[row > 0].tolist()): text for text, row in zip(sentences, tokens, strict=True)}
    watched = watch(tiny, "visual", "token_embedding")
    images = plain(10)
    train(watched.backbone, images=images, texts=texts, epochs=20)
    drawn: list[str] = []
    for image, text in zip(watched.of_student("visual"), watched.of_student("token_embedding"), strict=True):
        step = [rows[tuple(row[row > 0].tolist())] for row in text.given]
        of_batch = {LABELS[i] for i in seen(image.given, images, tiny)}
        assert sorted(sentences[sentence] for sentence in step) == sorted(of_batch)
        drawn += step
    assert set(drawn) == set(sentences)
    assert 0.2 < drawn.count("a cat") / sum(drawn.count(s) for s in texts[0]) < 0.5
    assert 0.3 < drawn.count("a dog") / sum(drawn.count(s) for s in texts[1]) < 0.7


# --- progress and cancellation


def test_every_step_is_reported(tiny: Backbone) -> None:
    recorder = Recorder()
    train(tiny, recorder, epochs=3, batch_size=4)  # 10 images: 3 steps per epoch.
    assert [s.step for s in recorder.steps] == list(range(1, 10))
    assert [s.epoch for s in recorder.steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert {(s.epochs, s.steps) for s in recorder.steps} == {(3, 9)}
    for s in recorder.steps:
        assert s.loss["total"] == pytest.approx(
            s.loss["dva"] + 0.7 * s.loss["scl"] + 0.1 * s.loss["vld"], rel=1e-5
        )
        assert s.images_per_second > 0


@pytest.mark.parametrize("done", [0, 1, 4])
def test_cancelling_stops_within_a_step(tiny: Backbone, done: int) -> None:
    recorder = Recorder(cancel_after=done)
    watched = watch(tiny, "visual")
    with pytest.raises(Cancelled):
        train(watched.backbone, recorder, epochs=50)
    assert len(recorder.steps) == done
    assert len(watched.of_student("visual")) == done


def test_a_loss_that_is_not_finite_stops(tiny: Backbone) -> None:
    recorder = Recorder()
    with pytest.raises(TrainingDiverged, match=r"nan at step 1 of 6.*learning_rate \(now 0\.001\)"):
        train(replace(tiny, mean=(math.nan, 0.0, 0.0)), recorder)
    assert recorder.steps == []


@pytest.mark.parametrize(
    ("epochs", "says"),
    [(1, "trained weights are not finite.*learning_rate"), (3, "nan at step 2 of 3")],
    ids=["in the last step", "before"],
)
def test_gradients_that_are_not_finite_stop_the_training(tiny: Backbone, epochs: int, says: str) -> None:
    """The loss of that step is finite. After the last step, only the weights show the error."""

    def spoil(_module: nn.Module, _given: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient * math.inf)

    watched = watch(tiny)
    watched.backbone.model.get_submodule("visual.conv1").register_forward_hook(spoil)
    recorder = Recorder()
    with pytest.raises(TrainingDiverged, match=says):
        train(watched.backbone, recorder, epochs=epochs, batch_size=16)
    assert len(recorder.steps) == 1
    assert math.isfinite(recorder.steps[0].loss["total"])


def test_bf16_on_a_cpu(tiny: Backbone) -> None:
    recorder, exact = Recorder(), Recorder()
    theta_1 = train(tiny, recorder, precision="bf16")
    assert all(t.dtype == torch.float32 for t in theta_1.values())
    full = train(tiny, exact)
    assert not same_bits(theta_1, full)
    assert recorder.steps[0].loss["dva"] == pytest.approx(exact.steps[0].loss["dva"], rel=0.05)


@pytest.mark.parametrize("micro_batch_size", [1, 3, 4])
def test_micro_batches_give_the_same_gradients(
    tiny: Backbone, micro_batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights would differ more: AdamW takes whole steps of the rounding in a gradient of zero."""
    images = [to_tensor(image) for image in noise(len(LABELS))]

    found: list[Tensor] = []

    class Noting(torch.optim.AdamW):
        def step(self, *given: Any) -> None:  # type: ignore[override]
            found[:] = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]

    monkeypatch.setattr(torch.optim, "AdamW", Noting)

    def gradients(**given: Any) -> tuple[float, list[Tensor]]:
        reporter = Recorder()
        settings = config(batch_size=len(LABELS), epochs=1, **given)
        fine_tune(tiny, images, LABELS, TEXTS, settings, reporter)
        (step,) = reporter.steps
        return step.loss["total"], [*found]

    whole, of_batch = gradients()
    parts, of_parts = gradients(micro_batch_size=micro_batch_size)
    assert parts == pytest.approx(whole, rel=1e-5)
    assert of_batch
    for one, gradient in zip(of_parts, of_batch, strict=True):
        largest = float(gradient.abs().max())
        torch.testing.assert_close(one, gradient, rtol=0, atol=1e-4 * largest)


def test_the_text_tower_has_a_learning_rate_of_its_own(tiny: Backbone) -> None:
    same = train(tiny, epochs=2, text_learning_rate=config().learning_rate)
    assert same_bits(same, train(tiny, epochs=2))
    frozen = train(tiny, epochs=2, text_learning_rate=0.0)
    assert largest_change(tiny, frozen, text=True) == 0
    assert largest_change(tiny, frozen, text=False) > 0
    slow = train(tiny, epochs=2, text_learning_rate=config().learning_rate / 10, weight_decay=0.0)
    assert 0 < largest_change(tiny, slow, text=True) < largest_change(tiny, same, text=True) / 4
