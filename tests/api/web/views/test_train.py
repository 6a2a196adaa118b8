"""The whole way in a browser: from a dropped folder to a prediction with a new class."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.web.window import accessibility_problems, drop, shot, too_wide, window, write_class_folders
from tests.service.running import Service, colours, submit, training, wait_for_job

LONG = 1000  # Number of epochs; no test waits for the end.


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with window(browser, service.url, expected=["404"]) as page:  # models whose job another test deleted
        yield page


def test_from_a_folder_to_a_prediction_with_a_new_class(page: Page, tmp_path: Path) -> None:
    shots = write_class_folders(
        tmp_path / "shots", {"train/red": 4, "train/green": 4, "test/red": 2, "test/green": 2}
    )
    (shots / "train/red/scan.jpg").write_bytes(b"no image at all")
    (shots / "train/green/copy.png").write_bytes(shot("red", 1))

    page.goto("/")
    drop(page, page.locator(".zone"), shots)
    expect(page.locator(".class")).to_have_count(2)
    expect(page.locator(".thumbs .bad")).to_contain_text("Can't be read as an image")
    expect(page.locator(".thumbs .note").filter(has_text="Also in class")).to_have_count(1)
    start = page.get_by_role("button", name="Start training")
    expect(start).to_be_disabled()
    page.get_by_role("button", name="Remove scan.jpg").click()
    # The service has checked the images.
    expect(page.get_by_text("0 of 13 images look good")).to_be_visible()
    expect(page.locator(".thumbs .note").filter(has_text="all of one colour")).to_have_count(12)
    page.get_by_role("button", name="Remove copy.png").click()
    expect(page.get_by_text(re.compile("evaluated on your test images"))).to_be_visible()

    page.get_by_label("Model name").fill("colours")
    page.get_by_text("Advanced").click()
    page.get_by_label("Epochs").fill("20")
    start.click()

    expect(page.get_by_role("heading", name="colours")).to_be_visible()
    expect(page.locator(".result")).to_contain_text(") on your 4 test images, ")
    verdicts = re.compile("Better|Probably better|No measurable difference|Probably worse|Worse")
    expect(page.locator(".result h2")).to_have_text(verdicts)
    page.get_by_text("Details").click()
    for loss in ("Telling your classes apart", "Matching images with text", "Staying close"):
        expect(page.get_by_role("img", name=re.compile(f"{loss}.*: from .* in \\d+ steps"))).to_be_visible()

    with page.expect_popup() as opened:
        page.get_by_role("link", name="Full report").click()
    expect(opened.value.get_by_role("heading", name="Results per class")).to_be_visible()
    assert opened.value.title() == "Report on colours"
    assert accessibility_problems(opened.value) == []
    opened.value.set_viewport_size({"width": 360, "height": 700})
    assert accessibility_problems(opened.value) == []
    assert too_wide(opened.value) <= 0
    opened.value.close()

    page.get_by_role("link", name=re.compile("Use it|Try it")).first.click()
    expect(page.get_by_label("Model", exact=True)).to_have_value(re.compile("^mdl_"))
    expect(page.locator(".answer > .best > strong")).to_have_count(4)  # the test images
    image = tmp_path / "sky.png"
    image.write_bytes(shot("blue", 0))
    drop(page, page.locator(".zone"), image)
    names = page.get_by_label("Class names")
    names.fill("blue")
    names.press("Enter")
    answer = page.locator(".answer").last
    expect(answer.get_by_role("img", name="sky.png")).to_be_visible()
    answer.get_by_text("All classes").click()
    shares = answer.locator(".columns > div").last.locator(".shares")
    expect(shares.locator("li")).to_have_count(3)
    expect(shares.locator("li.new")).to_contain_text("blue")
    expect(shares.locator("li.trained")).to_have_count(2)

    half = shares.inner_text()
    with page.expect_response("**/classify") as told:
        page.get_by_label("Strength").fill("1")
    assert told.value.json()["alpha"] == 1
    expect(shares).not_to_have_text(half, use_inner_text=True)
    expect(answer.get_by_role("heading", name="Before")).to_be_visible()

    (tmp_path / "image.jpg").write_bytes(image.read_bytes())
    said = run_as_pasted(page, tmp_path)
    assert {line.split()[0] for line in said.splitlines()} == {"red", "green", "blue"}
    page.goto("/#/jobs")
    page.get_by_role("link", name="View colours").first.click()
    page.get_by_text("Details", exact=True).click()
    assert "succeeded mdl_" in run_as_pasted(page, tmp_path)
    page.goto("/#/jobs")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert "succeeded colours" in run_as_pasted(page, tmp_path)
    page.goto("/#/models")
    expect(page.get_by_role("heading", name="Models")).to_be_visible()
    assert "['green', 'red']" in run_as_pasted(page, tmp_path)


def run_as_pasted(page: Page, folder: Path) -> str:
    """Run the program shown by a view in a fresh folder and return its output. The last program is the view's
    own.
    """
    page.get_by_text("Use in code").last.click()
    page.get_by_role("tab", name="Python").last.click()
    program = page.get_by_label("Python", exact=True).last
    expect(program).to_contain_text("import Client")
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said):
        exec(program.inner_text(), {})
    return said.getvalue()


@pytest.mark.slow
def test_a_job_is_found_again_after_a_reload_and_a_restart_and_is_cancelled(
    browser: Browser, service: Service
) -> None:
    with service.http as http, window(browser, service.url, expected=("net::ERR_", "503")) as page:
        job = submit(http, colours(), epochs=LONG)
        training(http, job)
        page.goto(f"/#/jobs/{job}")
        chart = page.get_by_role("img", name=re.compile("Telling your classes apart: from"))
        details = page.get_by_text("Details", exact=True)
        details.click()
        expect(chart).to_be_visible()
        page.reload()
        details.click()
        expect(chart).to_be_visible()
        expect(page.locator(".stage")).to_have_text("Training")

        service.child("api").kill()  # `serve` starts it again
        expect(page.get_by_text("Reconnecting")).to_be_visible()
        expect(page.get_by_text("Reconnecting")).to_be_hidden()
        before = chart.get_attribute("aria-label") or ""
        expect(chart).not_to_have_attribute("aria-label", before)

        cancel = page.get_by_role("button", name="Cancel", exact=True)
        page.goto("/")
        page.route(f"**/jobs/{job}", lambda _: None)  # no answer
        page.locator(".running a").click()
        expect(page.get_by_role("heading", name="Training job")).to_be_visible()
        expect(cancel).to_be_hidden()  # it can't act before the job is known
        page.unroute_all()  # now the answer arrives
        cancel.click()
        page.get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
        assert wait_for_job(http, job)["status"] == "cancelled"
