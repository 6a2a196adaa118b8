"""The papers' settings on small trees of all their data sets, from the command to the tables."""

import csv
import json
from pathlib import Path

import open_clip
import pytest

from benchmarks.accuracy import paper
from benchmarks.data.papers import ELEVEN, IMAGENET_VARIANTS
from benchmarks.full_size.__main__ import publish
from core.clip.models.backbone import Backbone
from core.settings import Settings
from tests.benchmarks.data.tree import write_papers
from tests.core.clip.families import SMALL
from tests.hub import Hub


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_papers(tmp_path_factory.mktemp("papers"))


@pytest.mark.parametrize(
    ("setting", "more", "tables"),
    [
        ("bng", ["--methods", "stock", "clip_cite"], len(ELEVEN) + 2),  # also their mean and the published
        ("fsl", ["--methods", "stock", "--shot-counts", "1", "2"], 1),
        ("dg", ["--methods", "stock"], 1),
        ("cdg", ["--methods", "stock"], 1),
    ],
)
@pytest.mark.slow
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
    assert len(json.loads(file.read_text(encoding="utf-8"))) == tables
    (runs,) = tmp_path.glob("runs-*.json")
    done = {key.split("/")[0] for key in json.loads(runs.read_text(encoding="utf-8"))}
    expected = set(ELEVEN) - ({"ImageNet"} if setting == "cdg" else set())
    assert done == ({"ImageNet"} if setting == "dg" else expected)


def test_the_trees_have_all_fifteen_data_sets(root: Path) -> None:
    assert len([*root.iterdir()]) == len(ELEVEN) + len(IMAGENET_VARIANTS)


def test_weights_of_a_hub_give_one_row_per_run_and_an_interrupted_series_resumes(
    root: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT-B/32 under its real name, but small and with random weights."""
    small, _ = SMALL["clip"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", small)
    monkeypatch.setattr(paper, "get_settings", lambda: Settings(cache=tmp_path / "cache"))
    publish(hub, "ViT-B-32/openai", tmp_path / "hub")
    command = ["--root", str(root), "--backbone", "ViT-B-32/openai", "--out", str(tmp_path / "out")]
    command += ["--datasets", "EuroSAT", "FGVCAircraft", "--shots", "1", "--seeds", "1"]
    run, done = paper.run, 0

    def interrupted(*arguments: object) -> bool:
        nonlocal done
        done += 1
        if done == 3:
            raise KeyboardInterrupt
        return run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(paper, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paper.main(command)
    ran: list[bool] = []

    def counted(*arguments: object) -> bool:
        ran.append(run(*arguments))  # type: ignore[arg-type]
        return ran[-1]

    monkeypatch.setattr(paper, "run", counted)
    paper.main([*command, "--csv", str(tmp_path / "paper.csv")])
    assert ran == [False, False, True, True]
    with (tmp_path / "paper.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = ["stock"] * 2 + ["CLIP-CITE, served", "CLIP-CITE, balanced", "CLIP-CITE", "CLIP-CITE, α = 1"] * 2
    assert [row["label"] for row in rows] == labels
    assert [row["data"] for row in rows[:2]] == ["EuroSAT", "FGVCAircraft"]
    assert {row["backbone"] for row in rows} == {"ViT-B-32/openai"}
    assert len({row["backbone_sha256"] for row in rows}) == 1
    assert rows[-1]["iterations"] == "20"
    assert len(hub.transfers()) == 1
