"""Guarantees of every method, each on both kinds of model."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.methods.clip_lora import ClipLora, clip_lora
from benchmarks.methods.common import task as given
from benchmarks.methods.common.registry import METHODS
from benchmarks.methods.coop import CoOp, coop
from benchmarks.methods.flyp import Flyp, flyp
from benchmarks.methods.ft_probe import FtProbe, ft_probe
from benchmarks.methods.linear_probe import linear_probe
from benchmarks.methods.prolip import ProLip, prolip
from benchmarks.methods.stock import stock
from benchmarks.methods.tip_adapter import TipAdapter, tip_adapter

pytestmark = pytest.mark.slow

# The tiny models have random weights, and need other learning rates than pre-trained ones.
TRAINED: Mapping[str, given.Method] = {
    "linear_probe": linear_probe,
    "ft_probe": partial(ft_probe, settings=FtProbe(5, 8, 1e-3, 1e-2)),
    "flyp": partial(flyp, settings=Flyp(8, 8, 1e-3)),
    "coop": partial(
        coop, settings=CoOp(epochs=15, batch_size=8, learning_rate=0.02, views=2, crop_scale=0.5)
    ),
    "tip_adapter": partial(tip_adapter, settings=TipAdapter(epochs=10, learning_rate=1e-2, views=2)),
    "clip_lora": partial(clip_lora, settings=ClipLora(steps_per_shot=4, batch_size=8, learning_rate=1e-2)),
    "prolip": partial(prolip, settings=ProLip(steps=20, learning_rate=1e-2, views=2)),
}
# One new class, in another order and spelling.
NAMES = ("grey square", "Blue Thing", "red thing", "green thing")
LABELS = {
    "linear_probe": ["Linear probe"],
    "ft_probe": ["FT-Probe"],
    "flyp": ["FLYP", "FLYP + WiSE-FT"],
    "coop": ["CoOp"],
    "tip_adapter": ["Tip-Adapter-F"],
    "clip_lora": ["CLIP-LoRA"],
    "prolip": ["ProLIP"],
}
OF_LABEL = [2, 3, 1]  # The columns of the task's classes.


@pytest.fixture(params=TRAINED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def method(name: str) -> given.Method:
    return TRAINED[name]


def test_registry_holds_every_method() -> None:
    assert {*TRAINED, "stock"} <= METHODS.keys()


def test_a_method_learns_its_images_and_changes_nothing_shared(
    name: str, method: given.Method, task: given.Task, shown: given.Tests
) -> None:
    before = {key: tensor.clone() for key, tensor in task.backbone.model.state_dict().items()}
    at_start = loss(stock(task)["stock"].similarities(shown, NAMES), task)
    answers = method(task)
    assert list(answers) == LABELS[name]
    for label, answerer in answers.items():
        similarities = answerer.similarities(shown, NAMES)
        assert similarities.shape == (len(task.tensors), len(NAMES))
        assert similarities.dtype == torch.float32
        assert not similarities.requires_grad
        new, trained = similarities[:, 0], similarities[:, OF_LABEL]
        assert torch.isfinite(trained).all()
        assert torch.isfinite(new).all() or (label == "Linear probe" and (new == -torch.inf).all())
        assert loss(similarities, task) < 0.95 * at_start
        # The score of a class does not depend on the other classes.
        again = answerer.similarities(shown, NAMES[::-1])
        torch.testing.assert_close(again.flip(1), similarities, rtol=0, atol=1e-5)
    after = task.backbone.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any(p.requires_grad or p.grad is not None for p in task.backbone.model.parameters())
    assert not any(m._forward_hooks for m in task.backbone.model.modules())


def test_the_result_depends_on_the_seed_only(
    method: given.Method, task: given.Task, shown: given.Tests
) -> None:
    torch.manual_seed(1)
    first = method(task)
    torch.manual_seed(2)  # The global generator has no influence.
    again, other = method(task), method(replace(task, seed=1))
    for label in first:
        one, same, different = (
            answers[label].similarities(shown, NAMES)[:, OF_LABEL] for answers in (first, again, other)
        )
        torch.testing.assert_close(one, same, rtol=0, atol=1e-6)
        if label != "Linear probe":  # The objective is convex and uses the images without augmentation.
            assert not torch.allclose(one, different, rtol=0, atol=1e-6)


def loss(similarities: Tensor, task: given.Task) -> float:
    """Return the cross-entropy among the trained classes."""
    logits = task.backbone.logit_scale * similarities[:, OF_LABEL]
    return F.cross_entropy(logits, torch.tensor(task.labels)).item()
