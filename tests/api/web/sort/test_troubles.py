"""Sort goes on after files are gone, and after requests fail."""

import os
import re
import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.api.web.window import drop, window

BROKEN = ["Failed to load resource", "network error"]


def add(page: Page, folder: Path) -> None:
    """Drop a folder to sort by two class names."""
    name_classes(page)
    drop(page, page.locator(".zone"), folder)


def name_classes(page: Page) -> None:
    page.get_by_label("Class names").fill("red, blue,")
    page.get_by_label("Class names").press("Enter")


def test_a_photo_that_is_gone_stops_no_other(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url, expected=BROKEN) as page:
        page.goto("/#/sort/stock")
        page.route("**/classify", lambda route: route.abort())
        drop(page, page.locator(".zone"), folder)
        expect(page.get_by_role("alert")).to_contain_text("Can't reach the service.")
        (folder / "test/red/3.png").unlink()
        page.unroute_all()
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("button", name="Group them")).to_be_visible()
        name_classes(page)
        gone = page.get_by_role("option", name="3.png, Can no longer be read")
        expect(gone).to_have_count(1)
        expect(page.get_by_role("button", name="Ask me about 10")).to_be_visible()
        gone.press("1")
        page.locator(".tile:not(.yours)").first.press("2")
        page.get_by_role("button", name="Make a model").click()
        expect(page.get_by_role("alert")).to_contain_text("1 file can't be sent.3.png: Can no longer be read")


def test_models_that_failed_to_load_are_loaded_for_the_first_photos(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    with window(browser, quick_url, expected=BROKEN) as page:
        page.route("**/models?*", lambda route: route.abort())
        page.goto("/#/sort/stock")
        expect(page.get_by_role("alert")).to_contain_text("Can't reach the service.")
        page.unroute_all()
        add(page, folder)
        expect(page.get_by_role("button", name="Ask me about 10")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_an_unanswered_collection_is_asked_again(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url, expected=BROKEN) as page:
        page.goto("/#/sort/stock")
        drop(page, page.locator(".zone"), folder)
        expect(page.get_by_role("button", name="Group them")).to_be_visible()
        page.route("**/classify/collection", lambda route: route.abort())
        name_classes(page)
        expect(page.get_by_role("alert")).to_contain_text("Can't reach the service.")
        page.unroute_all()
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("button", name="Go on")).to_be_hidden()


def test_shift_selects_from_the_image_after_the_moved_one(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    with window(browser, quick_url) as page:
        page.goto("/#/sort/stock")
        add(page, folder)
        expect(page.get_by_role("button", name="Ask me about 10")).to_be_visible()
        page.get_by_label("Unsure below").fill("1")
        unsure = page.locator(".unsure .tile")
        unsure.first.click()
        page.keyboard.press("2")
        expect(page.locator(".tile.yours")).to_have_count(1)
        unsure.nth(2).click(modifiers=["Shift"])
        expect(page.get_by_text("images selected")).to_have_text("3 images selected")


def test_files_of_a_zip_have_its_times(browser: Browser, quick_url: str, folder: Path) -> None:
    """By them a second drop of the same zip adds no photo."""
    for path in folder.rglob("*.png"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    with window(browser, quick_url) as page:
        page.goto("/#/sort/stock")
        drop(page, page.locator(".zone"), archive)
        expect(page.locator(".sum .tally")).to_have_text("30 images")
        times = page.evaluate(
            """async () => {
              const { sorting } = await import("/page/lib/sorting/sorting.js");
              return sorting.images.map(({ file }) => file.lastModified);
            }"""
        )
        assert set(times) == {1_600_000_000_000}


def test_the_model_of_the_click_is_trained(browser: Browser, quick_url: str, folder: Path) -> None:
    """Another is chosen during the upload, and the job of an earlier press was deleted."""
    uploads: list[Route] = []
    starts: list[Request] = []

    def start(route: Route) -> None:
        starts.append(route.request)
        code = "idempotent_job_deleted" if len(starts) == 1 else "busy"
        route.fulfill(status=409, json={"code": code, "detail": f"It is {code}."})

    with window(browser, quick_url, expected=BROKEN) as page:
        page.goto("/#/sort")
        expect(page.get_by_label("Model", exact=True)).to_have_value(re.compile("^mdl_"))
        model = page.get_by_label("Model", exact=True).input_value()
        drop(page, page.locator(".zone"), folder)
        page.locator(".tile").first.press("1")
        page.route("**/feedback", lambda route: uploads.append(route))
        page.route(re.compile("/extend$|/adapt$"), start)
        with page.expect_request("**/feedback"):
            page.get_by_role("button", name="Train again with these corrections").click()
        page.get_by_label("Model", exact=True).select_option("stock")
        uploads[0].fulfill(json={"data": []})
        expect(page.get_by_role("alert")).to_contain_text("It is busy.")
        assert [request.url.removeprefix(quick_url) for request in starts] == [f"/models/{model}/extend"] * 2
        assert len({request.headers["idempotency-key"] for request in starts}) == 2
