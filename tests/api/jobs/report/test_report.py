"""The report of a succeeded job: JSON, the page, and the answer of a job without one."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from api.jobs.report.render import MAX_CHANGES, shown_images
from clipcite.types.report import Report
from core.clip.evaluation.accuracy import job_metrics
from core.clip.evaluation.label_issues import LabelIssue
from core.store.db.tables import Job, Model
from core.store.jobs import jobs, lifecycle
from core.store.storage import deletions
from tests.api.service import Service, assert_problem, shots
from tests.core.clip.reports import held_out, report_fields
from tests.core.store import samples

EVIL = '<img src=x onerror="alert(1)">'


def reported(
    service: Service,
    name: str | None = None,
    *,
    stored: bool = True,
    images: int = 15,
    new: int = 0,
    **given: object,
) -> str:
    """Return the id of a job that a worker has completed."""
    fields = shots(("fox", "badger", "hare"), each=images // 3)
    job_id = service.accepted(**fields, **({"name": name} if name else {}))["id"]
    claim = samples.claimed(service.database, job_id)
    model = samples.new_model()
    held = replace(held_out(images=images - new, new=new), positions=np.arange(images))
    made = report_fields(held, **given)
    metrics = job_metrics(held, made["verdict"], source="cross_validation", trained_images=images)
    assert samples.publish(service.database, claim, model)
    if stored:
        measured = metrics.model_dump(mode="json")
        samples.store_report(service.database, service.blobs, job_id, made, measured)
    return str(job_id)


@pytest.fixture
def done(fresh: Service) -> tuple[Service, str]:
    return fresh, reported(fresh, label_issues=[LabelIssue(3, 0, 1, 0.8, 0.1)])


def page(service: Service, job_id: str) -> str:
    answer = service.client.get(f"/jobs/{job_id}/report", headers={"accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def test_the_report_names_the_files(done: tuple[Service, str]) -> None:
    service, job_id = done
    answer = service.client.get(f"/jobs/{job_id}/report")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["object"], body["job_id"]) == ("report", job_id)
    assert body["model_id"] == service.client.get(f"/jobs/{job_id}").json()["model_id"]
    assert body["measured_on"]["source"] == "cross_validation"
    (label_issue,) = body["label_issues"]
    assert label_issue == {
        "position": 3,
        "file_name": "0-3.jpg",
        "class_name": "fox",
        "predicted": "badger",
        "probability": 0.8,
    }
    assert [c["name"] for c in body["classes"]] == ["fox", "badger", "hare"]


class Resources(HTMLParser):
    """Collector of the addresses that a page refers to and the scripts that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value or "" for name, value in attributes if name in {"src", "href", "srcset"}]
        assert not any(name.startswith("on") or name == "style" for name, _ in attributes)


def test_the_page_needs_nothing_else(done: tuple[Service, str]) -> None:
    service, job_id = done
    text = page(service, job_id)
    found = Resources()
    found.feed(text)
    assert found.urls
    links = {url for url in found.urls if not url.startswith("data:")}
    assert links == {f"http://127.0.0.1:8000/#/jobs/{job_id}"}
    assert not {"script", "link", "iframe", "form", "object"} & set(found.tags)
    assert "svg" in found.tags
    for url in set(found.urls) - links:
        assert url.startswith("data:image/jpeg;base64,")
        assert base64.b64decode(url.partition(",")[2]).startswith(b"\xff\xd8")
    title, *facts = service.client.get(f"/jobs/{job_id}/report").json()["sentences"]
    assert facts[0].startswith("93% correct (likely ")
    assert f"<h1><b>{title}</b> {' '.join(facts)}</h1>" in text  # The verdict comes first.
    assert text.index("</h1>") < text.index("<table ")


def test_the_card_shows_what_changed(fresh: Service) -> None:
    job_id = reported(fresh, name="forest", images=60)
    body = fresh.client.get(f"/jobs/{job_id}/report").json()
    text = page(fresh, job_id)
    card = text[text.index("<main>") : text.index("Next steps")]
    gain = 100 * body["overall"]["adapted_against_stock"]["value"]
    assert f"<dd>{gain:+.0f} <small>points</small></dd>" in card
    assert len(body["fixed"]) > MAX_CHANGES > len(body["broken"]) > 0
    assert f"Wrong before, right now: {len(body['fixed'])}<" in card
    assert f"Right before, wrong now: {len(body['broken'])}<" in card
    shown = [*body["fixed"][:MAX_CHANGES], *body["broken"]]
    assert card.count("<li>") == card.count("<img ") == len(shown)
    for image in shown:
        assert f'alt="{image["file_name"]}"' in card
    alone = Report.model_validate({**body, "mistakes": [], "label_issues": []})
    assert shown_images(alone) == {image["position"] for image in shown}
    for image in body["fixed"]:
        assert image["predicted"] == image["class_name"] != image["before"]
    for image in body["broken"]:
        assert image["before"] == image["class_name"] != image["predicted"]
    assert "Report on forest" in text
    backbone = fresh.client.get(f"/jobs/{job_id}").json()["config"]["backbone"]
    assert f"pre-trained model {backbone} " in text
    assert f"{datetime.now(UTC):%B %Y}" in text


