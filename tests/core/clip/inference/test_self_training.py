"""Self-training of a closed request, against a plain form of the rule."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.request_rule import adapted_rule
from core.clip.inference.self_training import self_trained

SCALE = 30.0
CENTRES = F.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
TEXTS = F.normalize(CENTRES + torch.randn(3, 8, generator=torch.Generator().manual_seed(2)) / 4, dim=-1)


def around(labels: Tensor, spread: float, seed: int) -> Tensor:
    noise = torch.randn(len(labels), 8, generator=torch.Generator().manual_seed(seed))
    return F.normalize(CENTRES[labels] + spread * noise, dim=-1)


LABELS = torch.tensor([0, 1, 2, 2])
SHOTS = around(LABELS, 0.5, seed=3), LABELS
IMAGES = around(torch.arange(90) % 3, 0.5, seed=4)


def by_the_plan(classes: list[int], images: Tensor) -> Tensor:
    """Score the images after three rounds; the surer 80% of each predicted class join its shots in each."""
    texts = TEXTS[classes]
    joined: list[tuple[Tensor, int]] = []
    for _ in range(4):
        features = [*SHOTS[0], *(image for image, _ in joined)]
        labels = [*LABELS.tolist(), *(label for _, label in joined)]
        shots = torch.stack(features), torch.tensor(labels)
        scores = adapted_rule(shots, texts, classes, SCALE).scores(images)
        joined = []
        for place, label in enumerate(classes):
            found = []
            for image, row in zip(images, (SCALE * scores).softmax(dim=1), strict=True):
                if int(row.argmax()) == place:
                    found.append((float(row[place]), image))
            found.sort(key=lambda pair: -pair[0])
            joined += [(image, label) for _, image in found[: len(found) * 8 // 10]]
    return scores


@pytest.mark.parametrize("classes", [[0, 1, 2], [2, 0]])
def test_it_is_what_the_plan_says(classes: list[int]) -> None:
    scores = self_trained(SHOTS, TEXTS[classes], classes, IMAGES, SCALE).scores(IMAGES)
    assert torch.allclose(scores, by_the_plan(classes, IMAGES), atol=1e-6)
    assert not torch.allclose(
        scores, adapted_rule(SHOTS, TEXTS[classes], classes, SCALE).scores(IMAGES), atol=1e-2
    )


def test_few_images_and_copies_of_one() -> None:
    few = self_trained(SHOTS, TEXTS, [0, 1, 2], IMAGES[:3], SCALE).scores(IMAGES)
    assert torch.equal(
        few, adapted_rule(SHOTS, TEXTS, [0, 1, 2], SCALE).scores(IMAGES)
    )  # one image of each class
    for image in (IMAGES[0], SHOTS[0][0]):
        copies = image.expand(200, -1)
        scores = self_trained(SHOTS, TEXTS, [0, 1, 2], copies, SCALE).scores(copies)
        assert scores.isfinite().all()
        assert set(scores.argmax(dim=1).tolist()) == {0}
