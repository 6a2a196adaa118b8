"""Requests of the page: one job per form, and no check per key stroke or during an upload."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, Request, Route, expect

from clipcite import Client
from tests.api.web.window import drop, shot, window, write_class_folders

ADAPT = "**/adapt"
CHECK = "**/adapt?dry_run=true"


def fill_form(page: Page, folder: Path) -> None:
    """Put two classes on the page and wait for the service's check."""
    shots = write_class_folders(folder / "shots", {"red": 2, "green": 2})
    page.goto("/")
    drop(page, page.locator(".zone"), shots)
    expect(page.get_by_text("of 4 images look good")).to_be_visible()


def count_checks(page: Page) -> Callable[[], int]:
    """Return a function that counts the checks requested by the page."""
    checks: list[Request] = []
    page.on("request", lambda request: "dry_run" in request.url and checks.append(request))
    return lambda: len(checks)


def test_one_job_from_one_form(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    held: list[Route] = []
    with Client(quick_url) as client, window(browser, quick_url) as page:
        before = {job.id for job in client.jobs.list()}
        checks = count_checks(page)
        fill_form(page, tmp_path)
        done = checks()
        page.route(ADAPT, lambda route: held.append(route))
        start = page.get_by_role("button", name="Start training")
        with page.expect_request(ADAPT):
            start.click()
        name = page.get_by_label("Class name").first
        name.fill("crimson")  # the page is drawn again
        (tmp_path / "more.png").write_bytes(shot("red", 9))
        drop(page, page.locator(".class").first, tmp_path / "more.png")
        expect(page.locator(".thumbs img:visible")).to_have_count(5)
        expect(start).to_be_disabled()
        start.dispatch_event("click")
        page.wait_for_timeout(1_500)  # Longer than the debounce time of a check.
        assert checks() == done
        assert len(held) == 1
        held[0].continue_()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        page.get_by_role("link", name="Train", exact=True).click()
        expect(page.locator(".thumbs img:visible")).to_have_count(1)  # The one that was added meanwhile.
        (job,) = {job.id for job in client.jobs.list()} - before
        client.jobs.cancel(job)


def test_the_key_belongs_to_the_form(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    keys: list[str] = []

    def cut(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) < 4:
            route.abort()
        else:
            route.continue_()

    with Client(quick_url) as client, window(browser, quick_url, expected=["net::ERR"]) as page:
        fill_form(page, tmp_path)
        page.route(ADAPT, cut)
        start = page.get_by_role("button", name="Start training")
        for number, name in enumerate(["a", "a", "b", "b"], 1):
            page.get_by_label("Model name").fill(name)
            expect(start).to_be_enabled()
            with page.expect_request(ADAPT):
                start.click()
            if number < 4:
                expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        client.jobs.cancel(page.url.rpartition("/")[2])
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_a_start_ends_the_check(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    with Client(quick_url) as client, window(browser, quick_url, expected=["net::ERR"]) as page:
        page.goto("/")
        page.route(CHECK, lambda route: None)  # The service answers slowly.
        with page.expect_request(CHECK):
            drop(page, page.locator(".zone"), write_class_folders(tmp_path / "shots", {"red": 2, "green": 2}))
        with page.expect_event("requestfailed", lambda request: "dry_run" in request.url):
            page.get_by_role("button", name="Start training").click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        client.jobs.cancel(page.url.rpartition("/")[2])


def test_an_upload_continues_when_the_view_is_left(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    held: list[Route] = []
    with Client(quick_url) as client, window(browser, quick_url) as page:
        before = {job.id for job in client.jobs.list()}
        fill_form(page, tmp_path)
        page.route(ADAPT, lambda route: held.append(route))
        with page.expect_request(ADAPT):
            page.get_by_role("button", name="Start training").click()
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        page.get_by_role("link", name="Train", exact=True).click()
        expect(page.get_by_role("progressbar", name="Upload progress")).to_be_visible()
        expect(page.get_by_role("button", name="Start training")).to_be_disabled()
        page.get_by_role("link", name="Models", exact=True).click()
        with page.expect_response(ADAPT):
            held[0].continue_()
        expect(page.get_by_role("heading", name="Models")).to_be_visible()  # The view is not changed.
        page.get_by_role("link", name="Train", exact=True).click()
        expect(page.locator(".class")).to_have_count(0)
        (job,) = {job.id for job in client.jobs.list()} - before
        client.jobs.cancel(job)


def test_leaving_the_page_with_images_asks_first(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    asked: list[str] = []
    with window(browser, quick_url) as page:
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
        fill_form(page, tmp_path)
        page.get_by_label("Class name").first.click()  # Browsers ask only after an action of the user.
        page.reload()
        assert asked == ["beforeunload"]
        page.get_by_role("link", name="Jobs", exact=True).click()
        page.reload()
        assert asked == ["beforeunload"]
