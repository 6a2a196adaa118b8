"""The modules of the Sort view are loaded only when it is opened."""

from playwright.sync_api import Browser, expect

from api.web.static_files import STATIC
from tests.api.web.window import window

FILES = {f"/page/{path.relative_to(STATIC).as_posix()}" for path in STATIC.rglob("*sort*/**/*.[jc]s*")}
FILES |= {"/page/views/sort.js"}


def test_its_modules_are_loaded_when_it_is_opened(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        loaded: set[str] = set()
        page.on("request", lambda request: loaded.add(request.url.removeprefix(quick_url)))
        page.goto("/")
        expect(page.get_by_role("heading", name="Train a model on your images")).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert not FILES & loaded
        page.get_by_role("link", name="Sort", exact=True).click()
        expect(page.get_by_role("heading", name="Sort", exact=True)).to_be_visible()
        assert loaded >= FILES
