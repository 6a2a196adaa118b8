"""The command on a tiny network and pictures of colours, and what it makes of its records."""

import json
from pathlib import Path

import pytest

from benchmarks import trust
from benchmarks.data.load import load
from benchmarks.harness import Trial
from core.clip.backbone import Backbone
from tests.benchmarks.test_paper import COLOURS, folder_of


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("data") / "colours", list(COLOURS), train=16, test=3)


def test_all_kinds_are_run_once_and_shown(
    colours: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = trust.resolve_config
    monkeypatch.setattr(trust, "resolve_config", lambda **given: resolve(**{**given, "epochs": 1}))
    command = ["--data", str(colours), "--backbone", backbone.name, "--out", str(tmp_path), "--shots", "16"]
    trust.main(command)
    records = [json.loads(p.read_text(encoding="utf-8")) for p in tmp_path.rglob("trust.json")]
    assert {r["kind"] for r in records} == set(trust.KINDS)
    assert {r["images"] for r in records} == {32}
    real = next(r for r in records if r["kind"] == "real")
    assert real["said"]["low"] <= real["said"]["value"] <= real["said"]["high"]
    assert 0 <= real["true"] <= 1
    assert real["confidence"]["classes"] == 2
    assert set(real["mixed"]) >= {"0.0", "0.5", str(real["auto"])}
    planted = next(r for r in records if r["kind"] == "planted")
    assert planted["planted"] == 3
    assert planted["found"] <= planted["suspects"]
    (page,) = tmp_path.glob("trust-*.json")
    titles = [table["title"] for table in json.loads(page.read_text(encoding="utf-8"))]
    assert len(titles) == 4

    monkeypatch.setattr(trust, "run", None)  # a second time everything is there
    trust.main(command)


def test_labels_are_dealt_out_anew_or_planted(colours: Path) -> None:
    data = load(colours)
    trial = Trial(data, (0, 1), 16, 0, 0, (data,))
    examples = [e for e in data.train if e.label in trial.trained]
    truth = [e.label for e in examples]
    assert trust.relabelled("real", trial, examples) == (truth, set())
    shuffled, none = trust.relabelled("shuffled", trial, examples)
    assert sorted(shuffled) == sorted(truth)
    assert shuffled != truth
    assert none == set()
    labels, planted = trust.relabelled("planted", trial, examples)
    assert len(planted) == 3
    assert {i for i, (one, other) in enumerate(zip(labels, truth, strict=True)) if one != other} == planted
