"""`report`, `export`, `models` and `adapt --dry-run` as scripts use them."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clipcite import Job
from tests.clipcite.painted import paint


def test_report(call: Any, taught: Job, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    by_model = call("report", taught.model_id, "--html", page)
    assert page.as_uri() in by_model.stderr
    assert page.read_text().startswith("<!doctype html>")
    refused = call("report", taught.model_id, "--html", tmp_path / "no/report.html", status=2)
    assert "cannot be written" in refused.stderr
    assert by_model.stdout == call("report", taught.id).stdout
    for shown in ("Accuracy per class", "precision"):
        assert shown in by_model.stdout
    said = json.loads(call("report", taught.id, "--json").stdout)
    assert " ".join(said["sentences"]) in by_model.stdout
    assert "job_x" in call("report", "job_x", status=5).stderr


def test_export_import_names_and_aliases(
    call: Any, taught: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{taught.model_id}-delta.zip"
    assert name in call("export", taught.model_id, "--format", "delta").stdout
    assert f"{name} exists." in call("export", taught.model_id, "--format", "delta", status=2).stderr

    delta = tmp_path / "delta.zip"
    assert "MB" in call("export", taught.model_id, "--format", "delta", "-o", delta).stdout
    said = json.loads(
        call("export", taught.model_id, "-o", tmp_path / "a.zip", "--alpha", 1, "--json").stdout
    )
    assert said["bytes"] == (tmp_path / "a.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "open_clip_model.safetensors" in archive.namelist()
    refused = call("export", taught.model_id, "-o", tmp_path / "no/a.zip", status=2)
    assert "cannot be written" in refused.stderr

    brought = json.loads(call("models", "import", delta, "--name", "hats", "--json").stdout)
    assert (brought["version"], brought["job_id"]) == (1, None)
    assert "none (imported)" in call("models", "show", "hats").stdout
    assert "was imported" in call("report", "hats", status=5).stderr
    call("models", "import", delta, "--name", "hats")
    assert "hats@prod is hats@2" in call("models", "promote", "hats@prod", "hats").stdout
    assert "hats@prod is hats@1" in call("models", "promote", "hats@prod", "hats@1").stdout
    assert json.loads(call("models", "rollback", "hats@prod", "--json").stdout)["version"] == 2
    assert json.loads(call("models", "use", "hats@1", "--json").stdout)["promoted"]
    assert json.loads(call("models", "show", "hats", "--json").stdout)["version"] == 1
    assert "Not in use: an older version was promoted." in call("models", "show", "hats@2").stdout
    assert "hats@2, prod, not in use" in call("models", "list", "--name", "hats").stdout
    call("models", "use", "hats@2")
    assert "hats@prod" in call("models", "aliases", "hats").stdout
    listed = call("models", "list", "--name", "hats").stdout
    assert brought["id"][-6:] in listed
    assert "hats@2" in listed
    call("models", "delete", "hats@prod", status=5)
    assert "deleted" in call("models", "delete", "hats@prod", "--force").stdout
    assert json.loads(call("models", "aliases", "hats", "--json").stdout) == []
    assert "caps@1" in call("models", "rename", "hats", "caps").stdout
    assert json.loads(call("models", "delete", "caps", "--json").stdout) == {"id": "caps", "deleted": True}
    assert "name@alias" in call("models", "promote", "hats", "x", status=2).stderr


def test_dry_run_and_extension(call: Any, taught: Job, tmp_path: Path) -> None:
    paint(tmp_path, "more/red", 2)
    paint(tmp_path, "more/violet", 2)
    checked = call("adapt", tmp_path / "more", "--dry-run")
    assert "found: class folders, 2 classes, 4 images" in checked.stderr
    assert "of 4 images" in checked.stdout
    assert "duration" in checked.stdout
    more = json.loads(
        call("adapt", tmp_path / "more", "--dry-run", "--extends", taught.model_id, "--json").stdout
    )
    assert more["images"] == 18
    (tmp_path / "more/red/bad.jpg").write_bytes(b"no image")
    said = call("adapt", tmp_path / "more", "--dry-run", status=1).stdout
    assert str(tmp_path / "more/red/bad.jpg") in said
    assert "--on-bad-image skip" in said
    call("adapt", tmp_path / "more", "--dry-run", "--on-bad-image", "skip")
