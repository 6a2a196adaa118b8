"""The signed-rank verdict and the jobs of its plan."""

from pathlib import Path

import numpy as np

from benchmarks.data.dataset import DataSet, Example
from benchmarks.trust.runs import Record
from benchmarks.trust.verdicts import jobs, judged, tables


def data(name: str) -> DataSet:
    images = tuple(Example(Path(f"{label}/{i}.jpg"), label) for label in range(12) for i in range(6))
    return DataSet(name, tuple(f"class {label}" for label in range(12)), ("a {}.",), images, images)


def test_the_jobs_are_the_plans() -> None:
    made = jobs([data("stamps")], [data("clothing"), data("cifar10")])
    counts = {
        (labels, name): sorted(t.split for kind, t in made if (kind, t.data.name) == (labels, name))
        for labels in ("shuffled", "true")
        for name in ("stamps", "clothing", "cifar10")
    }
    assert {key: (len(s), s[0], s[-1]) for key, s in counts.items()} == {
        ("shuffled", "stamps"): (60, 5, 64),
        ("shuffled", "clothing"): (20, 5, 24),
        ("shuffled", "cifar10"): (20, 5, 24),
        ("true", "stamps"): (10, 5, 14),
        ("true", "clothing"): (10, 5, 14),
        ("true", "cifar10"): (10, 5, 14),
    }
    assert all(trial.seed == trial.split for _, trial in made)
    first = [labels for labels, _ in made[:65]]
    assert 48 <= first.count("shuffled") <= 52


def record(lead: float) -> Record:
    """Return a record of 60 images whose adapted scores lead by `lead` more than those of the stock model."""
    truth = np.arange(60) % 3
    stock = np.random.default_rng(1).normal(0, 0.03, (60, 3))
    stock[np.arange(60), truth] += 0.02
    adapted = stock.copy()
    adapted[np.arange(60), truth] += lead
    plain = {"labels": "true", "data": "stamps", "logit_scale": 40.0}
    return Record(plain, {"truth": truth.astype(np.uint8), "stock": stock, "adapted": adapted})


def test_a_record_is_judged_at_each_size() -> None:
    gain, loss = judged(record(0.05)), judged(record(-0.05))
    assert list(gain) == ["labels", 12, 20, 28, None]
    assert (gain[None], loss[None]) == ("better", "worse")
    (table,) = tables([gain, loss])
    assert table.rows[-1] == ["true", "2", "all", "1", "0", "0", "0", "1"]
