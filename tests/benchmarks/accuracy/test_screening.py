"""The arms of the screening: averages, depths, anchor texts, and the hook of the training that they use."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.accuracy import screening
from benchmarks.methods.clip_cite import config_of, train
from benchmarks.methods.common.task import Task
from core.clip.models.backbone import Backbone
from core.clip.models.features import encode_tokens
from core.clip.models.imagenet_classes import distractor_classes
from core.clip.weights.ensemble import interpolate
from tests.benchmarks.accuracy.test_paper import COLOURS, folder_of

DOGS = ("beagle", "tabby cat")


@pytest.fixture
def task(backbone: Backbone) -> Task:
    colours = [(230, 20, 20), (20, 20, 230)]
    images = [Image.new("RGB", (48, 48), colour) for colour in colours for _ in range(2)]
    return Task(backbone, images, [0, 0, 1, 1], DOGS, seed=3)


def test_a_mean_weighs_each_state() -> None:
    thetas = [{"a": torch.tensor([0.0, 8.0])}, {"a": torch.tensor([4.0, 0.0])}]
    assert screening.mean_of(thetas, [1.0, 3.0])["a"].tolist() == [3.0, 2.0]


def test_beta_weighs_both_ends_most_and_is_symmetric() -> None:
    weights = [screening.beta_density((t + 0.5) / 11) for t in range(11)]
    assert weights == pytest.approx(weights[::-1])
    assert weights[:6] == sorted(weights[:6], reverse=True)
    assert screening.beta_density(0.5) == pytest.approx(2 / torch.pi)


def test_alpha_by_depth_is_linear_within_each_tower() -> None:
    names = ("visual.0", "visual.1", "visual.2", "text.0", "text.1")
    theta_0 = {name: torch.zeros(1) for name in names}
    theta_1 = {name: torch.ones(1) for name in names}
    mixed = interpolate(theta_0, screening.by_depth(theta_0, theta_1, 0.3, 0.7), 0.5)
    assert [round(float(mixed[name]), 6) for name in names] == [0.3, 0.5, 0.7, 0.3, 0.7]


def test_anchors_share_no_word_with_any_class_and_measure_nothing(task: Task) -> None:
    names = screening.anchor_names(task, [*DOGS, "fire truck"])
    assert len(names) > 2 * screening.ANCHORS
    assert not {"beagle", "tabby cat", "fire truck", "tow truck", "tiger cat"} & set(names)
    assert not set(distractor_classes(DOGS)) & set(names)
    assert len(set(names[:200]) & set(names[-200:])) == 0


def test_the_nearest_anchors_are_nearer_than_the_farthest(task: Task) -> None:
    def similarity(tokens: Tensor) -> float:
        classes = encode_tokens(task.backbone.model, screening.tokens_of(task, DOGS))
        return float((encode_tokens(task.backbone.model, tokens) @ classes.T).amax(dim=1).mean())

    with torch.no_grad():
        near, far = (similarity(f(task, DOGS)) for f in (screening.nearest, screening.farthest))
    assert near > far


def test_random_tokens_keep_start_end_and_length(task: Task) -> None:
    drawn, names = screening.random_tokens(task, DOGS), screening.drawn_names(task, DOGS)
    special = (names == 0) | (names == names[0, 0]) | (names == names.max())
    assert torch.equal(drawn[special], names[special])
    assert (drawn[~special] != names[~special]).float().mean() > 0.9


def test_a_further_loss_joins_the_others(task: Task) -> None:
    config = config_of(task, epochs=1)
    plain = train(task, config).theta_1
    seen: list[Mapping[str, Tensor]] = []

    def loss(weight: float, student: nn.Module, features: Mapping[str, Tensor]) -> Tensor:
        seen.append(features)
        return weight * sum((p**2).sum() for p in student.parameters() if p.requires_grad)

    nothing = train(task, config, regularisation=partial(loss, 0.0)).theta_1
    assert all(torch.equal(plain[name], nothing[name]) for name in plain)
    shrunk = train(task, config, regularisation=partial(loss, 100.0)).theta_1
    assert any(not torch.equal(plain[name], shrunk[name]) for name in plain)
    assert {name: tuple(f.shape[:1]) for name, f in seen[0].items()} == {
        name: (4,) for name in ("image", "text", "teacher_image", "teacher_text")
    }
    assert seen[0]["image"].requires_grad
    assert not seen[0]["teacher_image"].requires_grad


@pytest.mark.parametrize(("hold", "distil"), [(1.0, 0.0), (0.0, 1.0)])
def test_anchors_stay_nearer_to_their_start(task: Task, hold: float, distil: float) -> None:
    def moved(weight: float) -> float:
        names = list(DOGS)
        method = screening.anchored("anchored", screening.nearest, weight * hold, weight * distil)

        class Trial:
            class data:
                class_names = names

        predictor = method(Trial)(task)["anchored"]  # type: ignore[arg-type]
        tokens = screening.nearest(task, names)
        with torch.no_grad():
            before = encode_tokens(task.backbone.model, tokens)
            after = encode_tokens(predictor.balanced.network.model, tokens)  # type: ignore[attr-defined]
        return float((1 - (before * after).sum(dim=1)).mean())

    assert moved(1_000.0) < moved(0.001)


@pytest.mark.slow
def test_the_screening_compares_every_arm_with_the_product(backbone: Backbone, tmp_path: Path) -> None:
    data = folder_of(tmp_path / "colours", list(COLOURS))
    screening.main(
        [
            *("--data", str(data), "--backbone", backbone.name, "--splits", "1", "--shots", "2"),
            *("--methods", "product", "preview", "prolip1", "anchors_random_both_1", "--out", str(tmp_path)),
        ]
    )
    (path,) = tmp_path.glob("screening-*.json")
    (table,) = json.loads(path.read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert len(rows) == 11
    compared = {name for name, cells in rows.items() if "<br>" in cells[0]}
    assert compared == rows.keys() - {screening.SERVED, screening.PREVIEW}
