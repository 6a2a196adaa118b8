"""The result of a job: the images before and after training, the verdicts with their actions, and sharing."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from clipcite import Client
from core.clip.evaluation.label_issues import LabelIssue
from core.clip.models.backbone import Backbone
from core.store.db.tables import RUNNING, Job
from tests.api.web.finished import Running, finish_job
from tests.api.web.window import drop, too_wide, window, write_class_folders


def show(page: Page, job: str) -> None:
    page.goto(f"/#/jobs/{job}")
    expect(page.locator(".result h2").first).to_be_visible()


def test_the_strip_shows_the_images_of_the_report(
    browser: Browser, running: Running, backbone: Backbone
) -> None:
    made, url = running
    finished = finish_job(made, backbone, stock=0.5, adapted=0.9, images=60)
    with Client(url) as client, window(browser, url) as page:
        report = client.jobs.report(finished.job)
        assert len(report.fixed) > 12
        assert report.broken
        show(page, finished.job)
        strip = page.get_by_role("list", name="Wrong before, right now")
        expect(strip.get_by_role("listitem")).to_have_count(6)
        expect(page.get_by_text(f"{len(report.fixed)} images wrong before, right now")).to_be_visible()
        first = strip.get_by_role("listitem").first
        expect(first).to_have_text(f"Before: {report.fixed[0].before} → now: {report.fixed[0].predicted}")
        page.get_by_role("button", name=f"Show {len(report.fixed) - 6} more").click()
        expect(strip.get_by_role("listitem")).to_have_count(len(report.fixed))
        for image in strip.get_by_role("img").all():
            image.scroll_into_view_if_needed()
            expect(image).to_have_attribute("src", re.compile("^blob:"))
            expect(image).to_have_js_property("naturalWidth", 96)
        broken = page.get_by_text(re.compile(f"^{len(report.broken)} images? right before, wrong now$"))
        expect(broken).to_be_visible()
        broken.click()
        cards = page.get_by_role("list", name="Right before, wrong now").get_by_role("listitem")
        expect(cards).to_have_count(min(6, len(report.broken)))


@pytest.mark.parametrize(
    ("given", "action"),
    [
        ({"stock": 0.5, "adapted": 0.9, "images": 60}, "Use it"),
        ({"stock": 0.4, "adapted": 0.6, "images": 21}, "Add test images"),
        ({"stock": 0.8, "adapted": 0.4, "images": 60}, "Check labels"),
        ({"evaluated": False}, "Add test images"),
    ],
)
def test_each_verdict_has_an_action(
    browser: Browser, running: Running, backbone: Backbone, given: dict[str, Any], action: str
) -> None:
    made, url = running
    finished = finish_job(made, backbone, **given)
    with window(browser, url, viewport={"width": 360, "height": 700}) as page:
        show(page, finished.job)
        result = page.locator(".result")
        if "evaluated" in given:
            expect(result).to_contain_text("too few images")
        main = result.locator(".row .main")
        expect(main).to_have_count(1)
        expect(main).to_have_text(action)
        main.click()
        assert too_wide(page) <= 0
        if action == "Use it":
            expect(page.get_by_role("heading", name="Try it")).to_be_visible()
        elif action == "Check labels":
            expect(page.locator(".labels")).to_have_attribute("open", "")
            expect(page.locator(".issues li").first).to_be_visible()
        else:
            expect(page.get_by_role("heading", name="Add test images")).to_be_visible()


def test_a_model_is_usable_while_it_is_evaluated(
    browser: Browser, running: Running, backbone: Backbone
) -> None:
    made, url = running
    finished = finish_job(made, backbone)
    progress = {
        **{"stage": "evaluating", "epoch": 1, "epochs": 1, "step": 1, "steps": 4, "fraction": 0.6},
        **{"eta_seconds": 40.0, "model_eta_seconds": 1.0, "images_per_second": 9.0, "loss": None},
    }
    with made.database.write() as session:
        values = {"status": RUNNING, "metrics": {"verdict": "evaluating"}, "progress": progress}
        session.execute(update(Job).where(Job.id == finished.job).values(**values))
    with window(browser, url) as page:
        show(page, finished.job)
        expect(page.get_by_role("heading", name="Ready, evaluating")).to_be_visible()
        expect(
            page.get_by_text("You can use it now. The report follows in about 40 seconds.")
        ).to_be_visible()
        expect(page.get_by_text("Report in about 40 seconds")).to_be_visible()
        expect(page.get_by_role("button", name="Skip evaluation")).to_be_visible()
        page.goto("/#/jobs")
        expect(page.locator(".list .tag")).to_have_text("Evaluating 60%")
        with made.database.write() as session:
            values = {"progress": {**progress, "fraction": 0.9}}
            session.execute(update(Job).where(Job.id == finished.job).values(**values))
        expect(page.locator(".list .tag")).to_have_text("Evaluating 90%")
        page.goto(f"/#/jobs/{finished.job}")
        page.get_by_role("link", name="Try it", exact=True).click()
        expect(page.get_by_label("Model", exact=True)).to_have_value(finished.model)


def test_a_wrong_label_is_corrected_on_the_page(
    browser: Browser, running: Running, backbone: Backbone
) -> None:
    made, url = running
    issues = (LabelIssue(0, 0, 1, 0.8, 0.1), LabelIssue(4, 1, 2, 0.7, 0.1), LabelIssue(5, 2, 0, 0.6, 0.1))
    finished = finish_job(made, backbone, test=False, label_issues=issues)
    with window(browser, url) as page:
        uploads: list[str] = []
        page.on("request", lambda request: "/adapt" in request.url and uploads.append(request.url))
        show(page, finished.job)
        rows = page.locator(".issues").first.get_by_role("listitem")
        expect(rows).to_have_count(3)
        expect(page.get_by_role("heading", name="3 possible label issues")).to_be_visible()
        expect(rows.first).to_contain_text("Labelled red, looks like green (80%)")
        expect(rows.first.get_by_role("button").first).to_have_accessible_name("It's right red 0.png")
        rows.first.get_by_role("button", name="Move to green").click()
        rows.nth(1).get_by_role("button", name="Remove").click()
        rows.nth(2).get_by_role("combobox").select_option("green")
        rows.nth(2).get_by_role("button", name="Undo").click()
        rows.nth(2).get_by_role("button", name="It's right").click()
        expect(page.get_by_text("1 label changed, 1 image removed, 1 label confirmed.")).to_be_visible()
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        page.go_back()
        expect(page.get_by_text("1 label changed, 1 image removed, 1 label confirmed.")).to_be_visible()
        expect(rows.first).to_contain_text("Label changed to green.")
        page.get_by_role("button", name="Train again with 3 corrections").click()
        asked = page.get_by_role("dialog")
        expect(asked).to_contain_text(
            re.compile(r"It takes about \d+ \w+\. .* this one stays\. It leaves the removed")
        )
        asked.get_by_role("button", name="Train again").click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        job = page.url.rpartition("/")[2]
        assert job != finished.job
        assert uploads == []
    before = made.client.get(f"/jobs/{finished.job}/images").json()["data"]
    after = made.client.get(f"/jobs/{job}/images").json()["data"]
    labels = {image["file_name"]: image["class_name"] for image in after}
    assert len(after) == len(before) - 1
    assert labels.pop("red 0.png") == "green"
    assert "green 4.png" not in labels
    assert all(file.startswith(label) for file, label in labels.items())


def test_a_report_that_is_too_early_for_label_issues_says_so(
    browser: Browser, running: Running, backbone: Backbone
) -> None:
    made, url = running
    finished = finish_job(made, backbone, test=False, adapted=0.4, label_accuracy=0.4)
    with window(browser, url) as page:
        show(page, finished.job)
        page.get_by_role("heading", name="Check labels").click()
        expect(page.locator(".labels")).to_contain_text("Too early to find wrong labels: models without them")
        expect(page.locator(".labels .issues").first).to_be_hidden()  # wrong predictions are folded


def test_a_worse_model_is_not_in_use(browser: Browser, running: Running, backbone: Backbone) -> None:
    made, url = running
    good = finish_job(made, backbone, name="paints")
    worse = finish_job(made, backbone, name="paints", stock=0.9, adapted=0.4)
    with window(browser, url) as page:
        page.goto("/#/models")
        card = page.locator(".model").first
        expect(card).to_contain_text("Not in use: it is worse than the pre-trained model.")
        page.goto("/#/try")
        expect(page.get_by_label("Model", exact=True)).to_have_value(good.model)
        show(page, worse.job)
        result = page.locator(".result")
        expect(result).to_contain_text("Not in use: it is worse than the pre-trained model.")
        assert made.client.get("/models/paints").json()["id"] == good.model
        result.get_by_role("button", name="Use it all the same").click()
        expect(result).to_contain_text("Programs that ask for paints get this model now.")
        assert made.client.get("/models/paints").json()["id"] == worse.model
        page.goto("/#/models")
        expect(page.locator(".model").first).to_be_visible()
        expect(page.get_by_text("Not in use")).to_have_count(0)


def test_a_result_is_compared_with_that_of_another_base_model(
    browser: Browser, running: Running, backbone: Backbone
) -> None:
    made, url = running
    before = finish_job(made, backbone, stock=0.5, adapted=0.8)
    finished = finish_job(made, backbone, stock=0.6, adapted=0.9)
    with window(browser, url) as page:
        show(page, finished.job)
        expect(page.locator(".result")).to_contain_text(
            re.compile(r"Version 1: 83% \(likely \d+ to \d+\)\. This version: 93% \(likely \d+ to \d+\)\.")
        )
        expect(page.locator(".result p strong", has_text="93%")).to_be_visible()
        with made.database.write() as session:
            job = session.get_one(Job, before.job)
            job.config = {**job.config, "backbone": "starter"}
        page.reload()
        expect(page.locator(".result")).to_contain_text(
            "If it may also answer with 2 names of other things, 93% are correct; before the training, 60% "
            "were."
        )
        expect(page.locator(".result")).to_contain_text("With the starter: 53% → 83%. With ")
        expect(page.locator(".result")).to_contain_text(f"{backbone.name}: 60% → 93%.")
        page.get_by_label("Compare with another base model").select_option("Starter")
        page.get_by_role("button", name="Train with it").click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        config = made.client.get(f"/jobs/{page.url.rpartition('/')[2]}").json()["config"]
        assert (config["backbone"], config["learning_rate"], config["image_size"]) == ("starter", 1e-4, 160)


def test_test_images_and_cross_validation_are_not_compared(
    browser: Browser, running: Running, backbone: Backbone
) -> None:
    """Fold models have half of the images, so their accuracy is too low beside one on test images."""
    made, url = running
    finish_job(made, backbone, name="folds", adapted=0.8)
    finished = finish_job(made, backbone, name="folds", test=False)
    with window(browser, url) as page:
        show(page, finished.job)
        result = page.locator(".result")
        expect(result).to_contain_text("Version 1 was measured in another way, so its 83% can't be compared.")
        expect(result).not_to_contain_text("This version:")


def test_test_images_are_added_and_the_model_is_trained_again(
    browser: Browser, running: Running, backbone: Backbone, tmp_path: Path
) -> None:
    made, url = running
    finished = finish_job(made, backbone, evaluated=False)
    folders = write_class_folders(tmp_path / "more", {"red": 2, "green": 1})
    with window(browser, url) as page:
        show(page, finished.job)
        page.get_by_role("button", name="Add test images").click()
        start = page.get_by_role("button", name="Train again")
        expect(start).to_be_disabled()
        drop(page, page.locator(".more .zone"), folders)
        expect(page.locator(".more-images img")).to_have_count(3)
        page.get_by_role("button", name="Add test images").click()  # the form is open already
        expect(page.locator(".more-images img")).to_have_count(3)
        start.click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        job = page.url.rpartition("/")[2]
    splits = [image["split"] for image in made.client.get(f"/jobs/{job}/images").json()["data"]]
    assert splits == ["train"] * 12 + ["test"] * 33


def test_a_report_has_its_styles_with_a_key(browser: Browser, running: Running, backbone: Backbone) -> None:
    made, url = running
    finished = finish_job(made, backbone)
    with window(browser, url) as page:
        page.goto("/")
        page.evaluate("sessionStorage.setItem('clipcite-key', 'a key')")
        show(page, finished.job)
        with page.expect_popup() as opened:
            page.get_by_role("link", name="Full report").click()
        expect(opened.value.get_by_role("heading", name="Results per class")).to_be_visible()
        assert opened.value.url.startswith("blob:")
        assert opened.value.evaluate("document.styleSheets.length") == 1


def test_a_shared_file_opens_without_the_service(
    browser: Browser, running: Running, backbone: Backbone, tmp_path: Path
) -> None:
    made, url = running
    finished = finish_job(made, backbone, name='<b>"shared" & small</b>', images=60)
    with Client(url) as client, window(browser, url) as page:
        report = client.jobs.report(finished.job)
        show(page, finished.job)
        with page.expect_download() as saved:
            page.get_by_role("button", name="Share").click()
        assert saved.value.suggested_filename.endswith(".html")
        file = tmp_path / "shared.html"
        saved.value.save_as(file)
    with browser.new_context(offline=True) as offline:
        page = offline.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        expect(page.get_by_text('Report on <b>"shared" & small</b>')).to_be_visible()
        expect(
            page.get_by_role("heading", name=f"Wrong before, right now: {len(report.fixed)}")
        ).to_be_visible()
        images = page.locator("img").all()
        assert len(images) >= min(12, len(report.fixed))
        assert all(image.evaluate("image => image.naturalWidth") for image in images)
        assert page.locator("script").count() == 0
        assert all(url.startswith(("file:", "data:")) for url in asked)


def test_ids_in_addresses_are_encoded(browser: Browser, running: Running) -> None:
    _, url = running
    with window(browser, url, expected=["404"]) as page:
        with page.expect_request("**/jobs/**") as asked:
            page.goto("/#/jobs/" + "a%2F..%2Fb%3Fc")
        assert asked.value.url == f"{url}/jobs/a%2F..%2Fb%3Fc"
        expect(page.get_by_role("alert")).to_be_visible()
