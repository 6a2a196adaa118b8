"""Sort goes on after files are gone, and after requests fail."""

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.api.web.window import drop, window

BROKEN = ["Failed to load resource", "network error"]


def add(page: Page, folder: Path) -> None:
    """Drop a folder to sort by two class names."""
    page.get_by_label("Class names").fill("red, blue,")
    page.get_by_label("Class names").press("Enter")
    drop(page, page.locator(".zone"), folder)


def test_a_photo_that_is_gone_stops_no_other(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url, expected=BROKEN) as page:
        page.goto("/#/sort/stock")
        page.route("**/classify", lambda route: route.abort())
        add(page, folder)
        expect(page.get_by_role("alert")).to_contain_text("Can't reach the service.")
        (folder / "test/red/3.png").unlink()
        page.unroute_all()
        page.get_by_role("button", name="Go on").click()
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
