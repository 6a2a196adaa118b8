"""The arms of benchmarks/plans/strength.md, on a tiny model."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.accuracy import encodings, strengths
from benchmarks.accuracy.strengths import ALPHAS, GROUPS, PRODUCT, Arm, delta_d
from core.clip.models.backbone import Backbone
from tests.benchmarks.accuracy.test_rescore import arguments

__all__ = ["arguments"]


@pytest.fixture
def stored(arguments: list[str], backbone: Backbone, tmp_path: Path) -> encodings.Encodings:
    encodings.main([*arguments, "--alphas", *map(str, ALPHAS)])
    return encodings.read(min((tmp_path / "out" / "encodings").iterdir()))


@pytest.mark.slow
def test_the_tables_come_from_stored_features(
    stored: encodings.Encodings, arguments: list[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("\n".join(f"<!-- strength-{g} -->\n<!-- /strength-{g} -->" for g in GROUPS))
    strengths.main([*arguments, "--page", str(page)])
    (path,) = (tmp_path / "out").glob("strengths-*.json")
    for table in json.loads(path.read_text(encoding="utf-8")):
        assert [row[0] for row in table["rows"][:2]] == ["α 0.5", "chosen"]
        assert len(table["rows"]) == 2 + 4
    assert "**Strength, towers: mean of 2 sets" in page.read_text(encoding="utf-8")


def test_an_arm_takes_the_features_of_each_tower(stored: encodings.Encodings) -> None:
    view = Arm((0.3, 0.7), (0.3, 0.7)).view(stored)
    assert torch.equal(view.images[0.5], stored.images[0.3])
    assert torch.equal(view.shots[0.5], stored.shots[0.3])
    assert torch.equal(view.unrelated_images[0.5], stored.unrelated_images[0.3])
    assert torch.equal(view.texts[0.5], stored.texts[0.7])
    assert torch.equal(view.unrelated_texts[0.5], stored.unrelated_texts[0.7])
    assert torch.equal(PRODUCT.view(stored).images[0.5], stored.images[0.5])


def test_the_distance_chooses_the_strength(stored: encodings.Encodings) -> None:
    texts = stored.texts[0.0]
    new = [c for c in range(len(texts)) if c not in stored.trained]
    among = [float(1 - texts[a] @ texts[b]) for a in new for b in new if a != b]
    across = [float(1 - texts[a] @ texts[b]) for a in new for b in stored.trained]
    distance = sum(among) / len(among) - sum(across) / len(across)
    assert delta_d(stored) == pytest.approx(distance, abs=1e-5)
    for threshold, alpha in ((distance + 0.01, 0.7), (distance - 0.01, 0.3)):
        view = Arm((0.7, 0.7), (0.3, 0.3), threshold).view(stored)
        assert torch.equal(view.images[0.5], stored.images[alpha])
