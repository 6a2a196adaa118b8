import torch
import torch.nn.functional as F

from benchmarks.methods.common import task as given
from benchmarks.methods.prolip import ProLip, before_projection, projection, prolip
from benchmarks.methods.stock import stock

NAMES = ["green thing", "grey square"]


def test_the_frozen_part_and_the_projection_make_the_features(task: given.Task, shown: given.Tests) -> None:
    name, transposed = projection(task.backbone)
    weight = task.backbone.model.get_parameter(name)
    with torch.no_grad():
        before = before_projection(task.backbone)(shown._pixels)
        features = F.normalize(before @ (weight.T if transposed else weight), dim=-1)
    torch.testing.assert_close(features, shown.stock_features, rtol=0, atol=1e-5)


def test_a_strong_regularisation_keeps_it_stock(task: given.Task, shown: given.Tests) -> None:
    expected = stock(task)["stock"].similarities(shown, NAMES)
    moved = []
    for strength in (0.0, 1e4):
        settings = ProLip(steps=50, learning_rate=1e-3, regularisation=strength, views=1)
        answers = prolip(task, settings)["ProLIP"].similarities(shown, NAMES)
        moved.append((answers - expected).abs().max())
    assert moved[1] < 1e-2 < moved[0]
