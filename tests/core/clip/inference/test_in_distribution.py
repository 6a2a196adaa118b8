import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.in_distribution import in_distribution_score

D = 8


def drawn(n: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(n, D, generator=torch.Generator().manual_seed(seed)), dim=-1)


SHOTS, LABELS = drawn(9, 1), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
IMAGES, HEAD = drawn(5, 2), drawn(3, 3)
RANKED = IMAGES @ HEAD.T - torch.tensor([0.1, 0.0, 0.2])


def test_the_score_equals_its_formula() -> None:
    found = in_distribution_score(IMAGES, RANKED, SHOTS, LABELS, [0, 1, 2])
    for n, x in enumerate(IMAGES):
        of_names = []
        for c in range(3):
            mean = torch.stack([s for s, label in zip(SHOTS, LABELS, strict=True) if label == c]).mean(dim=0)
            of_names.append(float(RANKED[n, c] + x @ (mean / mean.norm())))
        assert float(found[n]) == pytest.approx(max(of_names), abs=1e-6)


def test_the_order_of_the_names_does_not_matter() -> None:
    found = in_distribution_score(IMAGES, RANKED, SHOTS, LABELS, [0, 1, 2])
    other = in_distribution_score(IMAGES, RANKED[:, [2, 0, 1]], SHOTS, LABELS, [2, 0, 1])
    torch.testing.assert_close(other, found)


def test_the_score_separates_images_that_names_cannot() -> None:
    """Two images are equally near to every class name; only one lies near the training images."""
    images = F.normalize(torch.stack([SHOTS[5:].mean(dim=0), -SHOTS[5:].mean(dim=0)]), dim=-1)
    as_near = torch.full((2, 3), 0.2)
    among, apart = in_distribution_score(images, as_near, SHOTS, LABELS, [0, 1, 2]).tolist()
    assert among == pytest.approx(1.2)
    assert apart < 1.0


def test_a_class_without_a_shot_is_not_rejected() -> None:
    kept = LABELS != 1
    ranked = torch.tensor([[0.0, 0.3, 0.0]]).expand(5, 3)  # By its name, every image resembles that class.
    found = in_distribution_score(IMAGES, ranked, SHOTS[kept], LABELS[kept], [0, 1, 2])
    means = F.normalize(torch.stack([SHOTS[c == LABELS].mean(dim=0) for c in (0, 2)]), dim=-1)
    torch.testing.assert_close(found, 0.3 + (IMAGES @ means.T).amax(dim=1))
