from dataclasses import replace

import pytest
import torch

from benchmarks.methods.common import task as given
from benchmarks.methods.coop import CoOp, coop
from benchmarks.methods.stock import stock

NAMES = ["green thing", "round black square", "red thing"]


@pytest.mark.parametrize("context", ["a photo of a", "the image of the"])
def test_the_initial_context_is_the_template(task: given.Task, shown: given.Tests, context: str) -> None:
    answers = coop(task, CoOp(context=context, epochs=0, views=1))["CoOp"].similarities(shown, NAMES)
    expected = stock(replace(task, templates=(f"{context} {{}}.",)))["stock"].similarities(shown, NAMES)
    torch.testing.assert_close(answers, expected, rtol=0, atol=1e-6)
