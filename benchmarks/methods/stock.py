"""Stock model: the pre-trained network without adaptation."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from benchmarks.methods.common.answerers import stock_head
from benchmarks.methods.common.task import Predictor, Task, Tests


@dataclass(frozen=True)
class Stock:
    task: Task

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        return (tests.stock_features @ stock_head(self.task, class_names).T).cpu()


def stock(task: Task) -> dict[str, Predictor]:
    """Classify zero-shot, without training.

    A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
    arXiv 2103.00020.
    """
    return {"stock": Stock(task)}
