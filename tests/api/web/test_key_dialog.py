"""A service with keys: the page asks for one, keeps it for the tab, and sends it with every request."""

import re

from playwright.sync_api import Browser, expect

from core.store.accounts import api_keys
from tests.api.conftest import MakeService
from tests.api.service import listening, shots
from tests.api.web.window import window

KEY = "k" * 32


def test_the_page_asks_for_a_key(browser: Browser, make_service: MakeService) -> None:
    made = make_service(admin_key=KEY)
    with (
        listening(made.app) as port,
        window(browser, f"http://127.0.0.1:{port}", expected=["401"]) as page,
    ):
        made.app.state.serving.warm_up()
        made.client.headers["Authorization"] = f"Bearer {KEY}"
        job = made.accepted(**shots(), name="secret")["id"]
        page.goto(f"/#/jobs/{job}")
        field = page.get_by_label("Key", exact=True)
        expect(field).to_be_focused()
        expect(page.locator(".problem:visible")).to_have_count(0)  # no error behind the dialog
        field.fill("not the key")
        field.press("Enter")
        # Requests in parallel fail one after the other, and all of them had the wrong key.
        page.evaluate(
            """async () => {
              const { requestJson } = await import("/page/lib/service/http.js");
              await Promise.allSettled([requestJson("/jobs"), requestJson("/models")]);
            }"""
        )
        expect(page.get_by_text("That key isn't valid")).to_be_visible()
        field.fill(KEY)
        field.press("Enter")
        expect(page.get_by_role("heading", name="secret")).to_be_visible()
        # An earlier key is refused late.
        page.evaluate(
            """async (current) => {
              const { key, requestJson } = await import("/page/lib/service/http.js");
              key.set("an earlier key");
              const late = requestJson("/jobs");
              key.set(current);
              await late.catch(() => {});
            }""",
            KEY,
        )
        expect(field).to_be_hidden()
        page.get_by_text("Details").click()  # which came over the stream
        expect(page.get_by_text("Job submitted.")).to_be_visible()
        page.get_by_text("Use in code").click()
        curl = page.get_by_label("curl", exact=True)
        expect(curl).to_contain_text("Authorization: Bearer $CLIPCITE_API_KEY")
        assert KEY not in page.content()
        page.reload()
        expect(page.get_by_role("heading", name="secret")).to_be_visible()
        page.get_by_role("button", name=re.compile("^Key")).click()
        page.get_by_role("button", name="Sign out").click()
        expect(field).to_be_visible()
        expect(page.get_by_role("heading", name="secret")).to_be_hidden()


def test_a_key_stays_in_the_browser_only_if_the_person_wants_that(
    browser: Browser, make_service: MakeService
) -> None:
    made = make_service()
    with made.database.write() as session:
        team = api_keys.create(session, owner="team-a", scopes=["classify", "adapt"]).key
    with (
        listening(made.app) as port,
        window(browser, f"http://127.0.0.1:{port}", expected=["401"]) as page,
    ):
        made.app.state.serving.warm_up()
        for remembered in (False, True):
            page.goto("/#/models")
            page.reload()
            field = page.get_by_label("Key", exact=True)
            expect(page.get_by_role("dialog")).to_contain_text("stays in the storage of this browser")
            field.fill(team)
            page.get_by_label("Remember on this device").set_checked(remembered)
            field.press("Enter")
            expect(page.locator("#key")).to_have_text("team-a")
            later = page.context.new_page()  # a later session of the browser
            later.goto("/#/models")
            expect(later.get_by_role("dialog")).to_be_visible(visible=not remembered)
            if remembered:
                later.get_by_role("button", name="Key of team-a").click()
                expect(later.get_by_label("Remember on this device")).to_be_checked()
                later.get_by_role("button", name="Sign out").click()
                assert later.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
            later.close()
            page.reload()
            expect(page.get_by_role("dialog")).to_be_visible(visible=remembered)  # signed out everywhere
            page.evaluate("sessionStorage.clear()")
