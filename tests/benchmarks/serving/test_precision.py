"""The comparison of precisions, and the verdict on changed answers."""

from pathlib import Path

import pytest
import torch

from benchmarks.serving import precision
from benchmarks.serving.precision import EXACT, Task, measure, table
from core.clip.models.backbone import load_backbone, tower_parameters
from core.clip.weights.delta import encode
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SupportSet
from tests.core.clip.tiny import make_tiny_backbone
from tests.core.serving.adapted import moved


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
    assert list(results) == [EXACT, "bf16"]
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
    _, *changed, share, rule, largest, _, _ = rows["bf16"]
    assert 0 < float(largest) < 0.5
    assert float(share) == pytest.approx(1000 * sum(map(int, changed)) / 390, abs=0.06)
    assert (rule == "kept") == (float(share) <= 1)
