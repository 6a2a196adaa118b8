"""The commands on a tiny model and coloured images: every setting, resuming, and the tables."""

import csv
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import harness, paper
from benchmarks.accuracy.scores import BestScores
from benchmarks.methods.common.registry import METHODS
from benchmarks.methods.common.task import Predictor, Task
from core.clip.models.backbone import Backbone
from tests.benchmarks.coloured import COLOURS, folder_of

FAST = ("stock", "linear_probe")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("data") / "colours", sorted(COLOURS))


@pytest.fixture
def options(backbone: Backbone, tmp_path: Path) -> list[str]:
    return ["--backbone", backbone.name, "--out", str(tmp_path), "--shots", "2", "--seeds", "1"]


def tables(out: Path, pattern: str) -> list[dict[str, object]]:
    (path,) = out.glob(pattern)
    found: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_base_to_new_is_run_once_and_printed_again(
    colours: Path, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def counted(task: Task) -> dict[str, Predictor]:
        trained.append(len(task.tensors))
        return METHODS["stock"](task)

    monkeypatch.setattr(paper, "METHODS", {"stock": counted, "linear_probe": METHODS["linear_probe"]})
    command = ["--setting", "bng", "--data", str(colours), "--splits", "2", "--methods", *FAST, *options]
    paper.main(command)
    assert trained == [4, 4]  # Two splits of two classes with two shots.
    first = tables(tmp_path, "bng-*.json")
    paper.main(command)
    assert trained == [4, 4]
    assert tables(tmp_path, "bng-*.json") == first
    paper.main([*command, "--tests", "1"])  # a first look is another run
    assert len(trained) == 4


def test_a_run_stores_the_score_of_every_class(
    colours: Path, backbone: Backbone, options: list[str], tmp_path: Path
) -> None:
    paper.main(["--data", str(colours), "--methods", *FAST, *options])
    for method, label in (("stock", "stock"), ("linear_probe", "Linear probe")):
        store = harness.store_of(method, backbone, tmp_path)
        (key,) = [key for key in store.names() if key.endswith(f"/{method}")]
        run = store.get(key)
        name = f"{label}@colours"
        kept = BestScores(**{f.name: run.array(f"{name}/{f.name}") for f in fields(BestScores)})
        again = BestScores.from_scores(run.scores(name), kept.truth, kept.trained.tolist())
        assert run.scores(name).shape == (12, 4)
        assert run.array(f"{name}/class_names").tolist() == sorted(COLOURS)
        for column in ("trained_score", "new_score"):
            np.testing.assert_allclose(getattr(again, column), getattr(kept, column), rtol=0, atol=1e-5)
        assert run.matrices[name]["max_error"] < 1e-5
        assert set(run.record["versions"]) == {"python", *harness.PACKAGES}
        assert run.record["seconds"] > 0


def test_recipes_and_templates_do_not_mix(colours: Path, options: list[str], tmp_path: Path) -> None:
    command = ["--data", str(colours), "--methods", "stock", "clip_cite", *options]
    rows = {}
    for recipe in ("ours", "paper"):
        file = tmp_path / f"{recipe}.csv"
        paper.main([*command, "--recipe", recipe, "--template", "a photo of a {}", "--csv", str(file)])
        with file.open(encoding="utf-8", newline="") as lines:
            rows[recipe] = list(csv.DictReader(lines))
    labels = {recipe: [row["label"] for row in found] for recipe, found in rows.items()}
    assert labels["ours"] == ["stock", "CLIP-CITE, served", "CLIP-CITE", "CLIP-CITE, α = 1"]
    assert labels["paper"][0] == "stock"
    assert not set(labels["ours"][1:]) & set(labels["paper"])
    assert [row["iterations"] for row in rows["paper"][:2]] == ["0", "20"]  # 20 epochs of one batch
    # Another template is another run, also of stock.
    again = tmp_path / "again.csv"
    paper.main(["--data", str(colours), "--methods", "stock", *options, "--csv", str(again)])
    assert "a photo of a {}." in again.read_text(encoding="utf-8")


def test_without_data_the_error_says_what_to_pass() -> None:
    with pytest.raises(SystemExit, match="--root"):
        paper.read_trials(paper.parser(None, METHODS).parse_args([]))
