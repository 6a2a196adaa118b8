"""Sort goes on after files are gone, and after requests fail."""

import re
from pathlib import Path

from playwright.sync_api import Browser, Response, Route, expect

from tests.api.web.browser import killable
from tests.api.web.sort.piles import answered, drop_pile, images_of, said
from tests.api.web.window import drop, window
from tests.service.running import wait_for

BROKEN = ["Failed to load resource", "network error"]


def test_answers_are_sent_once_the_service_is_there_even_after_a_reload(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    with window(browser, quick_url, expected=BROKEN) as page:
        pile = drop_pile(page, folder, "red", "blue")
        page.route("**/answers", lambda route: route.abort())
        tile = page.locator(".tile").first
        file = str(tile.get_attribute("title"))
        tile.press("1")
        expect(page.get_by_text("1 answer will be sent")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("Can't reach the service.")
        page.locator(f'.tile[title="{file}"]').press("2")
        page.reload()
        expect(page.locator(".tile.yours")).to_have_attribute("title", file)
        assert said(quick_url, pile) == {}
        page.unroute_all()
        answered(quick_url, pile, 1)
        assert said(quick_url, pile) == {("class", "blue", "moved"): 1}  # the last one counts
        expect(page.get_by_role("alert")).to_have_count(0)


def test_answers_that_could_not_be_sent_survive_a_killed_browser(
    browser: Browser, quick_url: str, folder: Path, tmp_path: Path
) -> None:
    """A person goes on while the service is away, and then the browser dies."""
    profile = tmp_path / "profile"
    with killable(browser, profile, quick_url) as page:
        pile = drop_pile(page, folder, "red", "blue")
        page.route("**/answers", lambda route: route.abort())
        for _ in range(3):
            page.locator(".tile:not(.yours)").first.press("1")
        expect(page.get_by_text("3 answers will be sent")).to_be_visible()
    assert said(quick_url, pile) == {}
    with killable(browser, profile, quick_url) as page:
        page.goto(f"/#/sort/{pile}")
        expect(page.locator(".sum .tally")).to_have_text("42 photos. 3 photos labelled.")
        answered(quick_url, pile, 3)
    with killable(browser, profile, quick_url) as page:
        page.goto(f"/#/sort/{pile}")
        expect(page.locator(".sum .tally")).to_have_text("42 photos. 3 photos labelled.")
        page.wait_for_load_state("networkidle")
    assert said(quick_url, pile) == {("class", "red", "moved"): 3}


def test_a_browser_without_storage_is_no_trouble_and_a_full_device_is_named(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    with window(browser, quick_url, expected=BROKEN) as page:
        drop_pile(page, folder, "red", "blue")
        page.route("**/answers", lambda route: route.abort())
        for error, words in (("InvalidStateError", 0), ("QuotaExceededError", 1)):
            refuse = f"() => {{ throw new DOMException('', '{error}') }}"
            page.evaluate(f"void (IDBObjectStore.prototype.put = {refuse})")
            page.locator(".tile:not(.yours)").first.press("1")
            expect(page.get_by_text(f"{'2 answers' if words else '1 answer'} will be sent")).to_be_visible()
            expect(page.get_by_text("This device has no room to keep them")).to_have_count(words)


def test_a_new_name_has_its_key_while_an_older_sort_arrives(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    held: list[Route] = []
    with window(browser, quick_url, expected=BROKEN) as page:
        pile = drop_pile(page, folder, "red")
        page.route(re.compile(r"/sort\?"), lambda route: held.append(route))
        page.locator(".tile").first.press("1")
        wait_for(lambda: page.wait_for_timeout(50) or held)  # the page sorts anew
        page.route("**/answers", lambda route: route.abort())
        page.locator(".tile:not(.yours)").first.press("/")
        page.keyboard.type("teal")
        page.keyboard.press("Enter")
        expect(page.locator(".tile.yours")).to_have_count(2)
        page.unroute(re.compile(r"/sort\?"))
        with page.expect_response(re.compile(r"/sort\?")):
            for route in held:  # a slow machine may ask twice; no response has the name
                route.continue_()
        expect(page.locator('.groups[aria-busy="false"]')).to_be_visible()
        expect(page.locator(".chip")).to_have_count(2)
        page.locator(".tile:not(.yours)").first.press("2")
        page.unroute_all()
        answered(quick_url, pile, 3)
        assert said(quick_url, pile) == {("class", "red", "moved"): 1, ("class", "teal", "moved"): 2}


def test_a_refused_answer_is_said_and_taken_off_the_page(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    with window(browser, quick_url, expected=BROKEN) as page:
        drop_pile(page, folder, "red", "blue")
        page.route("**/answers", lambda route: route.fulfill(status=422, json={"detail": "No such class."}))
        page.locator(".tile").first.press("1")
        expect(page.get_by_role("alert")).to_contain_text("No such class.")
        expect(page.locator(".tile.yours")).to_have_count(0)
        page.unroute_all()
        page.locator(".tile").first.press("1")
        expect(page.locator(".tile.yours")).to_have_count(1)
        expect(page.get_by_role("alert")).to_have_count(0)


def test_answers_wait_while_the_service_has_no_room(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url, expected=BROKEN) as page:
        pile = drop_pile(page, folder, "red", "blue")
        page.route("**/answers", lambda route: route.fulfill(status=507, json={"detail": "No room."}))
        page.locator(".tile").first.press("1")
        expect(page.get_by_role("alert")).to_contain_text("No room.")
        page.unroute_all()
        page.locator(".tile:not(.yours)").first.press("1")
        answered(quick_url, pile, 2)
        assert said(quick_url, pile) == {("class", "red", "moved"): 2}
        expect(page.get_by_role("alert")).to_have_count(0)


def test_an_interrupted_upload_goes_on_when_the_folder_is_dropped_again(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    uploads: list[Route] = []
    with window(browser, quick_url, expected=BROKEN) as page:
        page.route(
            "**/piles/*/images",
            lambda route: (
                route.continue_()
                if route.request.method == "GET" or (not uploads.append(route) and len(uploads) == 1)
                else None
            ),  # the second part never ends
        )
        page.goto("/#/sort/stock")
        drop(page, page.locator(".zone"), folder)
        expect(page.get_by_text("16 of 42 photos sent")).to_be_visible()
        pile = page.url.rpartition("/")[2]
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Stopped: 16 of 42 photos sent")).to_be_visible()
        page.unroute_all()
        page.reload()
        expect(page.locator(".sum .tally")).to_have_text("16 photos.")
        page.goto("/#/sort/stock")
        drop(page, page.locator(".zone"), folder)
        known = page.get_by_role("listitem").filter(has_text="has 16 of 42 photos. The others join it.")
        known.get_by_role("button", name="Continue").first.click()
        page.wait_for_url(f"**/{pile}")
        expect(page.locator(".sum .tally")).to_have_text("42 photos.")
        assert len(images_of(quick_url, pile)) == 42


def test_files_that_are_gone_or_no_images_stop_no_other(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    (folder / "red" / "broken.jpg").write_bytes(b"no image")
    with window(browser, quick_url, expected=BROKEN) as page:
        page.goto("/#/sort/stock")
        gone = folder / "yellow" / "3.png"
        page.route("**/piles", lambda route: (gone.unlink(missing_ok=True), route.continue_()))
        drop(page, page.locator(".zone"), folder)
        expect(page.locator(".sum .tally")).to_have_text("41 photos.")
        said_of = page.get_by_role("alert").filter(has_text="2 files can't be read.")
        expect(said_of).to_contain_text("yellow/3.png: Can no longer be read")
        expect(said_of).to_contain_text("red/broken.jpg")


def test_without_hashes_the_service_finds_what_it_has(browser: Browser, quick_url: str, folder: Path) -> None:
    """Over plain http from another machine browsers don't offer them."""
    with window(browser, quick_url) as page:
        page.add_init_script("Object.defineProperty(crypto, 'subtle', { value: undefined })")
        pile = drop_pile(page, folder)
        page.reload()
        expect(page.locator(".tile")).to_have_count(42)
        sent: list[Response] = []
        page.on("response", lambda answer: answer.request.method == "POST" and sent.append(answer))
        drop(page, page.locator(".zone"), folder)
        wait_for(lambda: page.wait_for_timeout(100) or len(sent) == 3)  # all parts again
        assert len(images_of(quick_url, pile)) == 42


def test_a_pile_waits_for_the_features_of_its_model(browser: Browser, quick_url: str, folder: Path) -> None:
    def wait(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        waits.append(body)
        if len(waits) < 3:
            route.fulfill(status=202, json={**body, "ready": False, "done": 7 * len(waits), "images": []})
        else:
            route.fulfill(response=answer)

    waits: list[object] = []
    with window(browser, quick_url) as page:
        drop_pile(page, folder, "red", "blue")
        page.route(re.compile("/sort\\?"), wait)
        page.reload()
        expect(page.get_by_text("Reading the photos with this model: 14 of 42")).to_be_visible()
        expect(page.get_by_role("button", name="Ask me about 10")).to_be_visible()


def test_shift_selects_from_the_photo_after_the_moved_one(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    with window(browser, quick_url) as page:
        drop_pile(page, folder, "red", "blue")
        page.get_by_label("Unsure below").fill("1")
        unsure = page.locator(".unsure .tile")
        unsure.first.click()
        page.keyboard.press("2")
        expect(page.locator(".tile.yours")).to_have_count(1)
        page.wait_for_load_state("networkidle")
        unsure.nth(2).click(modifiers=["Shift"])
        expect(page.get_by_text("photos selected")).to_have_text("3 photos selected")
