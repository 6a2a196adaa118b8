import torch

from benchmarks.methods.common import task as given
from benchmarks.methods.common.answerers import stock_head
from benchmarks.methods.preview import preview
from benchmarks.methods.stock import stock
from core.clip.inference.prototypes import PrototypeClassifier

NAMES = ["green thing", "grey square", "Red Thing"]


def test_the_preview_equals_the_products(task: given.Task, shown: given.Tests) -> None:
    answers = preview(task)["Preview"]
    found = answers.similarities(shown, NAMES)
    product = PrototypeClassifier(shown.stock_features, torch.tensor(task.labels))
    head = stock_head(task, NAMES)
    expected = product.rule(head, [1, -1, 0]).scores(shown.stock_features)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)

    def accuracy(of: given.Predictor) -> float:
        best = of.similarities(shown, task.class_names).argmax(dim=1)
        return (best == torch.tensor(task.labels)).float().mean().item()

    assert accuracy(answers) > max(0.8, accuracy(stock(task)["stock"]))
