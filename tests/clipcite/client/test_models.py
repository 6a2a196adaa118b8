"""Models, their aliases and exports, and the reports of jobs, through the Python client."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clipcite import (
    APIConnectionError,
    Client,
    ConflictError,
    Job,
    NotFoundError,
    Retry,
    UnprocessableEntityError,
)
from tests.clipcite.client.awaited import awaited_client
from tests.clipcite.painted import paint
from tests.faulty import faulty
from tests.service.running import Service


def test_a_model_is_named_promoted_and_rolled_back(service: Service, taught: Job, tmp_path: Path) -> None:
    with Client(service.url) as client:
        model = client.models.get(taught.model_id or "")
        copies = []
        delta = model.export(tmp_path / "delta.zip", format="delta")
        with zipfile.ZipFile(delta) as archive:
            archive.extractall(tmp_path / "delta")
        for source in (delta, tmp_path / "delta"):  # Zipped, or as a folder.
            copies.append(client.models.import_model(source, name="old shoes", alpha=0.3))
        assert [(one.version, one.job_id, one.alpha) for one in copies] == [(1, None, 0.3), (2, None, 0.3)]
        assert [one.id for one in client.models.list("old shoes")] == [copies[1].id, copies[0].id]

        alias = client.aliases.promote("old shoes", "prod", "old shoes@1")
        assert (alias.reference, alias.model) == ("old shoes@prod", copies[0].id)
        assert client.aliases.promote("old shoes", "prod", "old shoes@2").version == 2
        answer = client.classify([blue_image(tmp_path)], ["red", "blue"], model="old shoes@prod")
        assert answer.model == copies[1].id
        with pytest.raises(UnprocessableEntityError, match="30 images"):
            client.classify([blue_image(tmp_path)], ["red", "green"], model="old shoes", coverage=0.9)
        judged = client.classify([blue_image(tmp_path)], model="old shoes", something_else=True)
        assert judged[0].something_else
        assert client.aliases.rollback("old shoes", "prod").model == copies[0].id
        assert client.aliases.get("old shoes", "prod").history[0].action == "rolled_back"
        with pytest.raises(ConflictError):
            client.models.delete("old shoes@1")
        client.aliases.delete("old shoes", "prod")
        assert client.aliases.list("old shoes") == []
        handle = client.models.get("old shoes@1")
        assert handle.rename("boots").name == "boots"
        assert handle.promote().promoted
        assert handle.classify([blue_image(tmp_path)]).class_names[0].kind == "trained"
        handle.delete()
        client.models.delete("old shoes", force=True)
        with pytest.raises(NotFoundError):
            client.models.get("old shoes@2")


def blue_image(folder: Path) -> Path:
    return paint(folder, "blue", 1)[0]


def test_report_preflight_and_extension(service: Service, taught: Job, tmp_path: Path) -> None:
    with Client(service.url) as client:
        job = client.jobs.get(taught.id)
        report = job.report()
        assert report.model_id == taught.model_id
        assert report.summary
        assert report.measured_on.source == "test"
        assert 0 <= report.trained_classes.stock.low <= report.trained_classes.stock.value <= 1
        assert {one.name for one in report.classes} == {"red", "green", "blue"}  # also the new class
        page = job.report_page()
        assert " ".join(report.sentences[1:]) in page

        paint(tmp_path, "more/violet", 3)
        paint(tmp_path, "more/red", 1)
        bad = tmp_path / "more" / "violet" / "bad.jpg"
        bad.write_bytes(b"no image")
        found = client.preflight(tmp_path / "more")
        assert not found.acceptable
        assert str(bad) in [one.file for one in found.findings]
        bad.unlink()
        longer = client.models.get(taught.model_id or "").extend(tmp_path / "more", config={"epochs": 1000})
        assert {one.name: one.images for one in longer.classes} == {
            **{"red": 5, "green": 4, "violet": 3},
            "blue": 0,
        }
        with pytest.raises(NotFoundError, match="report"):
            longer.report()
        longer.cancel()


@pytest.mark.parametrize("connect", [Client, awaited_client])
def test_an_export_is_complete_or_absent(connect: Any, service: Service, taught: Job, tmp_path: Path) -> None:
    model = taught.model_id or ""
    target = tmp_path / "model.zip"
    target.write_bytes(b"of earlier")
    with faulty(service.url) as flaky:
        with connect(flaky.url, retry=Retry(attempts=2, first_seconds=0.01)) as client:
            flaky.expect("", "lost", "cut")
            with pytest.raises(APIConnectionError):
                client.models.export(model, target)
            assert target.read_bytes() == b"of earlier"
            with pytest.raises(UnprocessableEntityError, match="less than or equal to 1"):
                client.models.export(model, target, alpha=1.5)
            flaky.expect("", "cut")
            heard: list[int] = []
            client.models.export(
                model, target, alpha=0.25, on_download=lambda done, total: heard.append(done)
            )
        with zipfile.ZipFile(target) as archive:
            assert json.loads(archive.read("clipcite.json"))["alpha"] == 0.25
        assert heard[-1] == target.stat().st_size
        assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
        with connect(flaky.url, retry=Retry(first_seconds=0.01)) as client:
            flaky.seen.clear()
            flaky.expect("", "lost")
            # The import may have succeeded, so the client does not repeat it.
            with pytest.raises(APIConnectionError):
                client.models.import_model(target, name="brought")
            assert len(flaky.seen) == 1
            client.models.delete("brought")