def test_untrained_classes_are_measured_on_images_of_new_classes(fresh: Service) -> None:
    without = page(fresh, reported(fresh))
    assert "Not measured on images." in without
    job_id = reported(fresh, images=60, new=20, source="test")
    new = fresh.client.get(f"/jobs/{job_id}/report").json()["classes"][3:]
    text = " ".join(re.sub(r"<[^>]+>", " ", page(fresh, job_id)).split())
    assert [row["name"] for row in new] == ["oak", "elm"]
    for row in new:
        before, after = (f"{100 * row[recall]:.0f}%" for recall in ("stock_recall", "recall"))
        assert f"{row['name']} none: a new class {row['images']} {before} {after}" in text
    assert "Not measured on images." not in text


def test_the_policy_allows_the_style_and_nothing_else(done: tuple[Service, str]) -> None:
    service, job_id = done
    answer = service.client.get(f"/jobs/{job_id}/report", headers={"accept": "text/html"})
    policy = answer.headers["content-security-policy"]
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "prefers-color-scheme: dark" in style[1]
    assert "@media print" in style[1]


def test_jobs_and_models_have_the_sentences_of_the_report(done: tuple[Service, str]) -> None:
    service, job_id = done
    said = service.client.get(f"/jobs/{job_id}/report").json()["sentences"]
    assert [text.partition(" ")[0] for text in said] == ["Better.", "93%", "If"]
    job = service.client.get(f"/jobs/{job_id}").json()
    assert job["metrics"]["sentences"] == said[:2]
    assert service.client.get(f"/models/{job['model_id']}").json()["metrics"]["sentences"] == said[:2]


def test_a_job_says_why_it_was_not_evaluated(fresh: Service) -> None:
    job_id = reported(fresh, stored=False)
    stopped = {"code": lifecycle.EVALUATION_CANCELLED, "detail": "It was cancelled."}
    for config, warnings, reason in (
        ({}, [], "There are too few images to leave some out of training."),
        ({}, [{"code": "blurred", "detail": "Blurred."}, stopped], "It was cancelled."),
        ({"evaluate": "none"}, [], "Evaluation was turned off."),
    ):
        with fresh.database.write() as session:
            job = session.get_one(Job, job_id)
            job.config, job.warnings = config, warnings
            session.get_one(Model, job.model_id).metrics = {"verdict": "not_evaluated"}
        said = fresh.client.get(f"/jobs/{job_id}").json()["metrics"]["sentences"]
        assert said == ["Ready, not evaluated.", reason]


def test_names_are_text_on_the_page(fresh: Service) -> None:
    job_id = reported(fresh, name="a <b>name")
    key = next(b.key for b in fresh.blobs.list(f"jobs/{job_id}") if "report" in b.key)
    stored = json.loads(fresh.blobs.get(key))
    stored["classes"][0]["name"] = stored["mistakes"][0]["class_name"] = EVIL
    stored["distractor_classes"] = [EVIL]
    fresh.blobs.put(key, json.dumps(stored).encode())
    text = page(fresh, job_id)
    assert EVIL not in text
    assert "&lt;img src=x onerror=" in text
    assert "a &lt;b&gt;name" in text


def test_accept_html_gets_the_page(done: tuple[Service, str]) -> None:
    service, job_id = done
    for accept, kind in (
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/html", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
    ):
        headers = {} if accept is None else {"accept": accept}
        answer = service.client.get(f"/jobs/{job_id}/report", headers=headers)
        assert answer.headers["content-type"].partition(";")[0] == kind
        assert answer.headers["vary"] == "Accept"


def test_a_lost_image_does_not_take_the_page_along(done: tuple[Service, str]) -> None:
    service, job_id = done
    service.blobs.delete(f"jobs/{job_id}/00003.image")
    assert 'alt="0-3.jpg"' not in page(service, job_id)


def test_a_job_without_a_report(fresh: Service) -> None:
    queued = fresh.accepted(**shots())["id"]
    answer = fresh.client.get(f"/jobs/{queued}/report")
    assert_problem(answer, 404, "report_not_found", "before the job has succeeded")
    failed = samples.new_job(fresh.database)
    claim = samples.claimed(fresh.database, failed)
    with fresh.database.write() as session:
        assert lifecycle.finish_failed(session, claim, code="training_diverged", detail="It diverged.")
    assert_problem(fresh.client.get(f"/jobs/{failed}/report"), 404, "report_not_found", "has failed")
    without = reported(fresh, stored=False)
    assert_problem(fresh.client.get(f"/jobs/{without}/report"), 404, "report_not_found", "none")
    assert_problem(fresh.client.get("/jobs/job_nobody/report"), 404, "job_not_found")


def test_a_report_follows_its_model(fresh: Service) -> None:
    job_id = fresh.accepted(**shots())["id"]
    claim = samples.claimed(fresh.database, job_id)
    assert samples.publish(fresh.database, claim, evaluate=True)
    answer = fresh.client.get(f"/jobs/{job_id}/report")
    assert_problem(answer, 404, "report_pending", "follows when the evaluation has ended")
    assert answer.headers["retry-after"] == "5"
    made = report_fields(replace(held_out(images=15), positions=np.arange(15)))
    key = jobs.report_of(job_id, "first")
    fresh.blobs.put(key, json.dumps(made).encode())
    with fresh.database.write() as session:
        deletions.announce(session, key)
        assert lifecycle.finish(session, claim, {"verdict": made["verdict"]}, key)
    assert fresh.client.get(f"/jobs/{job_id}/report").json()["verdict"] == made["verdict"]
