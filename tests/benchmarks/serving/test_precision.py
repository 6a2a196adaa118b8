"""The comparison of precisions: emulated rounding, and the verdict on changed answers."""

from pathlib import Path

import pytest
import torch

from benchmarks.serving import precision
from benchmarks.serving.precision import EXACT, Rounded, Task, measure, table, to_tf32
from core.clip.models.backbone import load_backbone, tower_parameters
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SupportSet
from tests.core.clip.tiny import make_tiny_backbone
from tests.core.serving.adapted import moved


def test_tf32_keeps_ten_bits() -> None:
    x = torch.tensor([1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -1 - 2**-11, 3.0])
    assert to_tf32(x).tolist() == [1 + 2**-10, 1 + 2**-10, 1, -1 - 2**-10, 3]
    assert to_tf32(x, truncated=True).tolist() == [1 + 2**-10, 1, 1, -1, 3]


def test_operands_are_rounded_and_results_if_requested() -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(3, 8), torch.randn(4, 8), torch.randn(4)

    def low(t: torch.Tensor) -> torch.Tensor:
        return t.bfloat16().float()

    with torch.no_grad(), Rounded(low, results=False):
        operands = torch.nn.functional.linear(x, w, b)
    with torch.no_grad(), Rounded(low, results=True):
        both = torch.nn.functional.linear(x, w, b)
    assert torch.equal(operands, torch.nn.functional.linear(low(x), low(w), b))
    assert torch.equal(both, low(torch.nn.functional.linear(low(x), low(w), low(b))))


def test_every_precision_is_compared_with_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "ROUNDS", 1)
    backbone = load_backbone(make_tiny_backbone(tmp_path / "network"), cache=tmp_path)
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(3, 4, 32, generator=generator), dim=-1)
    delta = encode(tower_parameters(backbone.model), moved(backbone), "full")
    size = backbone.image_size
    task = Task(
        torch.randint(256, (130, size, size, 3), dtype=torch.uint8, generator=generator),
        torch.randint(4, (130,), generator=generator),
        [[f"a photo of a {name}."] for name in ("fox", "badger", "oak", "elm")],
        [0, 1],
        Weights(delta, SupportSet(features, torch.tensor([0, 0, 1, 1]))),
    )
    results = measure(backbone, task)
    assert list(results) == [EXACT, "tf32, rounded", "tf32, truncated", "bf16", "fp16"]
    rows = {row[0]: row[1:] for row in table(results, "tiny").rows}
    answers, *changed, share, rule, largest, coverage, ratio = rows[EXACT]
    assert (answers, changed, share, rule, largest, ratio) == (
        "390",
        ["0"] * 4,
        "0.0",
        "kept",
        "0.0000",
        "1.00",
    )
    assert 80 < float(coverage.removesuffix("%")) <= 100
    for name in list(rows)[1:]:
        assert 0 < float(rows[name][7]) < 0.5, name
        assert (rows[name][6] == "kept") == (sum(map(int, rows[name][1:5])) / 390 <= 0.001), name
    largest_changes = [float(rows[name][7]) for name in ("tf32, rounded", "bf16")]
    assert largest_changes[0] < largest_changes[1] / 2
