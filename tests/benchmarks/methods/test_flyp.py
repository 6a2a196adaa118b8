from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from open_clip import ClipLoss

from benchmarks.methods.common import task as given
from benchmarks.methods.flyp import Flyp, contrastive, flyp
from core.clip.models.backbone import tower_parameters
from core.clip.training.losses import supervised_contrastive
from core.clip.weights.ensemble import interpolate


@pytest.mark.parametrize("distinct", [True, False])
def test_the_loss_equals_open_clips(distinct: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    images, prompts = F.normalize(torch.randn(2, 6, 8, generator=generator), dim=-1)
    labels = torch.arange(6) if distinct else torch.tensor([0, 0, 1, 2, 2, 2])
    prompts = prompts[labels]
    both = []
    for function in (contrastive, ClipLoss()):
        i, t = images.clone().requires_grad_(True), prompts.clone().requires_grad_(True)
        value = function(i, t, 20.0)
        both.append((value, *torch.autograd.grad(value, [i, t])))
    torch.testing.assert_close(both[0], both[1])
    if distinct:  # The loss of CLIP-CITE differs only for pairs of the same class.
        torch.testing.assert_close(both[0][0], supervised_contrastive(images, prompts, labels, 20.0))


def test_the_ensemble_is_halfway(task: given.Task) -> None:
    answers = flyp(task, Flyp(2, 8, 1e-3))
    whole, half = (
        tower_parameters(answers[label].model)  # type: ignore[attr-defined]
        for label in ("FLYP", "FLYP + WiSE-FT")
    )
    stock = tower_parameters(task.backbone.model)
    # Both towers learn. Some weights have no gradient: the embeddings of unused tokens.
    for tower in ("visual.", ""):
        names = [n for n in stock if n.startswith("visual.") == bool(tower)]
        assert any(not torch.equal(whole[n], stock[n]) for n in names)
    expected = interpolate(stock, whole, 0.5)
    assert all(torch.equal(half[name], expected[name]) for name in expected)


def test_every_template_is_read(task: given.Task) -> None:
    read: set[str] = set()

    def tokenize(sentences: list[str]) -> torch.Tensor:
        read.update(sentences)
        return task.backbone.tokenize(sentences)

    backbone = replace(task.backbone, tokenize=tokenize)
    flyp(replace(task, backbone=backbone, templates=("a {}.", "the {}.")), Flyp(1, 8, 1e-3))
    assert read == {f"{word} {name}." for word in ("a", "the") for name in task.class_names}
