from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.methods.common import task as given
from benchmarks.methods.common.answerers import trained_columns
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.training import fit
from core.clip.errors import TrainingDiverged


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


def test_trained_classes_are_found_in_any_order_and_spelling(task: given.Task) -> None:
    columns, classes = trained_columns(task, ["new", "BLUE thing", "red thing"])
    assert (columns.tolist(), classes.tolist()) == ([1, 2], [2, 0])
    columns, classes = trained_columns(task, ["new"])
    assert (columns.tolist(), classes.tolist()) == ([], [])


def test_a_recipe_is_the_first_that_fits_the_name(task: given.Task) -> None:
    recipes = {"starter": 1, "ViT-B-*": 2, "*": 3}
    names = ("starter", "ViT-B-16/openai", "ViT-L-14/openai")
    assert [recipe(recipes, replace(task.backbone, name=name)) for name in names] == [1, 2, 3]
