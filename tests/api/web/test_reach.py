"""Accessibility of the page: keyboard, phone, dark mode and screen reader."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.web.window import accessibility_problems, drop, shot, too_wide, window, write_class_folders

PHONE = {"viewport": {"width": 360, "height": 700}, "has_touch": True, "is_mobile": True}


def all_views(page: Page, tmp_path: Path) -> Iterator[str]:
    """Fill each view in turn and yield its name."""
    page.goto("/")
    expect(page.get_by_role("heading", name="Train a model on your images")).to_be_visible()
    yield "train, empty"
    shots = write_class_folders(
        tmp_path / "shots", {"red": 2, "green": 2, "a class with quite a long name": 0}
    )
    (shots / "red" / "damaged.jpg").write_bytes(b"no image")
    drop(page, page.locator(".zone"), shots)
    expect(page.locator(".thumbs img:visible")).to_have_count(4)
    expect(page.locator(".thumbs .bad")).to_be_visible()
    page.get_by_text("Describe in words").first.click()
    page.get_by_text("Advanced").click()
    page.get_by_text("Use in code").click()
    yield "train"
    page.goto("/#/models")
    expect(page.get_by_role("heading", name="colours")).to_be_visible()
    page.get_by_label("More actions for colours").click()
    page.get_by_text("Use in code").first.click()
    yield "models"
    page.get_by_role("link", name="Result").click()
    expect(page.get_by_role("heading", name="Better")).to_be_visible()
    expect(page.get_by_role("list", name="Wrong before, right now")).to_be_visible()
    page.get_by_text("right before, wrong now").click()
    page.locator(".issues").get_by_role("button", name="Remove").first.click()
    yield "a finished job"
    job = page.url
    page.goto(f"/jobs/{job.rpartition('/')[2]}/report")
    expect(page.get_by_role("heading", name="Results per class")).to_be_visible()
    yield "report"
    page.goto(job)
    page.get_by_role("link", name="Use it", exact=True).click()
    expect(page.locator(".answer > .best > strong")).to_have_count(6)
    image = tmp_path / "an image with quite a long name.png"
    image.write_bytes(shot("blue", 0))
    drop(page, page.locator(".zone"), image)
    page.get_by_label("Class names").fill("blue")
    page.get_by_label("Class names").press("Enter")
    expect(page.locator(".answer > .best > strong")).to_have_count(1)
    page.get_by_text("All classes").last.click()
    expect(page.get_by_role("heading", name="Before")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Wrong: an image")).click()
    page.get_by_role("button", name=re.compile("^blue, new")).click()
    yield "try"
    page.goto("/#/jobs")
    expect(
        page.get_by_role("link", name="Follow").or_(page.get_by_role("link", name="View")).first
    ).to_be_visible()
    page.get_by_role("button", name="Delete").first.click()
    yield "jobs, asked whether to delete one"
    page.get_by_role("button", name="Go back").click()
    page.goto("/#/jobs/job_none")
    expect(page.get_by_role("alert").filter(has_text="job")).to_be_visible()
    yield "a job that is not there"
    page.route("**/readyz", lambda route: route.fulfill(json={}))  # A service that isn't ready.
    page.goto("/page/starting.html")
    expect(page.get_by_role("heading", name="Preparing the model")).to_be_visible()
    yield "the service starts"
    page.goto("/docs")
    page.unroute("**/readyz")  # not earlier: a starting page that finds a ready service loads again
    expect(page.locator("#operations-adapt-adapt")).to_be_visible()
    yield "docs"


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", {}), pytest.param("dark", PHONE, marks=pytest.mark.slow)]
)
def test_axe_finds_nothing_and_everything_fits(
    browser: Browser, quick_url: str, tmp_path: Path, scheme: str, size: dict[str, Any]
) -> None:
    options = {"color_scheme": scheme, "reduced_motion": "reduce", **size}
    with window(browser, quick_url, expected=["404"], **options) as page:
        for name in all_views(page, tmp_path):
            assert accessibility_problems(page) == [], name
            assert too_wide(page) <= 0, name


def test_by_keyboard_alone(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    """Two classes are named, filled and trained, and an image is classified, without a mouse."""
    files = []
    for colour in ("red", "green"):
        files.append(tmp_path / f"{colour}.png")
        files[-1].write_bytes(shot(colour, 0))
    with window(browser, quick_url) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        for file in files:
            tab_to(page, "Choose images" if file is files[0] else "Add images", last=True)
            with page.expect_file_chooser() as chooser:
                page.keyboard.press("Enter")
            chooser.value.set_files(file)
            if file is files[0]:
                tab_to(page, "Class name")
                page.keyboard.type("red")
                tab_to(page, "Add a class")
                page.keyboard.press("Enter")
        tab_to(page, "Class name", last=True)
        page.keyboard.type("green")
        tab_to(page, "Start training")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        tab_to(page, "Cancel")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Go back")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()

        page.goto("/#/try")
        expect(page.locator(".answer > .best > strong")).to_have_count(6)
        tab_to(page, "Add images")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(files[0])
        tab_to(page, "Class names")
        page.keyboard.type("blue")
        page.keyboard.press("Enter")
        shares = page.locator(".answer").last.locator(".columns > div").last.locator(".shares li")
        expect(shares).to_have_count(4)
        page.keyboard.press("Backspace")
        expect(shares).to_have_count(3)
        tab_to(page, "Strength")
        with page.expect_response("**/classify") as answer:
            page.keyboard.press("ArrowRight")
        assert answer.value.json()["alpha"] == 0.51


def tab_to(page: Page, name: str, *, last: bool = False) -> None:
    """Press Tab until the named element has the focus."""
    named = page.get_by_role("button", name=name).or_(page.get_by_label(name))
    target = named.last if last else named.first
    expect(target).to_be_enabled()
    for _ in range(60):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{name} is not reached by keyboard.")
