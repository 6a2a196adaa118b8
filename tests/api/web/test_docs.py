"""The API reference at /docs: the page's navigation, and requests that it sends."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.api.web.window import accessibility_problems, shot, too_wide, window


def links(page: Page) -> list[str]:
    return page.get_by_role("navigation", name="Main").get_by_role("link").all_inner_texts()


def test_the_reference_sends_requests(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/")
        expected = links(page)
        page.goto("/docs")
        assert links(page) == expected
        models = page.locator("#get-models-model_id-")
        models.get_by_text("Try it").click()
        models.get_by_label("model_id").fill("none")
        models.get_by_role("button", name="Send GET").click()
        expect(models.get_by_role("status")).to_contain_text("404")
        expect(models.get_by_label("Response", exact=True)).to_contain_text("There is no model 'none'")
        classify = page.locator("#post-classify")
        classify.get_by_text("Try it").click()
        files = classify.get_by_label(re.compile("^images"))
        files.set_input_files({"name": "red.png", "mimeType": "image/png", "buffer": shot("red", 1)})
        classify.get_by_label(re.compile("^class_names")).fill('["red", "green"]')
        classify.get_by_role("button", name="Send POST").click()
        expect(classify.get_by_label("Response", exact=True)).to_contain_text('"file": "red.png"')
        assert accessibility_problems(page) == []
        assert too_wide(page) <= 0
