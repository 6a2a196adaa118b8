import pytest
import torch
import torch.nn.functional as F

from benchmarks.methods.common import task as given
from benchmarks.methods.stock import stock
from benchmarks.methods.tip_adapter import TipAdapter, tip_adapter

NAMES = ["green thing", "grey square", "red thing"]


@pytest.mark.parametrize("epochs", [0, 3])
def test_the_cache_votes_for_trained_classes_only(task: given.Task, shown: given.Tests, epochs: int) -> None:
    settings = TipAdapter(epochs=epochs, learning_rate=1e-2, views=2)
    cache = tip_adapter(task, settings)["Tip-Adapter-F"]
    answers = cache.similarities(shown, NAMES)
    added = answers - stock(task)["stock"].similarities(shown, NAMES)
    assert (added[:, 1] == 0).all()
    keys = cache.keys  # type: ignore[attr-defined]
    for column, label in ((0, 1), (2, 0)):  # Image by image, as in the paper.
        of_class = [key for key, of in zip(keys, task.labels, strict=True) if of == label]
        expected = sum(torch.exp(-5.5 * (1 - shown.stock_features @ key)) for key in of_class)
        torch.testing.assert_close(added[:, column], expected / task.backbone.logit_scale, atol=1e-5, rtol=0)


def test_the_keys_are_trained(task: given.Task, shown: given.Tests) -> None:
    """An untrained cache fits its images as well: only the comparison with it shows training."""
    untrained, trained = (
        tip_adapter(task, TipAdapter(epochs=epochs, learning_rate=1e-2, views=2))["Tip-Adapter-F"]
        for epochs in (0, 5)
    )
    losses = [
        F.cross_entropy(
            task.backbone.logit_scale * cache.similarities(shown, task.class_names), torch.tensor(task.labels)
        )
        for cache in (untrained, trained)
    ]
    assert losses[1] < 0.98 * losses[0]
