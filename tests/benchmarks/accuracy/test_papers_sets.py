"""The papers' settings on small trees of all their data sets, from the command to the tables."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy import paper
from benchmarks.data.papers import ELEVEN
from core.clip.models.backbone import Backbone
from tests.benchmarks.data.tree import write_papers


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_papers(tmp_path_factory.mktemp("papers"))


@pytest.mark.slow
def test_one_command_prints_the_papers_tables_and_resumes(
    root: Path, backbone: Backbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--root", str(root), "--setting", "all", "--backbone", backbone.name, "--out", str(tmp_path)]
    command += ["--shots", "1", "--shot-counts", "1", "2", "--seeds", "1"]
    paper.main([*command, "--methods", "stock"])
    trained = len(ELEVEN) * 3 + 1 + len(ELEVEN) - 1
    assert "trainings" not in capsys.readouterr().out  # stock trains nothing
    (bng,) = tmp_path.glob("bng-*.json")
    table = json.loads(bng.read_text(encoding="utf-8"))[0]
    row = dict(zip(table["columns"], table["rows"][0], strict=True))
    b, n = float(row["B"]), float(row["N"])
    assert float(row["HM of means"]) == pytest.approx(2 * b * n / (b + n) if b + n else 0, abs=2e-3)
    (runs,) = tmp_path.glob("runs-*.json")
    keys = list(json.loads(runs.read_text(encoding="utf-8")))
    assert len(keys) == trained
    assert [key for key in keys if "ImageNet/" in key and "-on-ImageNet/" in key]  # DG with its source
    # Names of ImageNet make no sense in "a centered satellite photo of {}.".
    assert all("prompt-a_photo_of_a" in key for key in keys if "EuroSAT/" in key and "-on-" in key)
