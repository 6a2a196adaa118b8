import torch

from benchmarks.methods.common import task as given
from benchmarks.methods.ft_probe import FtProbe, ft_probe
from benchmarks.methods.stock import stock


def test_without_training_the_model_is_stock(task: given.Task, shown: given.Tests) -> None:
    names = ["green thing", "grey square"]
    answers = ft_probe(task, FtProbe(epochs=0))["FT-Probe"].similarities(shown, names)
    expected = stock(task)["stock"].similarities(shown, names)
    torch.testing.assert_close(answers, expected, rtol=0, atol=1e-5)


def test_the_text_tower_stays(task: given.Task) -> None:
    model = ft_probe(task, FtProbe(1, 8, 1e-3))["FT-Probe"].model  # type: ignore[attr-defined]
    theta_0 = dict(task.backbone.model.named_parameters())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, theta_0[name])}
    assert moved
    assert all(name.startswith("visual.") for name in moved)
