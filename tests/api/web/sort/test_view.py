"""The Sort view: piles, groups, answers by keys and by hand, and files."""

import csv
import re
import zipfile
from collections import Counter
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.api.web.sort.piles import PHONE, answered, drop_pile, group, images_of, said, sizes
from tests.api.web.window import accessibility_problems, drop, too_wide, window, write_class_folders
from tests.service.running import wait_for

WATCH_THE_CARD = """() => {
    const card = document.querySelector(".sum");
    const check = [...card.querySelectorAll("button")].find((one) => one.textContent === "Check with 20");
    window.wrong = 0; // times that the card named a button that was gone
    const look = () => (window.wrong += card.innerText.includes("Check with 20 tells") && check.hidden);
    new MutationObserver(look).observe(card, { subtree: true, childList: true, attributes: true });
}"""
FOCUSED = """() => {
    const one = document.activeElement;
    return one === document.body ? "" : one.title ? "a photo" : one.textContent || one.tagName;
}"""


def tab_stops(page: Page) -> list[str]:
    """Press Tab until the focus leaves the page. Return what had it."""
    stops: list[str] = []
    while (name := page.evaluate(FOCUSED)) and len(stops) < 100:
        stops.append(name)
        page.keyboard.press("Tab")
    return stops


def test_a_reload_loses_nothing(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        pile = drop_pile(page, folder, "red", "blue")
        assert len(images_of(quick_url, pile)) == 42
        page.locator(".tile:not(.yours)").first.press("1")
        page.locator(".tile:not(.yours)").first.press("x")
        expect(page.locator(".sum .tally")).to_have_text("42 photos. 2 photos labelled.")
        page.get_by_label("Model", exact=True).wait_for()
        answered(quick_url, pile, 2)
        page.reload()
        expect(page.get_by_role("heading", name="photos", exact=True)).to_be_visible()
        expect(page.locator(".sum .tally")).to_have_text("42 photos. 2 photos labelled.")
        expect(page.locator(".tile.yours")).to_have_count(2)
        for tile in page.locator(".tile.yours").all():
            tile.scroll_into_view_if_needed()
            expect(tile.locator("img")).to_be_visible()  # the service has copies
        expect(page.locator(".chip")).to_have_count(2)
        page.get_by_role("link", name="All piles").click()
        mine = page.get_by_role("listitem").filter(has=page.locator(f'a[href="#/sort/{pile}"]'))
        expect(mine).to_contain_text("42 photos, 2 labelled, just now")
        assert accessibility_problems(page) == []
        drop(page, page.locator(".zone"), folder)  # in another browser it would be known, too
        page.get_by_role("dialog", name="The service knows these photos").get_by_role("listitem").filter(
            has_text="photos has all of them."
        ).get_by_role("button", name="Continue with 2 labels").first.click()
        page.wait_for_url(f"**/#/sort/{pile}")
        expect(page.locator(".tile.yours")).to_have_count(2)


def test_two_pages_see_each_others_answers(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as mine, window(browser, quick_url) as other:
        pile = drop_pile(mine, folder, "red", "blue")
        other.goto(f"/#/sort/{pile}")
        expect(other.locator(".tile")).to_have_count(42)
        mine.locator(".tile:not(.yours)").first.press("1")
        expect(other.locator(".tile.yours")).to_have_count(1)
        file = mine.locator(".tile.yours").get_attribute("title")
        expect(other.locator(".tile.yours")).to_have_attribute("title", str(file))
        other.locator(".tile.yours").press("2")  # the last answer counts
        expect(group(mine, "blue").and_(mine.locator(".yours"))).to_have_attribute("title", str(file))
        assert said(quick_url, pile) == {("class", "blue", "moved"): 1}


def test_photos_without_a_tick_stay_out_of_the_class(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        pile = drop_pile(page, folder)
        sent: list[dict[str, object]] = []
        page.on(
            "request",
            lambda request: (
                request.url.endswith("/answers") and sent.extend(request.post_data_json["answers"])
            ),
        )
        page.get_by_role("button", name="Group them").click()
        asked = page.get_by_role("dialog", name="What are these?")
        expect(asked).to_contain_text("Group 1 of")
        expect(asked.locator(".pick img:visible")).to_have_count(9)
        assert accessibility_problems(page) == []
        asked.get_by_role("checkbox", checked=True).first.click()
        expect(asked.get_by_role("checkbox", checked=True)).to_have_count(8)
        page.keyboard.press("/")
        page.keyboard.type("warm")
        page.keyboard.press("Enter")
        expect(asked).to_contain_text("Group 2 of")
        page.keyboard.press("s")
        page.keyboard.press("Escape")
        expect(page.locator(".chip")).to_have_text(re.compile("warm"))
        expect(page.locator(".tile.yours")).to_have_count(8)
        wait_for(lambda: said(quick_url, pile)["skip", None, "group"])  # the last answer
        images = images_of(quick_url, pile)
        excluded = [image["position"] for image in images if image["not_classes"] == ["warm"]]
        assert len(excluded) == 1
        answers = said(quick_url, pile)
        assert answers == Counter(
            {
                ("class", "warm", "group"): 8,
                ("not_class", "warm", "group"): 1,
                ("skip", None, "group"): answers["skip", None, "group"],
            }
        )
        members = [answer for answer in sent if answer["how"] == "member"]
        labelled = {image["position"] for image in images if image["answer"]}
        assert [answer["class_name"] for answer in members] == ["warm"]
        assert not labelled & {*members[0]["positions"]}  # seen by nobody, so without a label


def test_check_with_20_measures(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        pile = drop_pile(page, folder, "red", "blue", "yellow")
        expect(page.get_by_text("Not measured yet.")).to_be_visible()
        page.get_by_role("button", name="Check with 20").click()
        asked = page.get_by_role("dialog")
        for place in range(1, 21):
            expect(asked).to_contain_text(f"{place} of 20")
            expect(
                asked.get_by_role("heading", name="Which class is it?")
            ).to_be_visible()  # no guess is shown
            name = re.search(r"(red|blue|yellow)/", asked.locator(".file").inner_text())[1]
            page.keyboard.press("s" if place == 4 else {"red": "1", "blue": "2", "yellow": "3"}[name])
        expect(asked).to_have_count(0)
        expect(page.locator(".sum .tally")).to_have_text("42 photos. 19 photos labelled.")
        expect(page.get_by_text("measured on 19 photos drawn at random")).to_be_visible()
        assert sum(n for (_, _, how), n in said(quick_url, pile).items() if how == "drawn") == 20


def test_no_check_is_named_once_every_photo_is_labelled(
    browser: Browser, quick_url: str, tmp_path: Path
) -> None:
    small = write_class_folders(tmp_path / "few", {"red": 2, "blue": 2})
    with window(browser, quick_url) as page:
        drop_pile(page, small)
        card, check = page.locator(".sum"), page.get_by_role("button", name="Check with 20")
        expect(card).not_to_contain_text("measured")  # there are no classes yet
        page.get_by_label("Class names").fill("red")
        page.get_by_label("Class names").press("Enter")
        expect(card).to_contain_text("Not measured yet. Check with 20 tells you.")
        expect(check).to_be_visible()
        page.evaluate(WATCH_THE_CARD)
        for _ in range(4):
            page.locator(".tile:not(.yours)").first.press("1")
        expect(card).to_contain_text(
            "4 photos. 4 photos labelled. Every photo is labelled.", use_inner_text=True
        )
        expect(card).not_to_contain_text("Check with 20 tells you")
        expect(check).to_be_hidden()
        page.locator(".tile.yours").first.press("Delete")
        expect(card).to_contain_text("Not measured yet. Check with 20 tells you.")
        expect(check).to_be_visible()
        assert page.evaluate("window.wrong") == 0


def test_by_keyboard_alone(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        pile = drop_pile(page, folder, "red", "blue")
        page.get_by_label("Unsure below").fill("1")
        expect(group(page, "Unsure")).to_have_count(42)
        assert accessibility_problems(page) == []
        group(page, "Unsure").first.focus()
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        expect(page.get_by_text("3 photos selected")).to_be_visible()
        bar = page.get_by_role("group", name="Selected photos")
        page.keyboard.press("Tab")
        expect(bar.get_by_role("button", name="It's right")).to_be_focused()
        page.keyboard.press("Shift+Tab")
        expect(group(page, "Unsure").nth(2)).to_be_focused()
        bar.get_by_role("button", name="blue").press("Enter")
        expect(group(page, "blue")).to_have_count(3)
        expect(group(page, "blue").first).to_have_accessible_name(re.compile("blue, labelled$"))
        expect(group(page, "Unsure").first).to_be_focused()
        page.keyboard.press("Control+z")
        expect(group(page, "Unsure")).to_have_count(42)
        expect(page.get_by_text("3 photos selected")).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type("<b>teal</b>")
        page.keyboard.press("Enter")
        expect(group(page, r"<b>teal<\/b>")).to_have_count(3)
        expect(page.locator(".chip").last).to_have_text(re.compile(r"<b>teal<\/b>"))
        page.keyboard.press("Enter")  # the next one is right
        expect(page.locator(".tile.yours")).to_have_count(4)
        expect(page.locator(":focus")).to_have_role("option")
        page.keyboard.press("s")
        answered(quick_url, pile, 5)
        page.get_by_role("button", name="Ask me about 10").press("Enter")
        asked = page.get_by_role("dialog")
        expect(asked).to_contain_text("1 of 10")
        for key in ("2", "x", "s"):
            page.keyboard.press(key)
        expect(asked).to_contain_text("4 of 10")
        page.keyboard.press("ArrowLeft")
        expect(asked).to_contain_text("3 of 10")
        assert accessibility_problems(page) == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Ask me about 10")).to_be_focused()
        answered(quick_url, pile, 8)
        assert too_wide(page) <= 0


def test_groups_by_keyboard_as_a_screen_reader_reads_them(
    browser: Browser, quick_url: str, folder: Path
) -> None:
    with window(browser, quick_url) as page:
        pile = drop_pile(page, folder)
        page.get_by_role("button", name="Group them").press("Enter")
        asked = page.get_by_role("dialog", name="What are these?")
        expect(asked.locator(".pick img:visible")).to_have_count(9)
        expect(asked).to_match_aria_snapshot("""
            - dialog "What are these?":
              - heading "What are these?" [level=2]
              - paragraph: /Group 1 of \\d+, \\d+ photos/
              - group "Untick those that don't belong.":
                - checkbox /(red|blue|yellow)\\/\\d+\\.png/ [checked]
              - button "New name …"
              - button "None of these"
              - button "Skip"
              - button "Back" [disabled]
              - button "Done"
        """)
        page.get_by_role("heading", name="What are these?").focus()
        photos = ["a photo"] * 9
        buttons = ["New name …/", "None of theseX", "SkipS", "DoneEsc"]
        assert tab_stops(page) == ["What are these?", *photos, *buttons]
        asked.get_by_role("checkbox").first.press("Space")
        other = asked.get_by_role("checkbox", checked=False).get_attribute("title")
        for place, name in enumerate(("one", "two", "three"), 1):
            expect(asked).to_contain_text(f"Group {place} of 3")
            page.keyboard.press("/")
            page.keyboard.type(name)
            page.keyboard.press("Enter")
        expect(asked).to_have_count(0)
        expect(page.get_by_role("button", name="Ask me about 10")).to_be_focused()
        expect(page.locator("main")).to_match_aria_snapshot("""
            - main:
              - heading "photos" [level=1]
              - combobox "Model"
              - textbox "Class names"
              - slider "Unsure below"
              - paragraph: /42 photos\\. 26 photos labelled/
              - button "Ask me about 10"
              - group "Training with your labels"
              - heading /one \\d+/ [level=2]
              - listbox /one \\d+/:
                - option /(red|blue|yellow)\\/\\d+\\.png, one, labelled/
        """)
        answered(quick_url, pile, 27)
        page.get_by_label("Unsure below").fill("0")
        tile = page.get_by_title(str(other), exact=True)
        expect(tile).to_have_accessible_name(re.compile(rf"^{other}, (two|three) \d+%, not one$"))
        tile.press("s")
        expect(tile).to_have_accessible_name(re.compile(rf"^{other}, (two|three) \d+%, not one, skipped$"))
        page.get_by_role("button", name="Ask me about 10").focus()
        stops = tab_stops(page)
        assert stops[:3] == ["Ask me about 10", "Group them", "Check with 20"]
        first = stops.index("Select all of one")
        assert stops[first : first + 10] == [
            *(
                stop
                for name in ("one", "two", "three")
                for stop in (f"Select all of {name}", f"The others shown are right: {name}", "a photo")
            ),
            "Undo",
        ]
        for _ in stops:
            page.keyboard.press("Shift+Tab")
        expect(page.get_by_role("button", name="Ask me about 10")).to_be_focused()
        group(page, "one").first.press("Space")
        page.keyboard.press("Tab")
        acts = ["Move to …/", "None of theseX", "SkipS", "Look closerL", "ClearEsc", "Undo"]
        bar = ["It's rightEnter", *acts]
        moves = ["one1", "two2", "three3"]
        next_group = "Select all of two"
        assert tab_stops(page)[: len(bar + moves) + 1] == [
            *bar,
            *moves,
            next_group,
        ]  # the bar of the selection


def test_an_undone_answer_gives_way_to_the_one_before(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        pile = drop_pile(page, folder, "red", "blue")
        page.locator(".tile").first.press("1")
        page.locator(".tile.yours").press("x")
        expect(group(page, "Something else").and_(page.locator(".yours"))).to_have_count(1)
        answered(quick_url, pile, 1)
        page.get_by_role("button", name="Undo").click()
        expect(group(page, "red").and_(page.locator(".yours"))).to_have_count(1)
        page.reload()
        expect(group(page, "red").and_(page.locator(".yours"))).to_have_count(1)
        page.locator(".tile.yours").press("Delete")
        expect(page.locator(".tile.yours")).to_have_count(0)


def test_a_phone_selects_by_tapping(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url, color_scheme="dark", **PHONE) as page:
        drop_pile(page, folder, "red", "blue")
        parts = page.locator(".group > .row > :visible").evaluate_all("all => all.map((e) => e.offsetHeight)")
        assert max(parts) < 40  # no name and no button has two lines
        page.locator(".tile").nth(0).tap()
        page.locator(".tile").nth(1).tap()
        expect(page.get_by_text("2 photos selected")).to_be_visible()
        assert accessibility_problems(page) == []
        assert too_wide(page) <= 0
        page.get_by_role("button", name="Move to …").tap()
        page.get_by_role("dialog").get_by_role("button", name="blue").tap()
        expect(page.locator(".tile.yours")).to_have_count(2)
        page.get_by_role("button", name="Undo").tap()
        expect(page.locator(".tile.yours")).to_have_count(0)
        page.get_by_role("button", name="Group them").tap()
        expect(page.get_by_role("dialog")).to_contain_text("Group 1 of")
        assert accessibility_problems(page) == []
        assert too_wide(page) <= 0
        page.keyboard.press("Escape")
        page.get_by_role("link", name="All piles").tap()
        expect(page.get_by_role("link", name="Continue").first).to_be_visible()
        assert accessibility_problems(page) == []
        assert too_wide(page) <= 0


def test_a_photo_is_dragged_onto_a_group(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        page.set_viewport_size({"width": 1280, "height": 1800})  # both are in view
        drop_pile(page, folder, "red", "blue")
        target = page.locator(".group").filter(has=page.get_by_role("heading", name=re.compile("blue")))
        page.locator(".tile").first.drag_to(target.locator("h2"))
        expect(target.locator(".tile.yours")).to_have_count(1)


def test_the_sorted_photos_are_saved(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        pile = drop_pile(page, folder, "red", "+a:b blue")
        page.get_by_label("Unsure below").fill("0")
        page.locator(".tile").first.press("x")
        answered(quick_url, pile, 1)
        expect(group(page, "Something else").and_(page.locator(".yours"))).to_have_count(1)
        page.wait_for_load_state("networkidle")
        expected = Counter(
            {
                {"+a:b blue": "+a_b blue", "Something else": "something else"}.get(k, k): n
                for k, n in sizes(page).items()
            }
        )
        with page.expect_download() as download:
            page.get_by_role("button", name="Download sorted zip").click()
        assert download.value.suggested_filename == "photos.zip"
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            written = [archive.read(name) for name in names]
        assert Counter(name.split("/")[0] for name in names) == +expected
        assert len({name.lower() for name in names}) == 42
        assert sorted(written) == sorted(path.read_bytes() for path in folder.rglob("*.png"))
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as CSV").click()
        text = Path(download.value.path()).read_text("utf-8-sig")
        assert next(csv.reader([text.splitlines()[0]]))[:2] == ["file", "class"]
        page.reload()
        page.get_by_role("button", name="Download sorted zip").click()  # the originals are not on the service
        expect(page.get_by_role("alert")).to_contain_text("Drop the folder again to get it")
        drop(page, page.locator(".zone"), folder)
        expect(page.locator("#announcer")).to_have_text("42 photos added.")
        expect(page.get_by_role("alert")).to_have_count(0)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download sorted zip").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert len(archive.namelist()) == 42
        assert len(images_of(quick_url, pile)) == 42


def test_a_pile_is_renamed_and_deleted(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url, expected=["404"]) as page:
        pile = drop_pile(page, folder)
        page.get_by_role("button", name="Rename").click()
        page.get_by_role("textbox", name="Name of the pile").fill("<b>club</b> photos")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="<b>club</b> photos")).to_be_visible()
        page.get_by_role("button", name="Delete", exact=True).click()
        asked = page.get_by_role("dialog")
        expect(asked).to_contain_text("Its 42 photos")
        asked.get_by_role("button", name="Delete").click()
        page.wait_for_url("**/#/sort")
        expect(page.locator(f'a[href="#/sort/{pile}"]')).to_have_count(0)
        page.goto(f"/#/sort/{pile}")
        expect(page.get_by_role("alert")).to_be_visible()


def test_making_a_model_asks_for_its_name(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        pile = drop_pile(page, folder, "red", "blue")
        page.locator(".tile:not(.yours)").first.press("1")
        page.locator(".tile:not(.yours)").first.press("2")
        page.get_by_role("button", name="Make a model").click()
        asked = page.get_by_role("dialog", name="Name of the model")
        page.keyboard.press("Enter")
        expect(asked).to_be_visible()  # there is no model without a name
        assert accessibility_problems(page) == []
        page.keyboard.type("club photos")
        with page.expect_request("**/adapt") as sent:
            page.keyboard.press("Enter")
        form = sent.value.post_data
        assert f'name="pile"\r\n\r\n{pile}' in form
        assert 'name="name"\r\n\r\nclub photos' in form
        assert "pile_drawn" not in form
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        page.reload()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()


def test_loose_photos_of_train_are_grouped(browser: Browser, quick_url: str, folder: Path) -> None:
    photos = [photo.rename(folder / f"{photo.parent.name}{photo.name}") for photo in folder.glob("*/*.png")]
    with window(browser, quick_url) as page:
        page.goto("/")
        drop(page, page.locator(".zone"), *photos)
        page.get_by_role("button", name="Group them").click()
        known = page.get_by_role("dialog", name="The service knows these photos")
        asked = page.get_by_role("dialog", name=re.compile("What are these|none of your classes"))
        expect(known.or_(asked)).to_be_visible()
        if known.count():
            known.get_by_role("button", name="Make a new pile").click()
        expect(asked).to_contain_text("Group 1 of")
        assert re.search("#/sort/pil_", page.url)


def test_two_clicks_ask_once(browser: Browser, quick_url: str, folder: Path) -> None:
    with window(browser, quick_url) as page:
        drop_pile(page, folder, "red", "blue")
        asked: list[str] = []
        page.on("request", lambda request: "draw=20" in request.url and asked.append(request.url))
        page.get_by_role("button", name="Check with 20").dblclick()
        expect(page.get_by_role("dialog")).to_contain_text("1 of 20")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert len(asked) == 1
        page.get_by_role("button", name="Check with 20").click()
        expect(page.get_by_role("dialog")).to_contain_text("1 of 20")
