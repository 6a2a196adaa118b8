"""The link that `clipcite serve` prints: the page takes the token out of the address."""

from playwright.sync_api import Browser, Dialog, expect

from core.store.accounts import local_token
from tests.api.conftest import MakeService
from tests.api.service import listening
from tests.api.web.window import window


def test_the_page_takes_the_token_from_the_link(browser: Browser, make_service: MakeService) -> None:
    made = make_service(require_token=True)
    token = local_token.ensure(made.settings.data)
    with (
        listening(made.app) as port,
        window(browser, f"http://127.0.0.1:{port}", expected=["401"]) as page,
    ):
        made.app.state.serving.warm_up()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(f"{request.url} {request.headers}"))
        page.goto(f"/#token={token}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert page.url == f"http://127.0.0.1:{port}/"
        assert not any(token in one.partition(" ")[0] for one in asked if "#" not in one)
        page.goto("/#/models")
        expect(page.get_by_text("No models yet")).to_be_visible()
        expect(page.get_by_role("dialog")).to_be_hidden()
        assert token not in page.content()
        page.reload()
        expect(page.get_by_text("No models yet")).to_be_visible()
        other = page.context.new_page()  # a new tab, and a later session of the browser
        other.goto("/#/models")
        expect(other.get_by_text("No models yet")).to_be_visible()
        expect(other.get_by_role("dialog")).to_be_hidden()
        other.close()
        page.evaluate("localStorage.clear()")
        page.reload()
        dialog = page.get_by_role("dialog", name="API key")
        expect(dialog).to_contain_text("clipcite open")
        page.evaluate(f"location.hash = '#token={token}'")  # the link, pasted into the open tab
        expect(dialog).to_be_hidden()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_role("button", name="Key", exact=True)).to_be_visible()

        # A page of another site may link here with any key.
        questions: list[str] = []

        def refuse(dialog: Dialog) -> None:
            questions.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", refuse)
        for planted, asks in (("cc_" + "A" * 43, 0), ("B" * 43, 1), (token, 1)):
            page.goto("/#/models")
            page.evaluate(f"location.hash = '#token={planted}'")
            expect(page).to_have_url(f"http://127.0.0.1:{port}/")
            assert len(questions) == asks
            assert page.evaluate("localStorage.getItem('clipcite-key')") == token
        assert "will belong to its owner" in questions[0]
