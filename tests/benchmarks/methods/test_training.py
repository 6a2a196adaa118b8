from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.methods.common import task as given
from benchmarks.methods.common.answerers import trained_columns
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.training import crops, fit, from_views, frozen_views
from core.clip.errors import TrainingDiverged
from core.clip.models.features import encode_images


def test_every_epoch_sees_every_image_once_in_batches_of_equal_size(task: given.Task) -> None:
    seen: list[tuple[int, list[int]]] = []
    rates: list[float] = []
    x = nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([x], lr=1.0)

    def source(epoch: int, indices: Tensor) -> Tensor:
        seen.append((epoch, indices.tolist()))
        return indices

    def loss(inputs: Tensor, labels: Tensor) -> Tensor:
        assert labels.tolist() == [task.labels[i] for i in inputs.tolist()]
        rates.append(optimizer.param_groups[0]["lr"])
        return x * 0

    fit(task, optimizer, loss, source, epochs=2, batch_size=8)
    assert [len(indices) for _, indices in seen] == [8, 7, 8, 7]
    assert [epoch for epoch, _ in seen] == [0, 0, 1, 1]
    for first, second in (seen[:2], seen[2:]):
        assert sorted(first[1] + second[1]) == list(range(15))
    assert rates == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])


def test_a_diverging_training_is_an_error(task: given.Task) -> None:
    x = nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([x], lr=1.0)
    with pytest.raises(TrainingDiverged, match="nan at step 1 of 6"):
        fit(task, optimizer, lambda i, y: x * torch.nan, lambda e, i: i, epochs=3, batch_size=8)


def test_about_half_of_the_crops_are_mirrored(task: given.Task) -> None:
    # Whole squares without noise and with a ramp from left to right: a mirrored ramp falls.
    ramp = torch.linspace(0, 255, 32).to(torch.uint8).expand(3, 32, 32)
    ramps = replace(task)
    ramps.__dict__["tensors"] = [ramp] * 100
    for flip, low, high in ((False, 0, 0), (True, 35, 65)):
        pixels = crops(ramps, 1.0, flip=flip)(0, torch.arange(100))
        falling = (pixels[:, 0, 0, 0] > pixels[:, 0, 0, -1]).sum()
        assert low <= falling <= high


def test_views_are_the_features_of_crops_in_turn(task: given.Task) -> None:
    model = task.backbone.model
    views = frozen_views(task, lambda x: encode_images(model, x), 2, 0.5, flip=True)
    assert views.shape[:2] == (2, 15)
    assert not views.requires_grad
    with torch.no_grad():
        expected = encode_images(model, crops(task, 0.5, flip=True)(0, torch.arange(15)))
    torch.testing.assert_close(views[0], expected, rtol=0, atol=1e-5)
    source, indices = from_views(views), torch.tensor([3, 1])
    assert [torch.equal(source(epoch, indices), views[epoch % 2][indices]) for epoch in range(3)] == [
        True
    ] * 3


def test_trained_classes_are_found_in_any_order_and_spelling(task: given.Task) -> None:
    columns, classes = trained_columns(task, ["new", "BLUE thing", "red thing"])
    assert (columns.tolist(), classes.tolist()) == ([1, 2], [2, 0])
    columns, classes = trained_columns(task, ["new"])
    assert (columns.tolist(), classes.tolist()) == ([], [])


def test_a_recipe_is_the_first_that_fits_the_name(task: given.Task) -> None:
    recipes = {"starter": 1, "ViT-B-*": 2, "*": 3}
    names = ("starter", "ViT-B-16/openai", "ViT-L-14/openai")
    assert [recipe(recipes, replace(task.backbone, name=name)) for name in names] == [1, 2, 3]
