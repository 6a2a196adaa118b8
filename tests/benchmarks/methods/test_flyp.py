import pytest
import torch
import torch.nn.functional as F
from open_clip import ClipLoss

from benchmarks.methods.flyp import contrastive
from core.clip.training.losses import supervised_contrastive


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
