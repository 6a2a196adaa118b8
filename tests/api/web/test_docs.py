"""The API reference at /docs: the page's navigation, and requests that it sends."""

from playwright.sync_api import Browser, Page, expect

from tests.api.web.window import shot, too_wide, window


def links(page: Page) -> list[str]:
    return page.get_by_role("navigation", name="Main").get_by_role("link").all_inner_texts()


def test_the_reference_sends_requests(browser: Browser, quick_url: str) -> None:
    # Swagger UI 5.32 logs the second one for every upload, and shows a usable field.
    with window(browser, quick_url, expected=["404", "JsonSchema_string_binary"]) as page:
        page.goto("/")
        expected = links(page)
        page.goto("/docs")
        assert links(page) == expected
        model = page.locator("#operations-models-get_model")
        model.locator("button.opblock-summary-control").click()
        model.get_by_role("button", name="Try it out").click()
        model.get_by_placeholder("model_id").fill("none")
        model.get_by_role("button", name="Execute").click()
        expect(model.locator(".live-responses-table")).to_contain_text("There is no model 'none'")
        classify = page.locator("#operations-classify-classify")
        classify.locator("button.opblock-summary-control").click()
        classify.get_by_role("button", name="Try it out").click()
        classify.locator("input[type=file]").set_input_files(
            {"name": "red.png", "mimeType": "image/png", "buffer": shot("red", 1)}
        )
        classify.get_by_role("button", name="Add (string | object) item").click()
        classify.locator("input[type=text]").first.fill("red")
        classify.get_by_role("button", name="Execute").click()
        expect(classify.locator(".live-responses-table")).to_contain_text("red.png")
        assert too_wide(page) <= 0


def test_the_reference_sends_the_key(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/docs")
        page.evaluate("sessionStorage.setItem('clipcite-key', 'a key')")
        models = page.locator("#operations-models-list_models")
        models.locator("button.opblock-summary-control").click()
        models.get_by_role("button", name="Try it out").click()
        with page.expect_request("**/models*") as sent:
            models.get_by_role("button", name="Execute").click()
        assert sent.value.headers["authorization"] == "Bearer a key"
