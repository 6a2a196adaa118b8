"""The papers' settings on small trees of all their data sets, from the command to the tables."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy import paper
from benchmarks.data.papers import ELEVEN, IMAGENET_VARIANTS
from core.clip.models.backbone import Backbone
from tests.benchmarks.data.tree import write_papers


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_papers(tmp_path_factory.mktemp("papers"))


@pytest.mark.parametrize(
    ("setting", "more", "tables"),
    [
        ("bng", ["--methods", "stock", "clip_cite"], 2),
        ("fsl", ["--methods", "stock", "--shot-counts", "1", "2"], 1),
        ("dg", ["--methods", "stock"], 1),
        ("cdg", ["--methods", "stock"], 1),
    ],
)
def test_every_setting_runs_on_all_data_sets(
    root: Path, backbone: Backbone, tmp_path: Path, setting: str, more: list[str], tables: int
) -> None:
    paper.main(
        [
            *("--root", str(root), "--setting", setting, "--backbone", backbone.name),
            *("--shots", "1", "--seeds", "1", "--out", str(tmp_path), *more),
        ]
    )
    (file,) = tmp_path.glob(f"{setting}-*.json")
    assert len(json.loads(file.read_text(encoding="utf-8"))) >= tables
    (runs,) = tmp_path.glob("runs-*.json")
    done = {key.split("/")[0] for key in json.loads(runs.read_text(encoding="utf-8"))}
    expected = set(ELEVEN) - ({"ImageNet"} if setting == "cdg" else set())
    assert done == ({"ImageNet"} if setting == "dg" else expected)


def test_the_trees_have_all_fifteen_data_sets(root: Path) -> None:
    assert len([*root.iterdir()]) == len(ELEVEN) + len(IMAGENET_VARIANTS)
