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


def test_the_starter_is_named_in_every_view(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, **PHONE) as page:
        report(page, backbone="starter")
        Backbones(page)
        for path in VIEWS:
            page.goto(path)
            banner = page.get_by_role("complementary", name="Model of this service")
            expect(banner).to_contain_text("You're using the small starter model.")
            expect(page.locator("footer")).to_contain_text(
                f"clipcite {version('clipcite')}, starter model on "
            )
            assert too_wide(page) <= 0, path


CLIP = {
    **{"name": "ViT-B-16/openai", "title": "CLIP ViT-B/16", "license": "MIT", "state": "available"},
    **{"default": False, "recommended": True, "bytes": 599_000_000, "serving_bytes": 1_700_000_000},
    **{"training_bytes": 10_600_000_000, "seconds_per_100_images": 900.0, "seconds_measured": False},
    **{"progress": None, "error": None},
}
STARTER = {**CLIP, "name": "starter", "title": "Starter", "state": "installed", "default": True} | {
    "recommended": False
}


class Backbones:
    """Scripted answers of /backbones, and the requests that change something."""

    def __init__(self, page: Page) -> None:
        self.page, self.starter, self.clip = page, dict(STARTER), dict(CLIP)
        self.fixed = False
        self.recommendation = "CLIP ViT-B/16 fits this machine."
        self.requests: list[tuple[str, str, str | None]] = []
        page.route("**/backbones**", self.answer)
        page.route("**/backbones/**", self.answer)

    def answer(self, route: Route) -> None:
        request = route.request
        if request.method != "GET":
            path = request.url.partition("/backbones")[2]
            self.requests.append((request.method, path, request.post_data))
        if request.method == "DELETE":
            self.clip |= {"state": "available", "error": None}
        body = {"data": [self.starter, self.clip]}
        route.fulfill(json={**body, "recommendation": self.recommendation, "fixed": self.fixed})

    def wait_for(self, method: str, path: str, body: str | None = None) -> None:
        """Wait until this is the last request that changes something."""
        for _ in range(200):
            if self.requests[-1:] == [(method, path, body)]:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(self.requests)

    def use_clip(self) -> None:
        self.starter["default"], self.clip["default"], self.clip["state"] = False, True, "installed"


def test_real_clip_is_one_click(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, **PHONE) as page:
        report(page, backbone="starter")
        backbones = Backbones(page)
        page.goto("/")
        banner = page.get_by_role("complementary", name="Model of this service")
        expect(banner).to_contain_text(
            "You're using the small starter model. CLIP ViT-B/16 fits this machine (599 MB, about 6 minutes "
            "for 40 photos on this machine, guessed)."
        )
        assert accessibility_problems(page) == []
        backbones.clip |= {"state": "downloading", "progress": {"done_bytes": 0, "total_bytes": 599_000_000}}
        banner.get_by_role("button", name="Get it").click()
        expect(banner).to_contain_text("Getting CLIP ViT-B/16: 0 of 599 MB. You can go on with the starter.")
        backbones.wait_for("POST", "/ViT-B-16/openai/pull?use=true")
        banner.get_by_role("button", name="Stop").focus()
        backbones.clip["progress"] = {"done_bytes": 590_000_000, "total_bytes": 599_000_000}
        expect(banner).to_contain_text("590 of 599 MB, about 1 s left")
        expect(banner.get_by_role("button", name="Stop")).to_be_focused()
        assert too_wide(page) <= 0
        backbones.clip["state"] = "checking"
        expect(banner).to_have_text("Checking CLIP ViT-B/16 … ")
        backbones.use_clip()
        expect(banner).to_contain_text("CLIP ViT-B/16 is ready. New trainings use it.")
        assert accessibility_problems(page) == []
        banner.get_by_role("button", name="Keep the starter as default").click()
        backbones.wait_for("PUT", "/default", '{"name":"starter"}')


def test_a_failed_download_says_why(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        report(page, backbone="starter")
        backbones = Backbones(page)
        backbones.clip |= {"state": "failed", "error": "The hub https://huggingface.co can't be reached."}
        page.goto("/")
        banner = page.get_by_role("complementary", name="Model of this service")
        expect(banner).to_contain_text(
            "Couldn't get CLIP ViT-B/16: The hub https://huggingface.co can't be reached. The starter keeps "
            "working."
        )
        banner.get_by_role("button", name="Try again").click()
        backbones.wait_for("POST", "/ViT-B-16/openai/pull?use=true")
        banner.get_by_role("button", name="Dismiss").click()
        banner.get_by_role("button", name="Not now").click()
        expect(banner).to_have_text("You're using the small starter model. Other models")
        page.reload()
        expect(banner).to_have_text("You're using the small starter model. Other models")


def test_other_models_are_listed(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, color_scheme="dark") as page:
        report(page, backbone="starter")
        backbones = Backbones(page)
        backbones.clip["recommended"] = False
        backbones.recommendation = "CLIP needs about 7 GB of free memory; this machine has 5."
        page.goto("/")
        banner = page.get_by_role("complementary", name="Model of this service")
        expect(banner).to_contain_text("this machine has 5.")
        banner.get_by_role("button", name="Other models").press("Enter")
        dialog = page.get_by_role("dialog", name="Pre-trained models")
        expect(dialog).to_contain_text("599 MB · 10.6 GB of memory to train")
        assert accessibility_problems(page) == []
        page.emulate_media(color_scheme="light")
        assert accessibility_problems(page) == []
        dialog.get_by_role("button", name="Get CLIP ViT-B/16").click()
        expect(dialog).to_have_count(0)
        backbones.wait_for("POST", "/ViT-B-16/openai/pull?use=true")
        backbones.fixed = True
        page.reload()
        expect(banner).to_have_text(
            "You're using the small starter model. The operator has chosen the model. "
        )


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
