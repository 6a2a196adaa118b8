"""The papers' settings on small trees of all their data sets, from the command to the tables."""

import csv
import json
from pathlib import Path

import open_clip
import pytest

from benchmarks.accuracy import paper
from benchmarks.accuracy.forecast import forecast
from benchmarks.data.papers import ELEVEN
from benchmarks.full_size.__main__ import publish
from benchmarks.methods.common.registry import METHODS
from core.clip.models.backbone import Backbone
from core.settings import Settings
from tests.benchmarks.data.tree import write_papers
from tests.core.clip.families import SMALL
from tests.hub import Hub


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
    expected = {"bng": len(ELEVEN) + 2, "fsl": len(ELEVEN) + 1, "dg": 2, "cdg": len(ELEVEN)}
    for setting, tables in expected.items():
        (file,) = tmp_path.glob(f"{setting}-*.json")
        found = json.loads(file.read_text(encoding="utf-8"))
        assert len(found) == tables
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
    options = paper.parser(None, METHODS).parse_args(command[:2] + command[4:])  # base-to-new alone
    text = forecast(["clip_cite"], paper.read_trials(options), backbone, tmp_path)
    assert text.startswith(f"{len(ELEVEN)} trainings, {len(ELEVEN)} of them to run. About 0.")


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
    labels = ["stock"] * 2 + ["CLIP-CITE, served", "CLIP-CITE", "CLIP-CITE, α = 1"] * 2
    assert [row["label"] for row in rows] == labels
    assert [row["data"] for row in rows[:2]] == ["EuroSAT", "FGVCAircraft"]
    assert {row["backbone"] for row in rows} == {"ViT-B-32/openai"}
    assert len({row["backbone_sha256"] for row in rows}) == 1
    assert rows[-1]["iterations"] == "20"
    assert len(hub.transfers()) == 1
