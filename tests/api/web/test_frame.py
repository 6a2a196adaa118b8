"""Frame around every view: starter banner, footer, notices, and links that lead nowhere."""

from importlib.metadata import version
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.api.web.window import accessibility_problems, too_wide, window

PHONE = {"viewport": {"width": 360, "height": 700}, "has_touch": True, "is_mobile": True}
VIEWS = ("/", "/#/try", "/#/models", "/#/jobs", "/docs")


def report(page: Page, **changes: Any) -> None:
    """Change fields of the service's readiness."""

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), **changes})

    page.route("**/readyz", answer)


@pytest.mark.parametrize(("scheme", "size"), [("light", {}), ("dark", PHONE)])
def test_the_starter_is_named_in_every_view(
    browser: Browser, quick_url: str, scheme: str, size: dict[str, Any]
) -> None:
    with window(browser, quick_url, color_scheme=scheme, **size) as page:
        report(page, backbone="starter")
        for path in VIEWS:
            page.goto(path)
            banner = page.get_by_role("complementary", name="Model of this service")
            expect(banner).to_contain_text("You're using the small starter model.")
            expect(page.locator("footer")).to_contain_text(
                f"clipcite {version('clipcite')}, starter model on "
            )
            assert too_wide(page) <= 0, path
        page.goto("/")
        page.get_by_role("button", name="Switch to CLIP").click()
        expect(page.get_by_role("dialog")).to_contain_text("clipcite serve --backbone")
        assert accessibility_problems(page) == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_another_backbone_has_no_banner(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        report(page, backbone="ViT-B-16/openai", device="cuda")
        page.goto("/")
        expect(page.locator("footer")).to_contain_text("ViT-B-16/openai on GPU.")
        expect(page.locator("#starter")).to_be_hidden()


def test_the_notice_names_the_state(browser: Browser, quick_url: str) -> None:
    preparing = {"what": "Downloading ViT-B-16/openai", "done_bytes": 30, "total_bytes": 60}
    with window(browser, quick_url, expected=["503"]) as page:
        page.route("**/readyz", lambda route: route.fulfill(status=503, json={"preparing": preparing}))
        page.goto("/")
        expect(page.locator("#notice")).to_have_text("Preparing the model. Downloading ViT-B-16/openai: 50%")


@pytest.mark.parametrize("link", ["/#/jobs/%", "/#/try/%E0%A4%A", "/#/nothing"])
def test_a_broken_link_says_so(browser: Browser, quick_url: str, link: str) -> None:
    with window(browser, quick_url) as page:
        page.goto(link)
        expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
        page.get_by_role("link", name="Train a model").click()
        expect(page.get_by_role("heading", name="Train a model on your images")).to_be_visible()
