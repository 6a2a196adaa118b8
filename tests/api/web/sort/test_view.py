"""The Sort view: groups, corrections by keys and by hand, files, and a training with the corrections."""

import csv
import io
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Response, expect

from clipcite import Client
from clipcite.types.models import Model
from tests.api.web.window import accessibility_problems, drop, too_wide, window, write_class_folders
from tests.service.running import Service

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def sort(page: Page, model: Model, folder: Path) -> None:
    """Drop a folder onto the view, and wait for the answer for all images together."""
    page.goto(f"/#/sort/{model.id}")
    expect(page.locator(".chip")).to_have_count(len(model.trained_classes))
    with page.expect_response("**/classify/collection"):
        drop(page, page.locator(".zone"), folder)
    expect(page.get_by_role("button", name=re.compile("Ask me about"))).to_be_visible()


def group(page: Page, name: str) -> Locator:
    return page.get_by_role("listbox", name=re.compile(rf"^({name}) \d+$")).get_by_role("option")


def sizes(page: Page) -> Counter[str]:
    """Return the number of images per group."""
    names = (text.rsplit(" ", 1) for text in page.locator(".group h2").all_inner_texts())
    return Counter({re.sub(r"^(\d|X(?=S))\s*", "", name): int(number) for name, number in names})


def asked_of(response: Response) -> dict[str, Any]:
    """Return the request for a collection; empty for other requests."""
    if not response.url.endswith("/classify/collection"):
        return {}
    body: dict[str, Any] = response.request.post_data_json
    return body


def suggestions(page: Page) -> tuple[list[str], list[str]]:
    """Ask which images to label next. Return the labelled images and the suggested ones of the request."""
    with page.expect_response(lambda response: "suggest" in asked_of(response)) as answered:
        page.get_by_role("button", name="Ask me about 10").click()
    paths = page.evaluate(
        """async () => {
          const { sorting } = await import("/page/lib/sorting/sorting.js");
          return sorting.images.filter(({ features }) => features).map(({ path }) => path.join("/"));
        }"""
    )
    labels = [int(position) for position in asked_of(answered.value)["labels"]]
    positions = labels, answered.value.json()["suggested"]
    labelled, suggested = ([paths[i] for i in each] for each in positions)
    return labelled, suggested


def check(page: Page) -> tuple[int, int]:
    """Label 19 of 20 images by their folders, and skip one. Return how many of them are sorted right."""
    page.get_by_role("button", name="Check with 20").click()
    asked = page.get_by_role("dialog")
    for place in range(1, 21):
        expect(asked).to_contain_text(f"{place} of 20")
        folder = re.search(r"test/(\w+)/", asked.inner_text())[1]
        key = {"green": "1", "red": "2"}.get(folder, "x")
        page.keyboard.press("ArrowRight" if place == 4 else key)
    expect(asked).to_have_count(0)
    said = page.locator(".sum").get_by_text("drawn at random").inner_text()
    right, known = re.search(r"Of (\d+) photos drawn at random from \d+, (\d+) (?:is|are)", said).groups()[
        ::-1
    ]
    return int(right), int(known)


def test_images_are_sorted_and_corrected_by_keys(
    browser: Browser, service: Service, trained: Model, folder: Path
) -> None:
    (folder / "broken.jpg").write_bytes(b"no image")
    with window(browser, service.url) as page:
        sort(page, trained, folder)
        expect(page.locator(".sum .tally")).to_have_text(re.compile("^31 images"))
        before = sizes(page)
        assert before.total() == 31
        expect(page.get_by_role("button", name=re.compile("Ask me about"))).to_be_in_viewport()
        assert before["Can't be read"] == 1
        others = before["Something else"]
        assert others < 20
        counted = f"31 images, {before['Unsure']} unsure" + (f", {others} something else" if others else "")
        expect(page.locator(".sum .tally")).to_have_text(counted)
        page.get_by_label("Unsure below").fill("0")
        expect(group(page, "Unsure")).to_have_count(0)
        page.get_by_label("Unsure below").fill("1")
        expect(group(page, "Unsure")).to_have_count(30 - others)
        shares = [int(re.search(r"(\d+)%", text)[1]) for text in group(page, "Unsure").all_inner_texts()]
        assert shares == sorted(shares)
        left = re.search(r"(\d+) of 30", page.get_by_text("still wrong").inner_text())
        lost = min(others, len(shares) / 19)  # the limit loses 5%
        assert abs(int(left[1]) - sum(100 - share for share in shares) / 100 - lost) < 1
        assert accessibility_problems(page) == []

        group(page, "Unsure").first.focus()
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        expect(page.get_by_text("3 images selected")).to_be_visible()
        second = trained.trained_classes[1]
        page.get_by_role("group", name="Selected images").get_by_role("button", name=second).press("Enter")
        expect(group(page, second)).to_have_count(3)
        expect(group(page, second).first).to_have_accessible_name(re.compile(f"{second}, your correction$"))
        expect(group(page, "Unsure").first).to_be_focused()
        page.keyboard.press("Control+z")
        expect(group(page, "Unsure")).to_have_count(30 - others)
        expect(page.get_by_text("3 images selected")).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type("blue")
        page.keyboard.press("Enter")  # a new class, for which all images are asked again
        expect(group(page, "blue")).to_have_count(3)
        expect(page.locator(".chip.new")).to_have_text(re.compile("blue"))
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        expect(page.get_by_text("4 photos labelled.")).to_be_visible()
        page.keyboard.press("l")
        expect(page.get_by_role("dialog")).to_contain_text("1 of 1")
        assert accessibility_problems(page) == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert too_wide(page) <= 0


def test_the_sorted_images_are_saved(
    browser: Browser, service: Service, trained: Model, folder: Path
) -> None:
    with window(browser, service.url) as page:
        sort(page, trained, folder)
        page.get_by_label("Unsure below").fill("0")
        page.get_by_label("Class names").fill("b, c, d, e, f, g, +a:b blue")
        with page.expect_response("**/classify/collection"):
            page.get_by_label("Class names").press("Enter")
        page.locator(".tile").first.focus()
        with page.expect_response("**/classify/collection"):  # the label counts at once
            page.keyboard.press("0")  # the tenth class
        page.wait_for_load_state("networkidle")
        expect(group(page, r"\+a:b blue").last).to_have_accessible_name(re.compile("your correction$"))
        expect(page.get_by_text("Only one image of +a:b blue is labelled.")).to_be_visible()
        expected = sizes(page)
        expected["something else"] = expected.pop("Something else", 0)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download sorted zip").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            written = [archive.read(name) for name in names]
        assert Counter(name.split("/")[0].replace("+a_b blue", "+a:b blue") for name in names) == +expected
        assert len({name.lower() for name in names}) == 30
        assert sorted(written) == sorted(path.read_bytes() for path in folder.rglob("*.png"))
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as CSV").click()
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))
        assert {row["target"].removeprefix("'") for row in rows} == set(names)
        assert {row["file"] for row in rows} == {
            f"photos/{path.relative_to(folder)}" for path in folder.rglob("*.png")
        }
        size = Image.open(next(folder.rglob("*.png"))).size
        assert {(int(row["width"]), int(row["height"]), row["time"]) for row in rows} == {(*size, "")}
        assert {row["folder"] for row in rows} == {row["file"].rpartition("/")[0] for row in rows}
        in_table = {"'+a:b blue" if name.startswith("+") else name: n for name, n in (+expected).items()}
        assert Counter(row["class"] for row in rows) == in_table  # "+" would begin a formula


def test_training_again_with_corrections(
    browser: Browser, service: Service, trained: Model, folder: Path
) -> None:
    with Client(service.url) as client, window(browser, service.url, expected=["507"]) as page:
        sort(page, trained, folder)
        page.route(
            "**/classify/collection", lambda route: route.fulfill(status=507, json={"detail": "Full."})
        )
        page.get_by_role("button", name="Ask me about 10").click()
        expect(page.get_by_role("alert")).to_have_text("Full.")
        page.unroute("**/classify/collection")
        labelled, suggested = suggestions(page)
        asked = page.get_by_role("dialog")
        expect(asked).to_contain_text("1 of 10")
        expect(asked).to_contain_text(suggested[0])
        assert labelled == []
        for key in ("3", "Enter", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
        expect(asked).to_contain_text("3 of 10")
        page.keyboard.press("Escape")
        expect(page.get_by_role("alert")).to_have_count(0)
        labelled, others = suggestions(page)
        assert sorted(labelled) == sorted(suggested[:2])
        assert not {*others} & {*labelled}
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Save corrections").click()
        expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
        kept = {entry.sha256: entry.class_name for entry in client.models.get(trained.id).feedback()}
        assert len(kept) == 2
        page.reload()
        sort(page, trained, folder)
        expect(page.locator(".tile.yours")).to_have_count(2)  # the kept corrections
        right, checked = check(page)
        with page.expect_response("**/classify/collection"):  # of the next version
            page.get_by_role("button", name="Train again with these corrections").click()
        brought = page.locator(".brought")
        compared = (
            rf"Of the {checked} photos that you checked, {right} were sorted right before, and \d+ are now\."
        )
        expect(brought).to_have_text(
            re.compile(rf"\d+ images? moved, \d+ unsure \(\d+ before\)\. {compared}")
        )
        model = client.models.get("colours of tests")
        assert model.version == 2
        expect(page.get_by_label("Model", exact=True)).to_have_value(model.id)
        job = client.jobs.get(model.job_id)
        assert sum(entry.images for entry in job.classes) == 17  # without those that were checked
        expect(brought).to_have_text(
            re.compile(r"^Version 1: \d+% \(likely .+: \d+% \(likely \d+ to \d+\)\. \d+ images? moved")
        )
        expect(page.get_by_role("button", name="Train again with these corrections")).to_be_hidden()
        page.reload()
        sort(page, model, folder)
        expect(page.locator(".tile.yours")).to_have_count(2 + checked)  # also those of the version before
        expect(page.get_by_text("labelled.")).to_have_count(0)  # it has learned them
        for entry in client.models.get(trained.id).feedback():  # other tests begin without corrections
            client.models.get(trained.id).delete_feedback(entry.id)


def test_a_phone_selects_by_tapping(browser: Browser, service: Service, trained: Model, folder: Path) -> None:
    with window(browser, service.url, color_scheme="dark", **PHONE) as page:
        sort(page, trained, folder)
        tiles = page.locator(".tile")
        tiles.nth(0).tap()
        tiles.nth(1).tap()
        expect(page.get_by_text("2 images selected")).to_be_visible()
        assert accessibility_problems(page) == []
        assert too_wide(page) <= 0
        page.get_by_role("button", name="Move to …").tap()
        page.get_by_role("dialog").get_by_role("button", name="yellow").tap()
        expect(page.locator(".tile.yours")).to_have_count(2)
        page.get_by_role("button", name="Undo").tap()
        expect(page.locator(".tile.yours")).to_have_count(0)


def test_an_image_is_dragged_onto_a_group(
    browser: Browser, service: Service, trained: Model, folder: Path
) -> None:
    with window(browser, service.url) as page:
        page.set_viewport_size({"width": 1280, "height": 1800})  # both are in view
        sort(page, trained, folder)
        target = page.locator(".group").filter(has=page.get_by_role("heading", name=re.compile("yellow")))
        page.locator(".tile").first.drag_to(target.locator("h2"))
        expect(target.locator(".tile.yours")).to_have_count(1)


def test_labels_count_at_once(browser: Browser, service: Service, trained: Model, folder: Path) -> None:
    with window(browser, service.url) as page:
        sort(page, trained, folder)
        page.get_by_label("Unsure below").fill("1")
        group(page, "Unsure").first.focus()
        with page.expect_response(
            lambda response: None in asked_of(response).get("labels", {}).values()
        ) as answered:
            page.keyboard.press("x")
        assert asked_of(answered.value)["reject"] is True
        mine = group(page, "Something else").last
        expect(mine).to_have_accessible_name(re.compile("something else, your correction$"))
        name = mine.get_attribute("title")
        with page.expect_response(
            lambda response: "<b>teal</b>" in asked_of(response).get("labels", {}).values()
        ):
            page.keyboard.press("/")
            page.keyboard.type("<b>teal</b>")
            page.keyboard.press("Enter")
        expect(group(page, r"<b>teal<\/b>").last).to_have_accessible_name(re.compile("your correction$"))
        expect(page.locator(".chip.new")).to_have_text(re.compile(r"<b>teal<\/b>"))
        expect(group(page, "Something else").last).to_have_attribute("title", str(name))
        expect(page.locator(":focus")).to_have_role("option")
        page.keyboard.press("Control+z")
        expect(page.locator(".chip.new")).to_have_count(0)  # only that label had made the class
        expect(group(page, r"<b>teal<\/b>")).to_have_count(0)
        page.get_by_label("Unsure below").fill("0")
        some = page.locator(".group.class").filter(has=page.locator(".tile")).first
        expect(some).to_be_visible()
        shown = some.locator(".tile").count()
        some.get_by_role("button", name="The others shown are right").click()
        expect(some.locator(".tile.yours")).to_have_count(shown)
        expect(page.locator(":focus")).to_have_role("option")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download sorted zip").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            found = [path.split("/")[0] for path in archive.namelist()]
        assert found.count("something else") == sizes(page)["Something else"]


def test_a_check_says_how_good_the_sort_is_and_changes_nothing(
    browser: Browser, service: Service, trained: Model, folder: Path
) -> None:
    with window(browser, service.url) as page:
        sort(page, trained, folder)
        asked: list[dict[str, Any]] = []
        page.on("response", lambda response: asked.append(asked_of(response)))
        guessed = page.evaluate(
            """async () => {
              const { sorting } = await import("/page/lib/sorting/sorting.js");
              return Object.fromEntries(sorting.images.map(({ path, rejected, predictions }) =>
                [path.join("/"), rejected ? "blue" : predictions[0].class_name]));
            }"""
        )
        right, known = check(page)
        assert known == 19
        labelled = page.evaluate(
            """async () => {
              const { sorting } = await import("/page/lib/sorting/sorting.js");
              return sorting.labelled.map(({ path }) => path.join("/"));
            }"""
        )
        assert right == sum(f"/{guessed[path]}/" in path for path in labelled)
        said = page.locator(".sum").get_by_text("drawn at random")
        shown = rf"{100 * right / 19:.0f}% \(likely \d+ to \d+\)\. 1 photo that you didn't know"
        words = rf"Of 19 photos drawn at random from 30, .*: {shown}"
        expect(said).to_have_text(re.compile(words))
        expect(page.locator(".tile.yours")).to_have_count(19)
        expect(page.get_by_role("button", name="Train again with these corrections")).to_be_hidden()
        expect(page.get_by_text("still wrong")).to_be_hidden()
        page.get_by_role("button", name="Ask me about 10").click()
        expect(page.get_by_role("dialog")).to_contain_text("1 of 10")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        page.reload()
        sort(page, trained, folder)
        expect(said).to_have_text(re.compile(words))
        assert not any(request.get("labels") for request in asked)
        expect(page.get_by_role("button", name="Ask me about 9")).to_be_visible()  # two are skipped
        with page.expect_response(lambda response: len(asked_of(response).get("labels", {})) == 19):
            page.get_by_role("button", name="Train with the checked photos, too").click()
        expect(page.get_by_role("button", name="Check with 11")).to_be_visible()


def test_a_full_storage_of_the_browser_is_said(
    browser: Browser, service: Service, trained: Model, folder: Path
) -> None:
    with window(browser, service.url) as page:
        page.add_init_script(
            "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); }"
        )
        sort(page, trained, folder)
        lost = page.get_by_text("If you reload this page, skipped photos and the labels of a check are lost.")
        page.get_by_role("button", name="Check with 20").click()
        page.keyboard.press("1")
        expect(lost).to_have_count(0)
        page.keyboard.press("Escape")
        expect(lost).to_be_visible()
        expect(page.locator(".tile.yours")).to_have_count(1)


def test_earlier_labels_are_missed_only_if_their_job_was_deleted(
    browser: Browser, service: Service, trained: Model, folder: Path
) -> None:
    with window(browser, service.url, expected=["404", "500"]) as page:
        statuses = [500, 404]
        page.route(
            "**/jobs/*/images",
            lambda route: route.fulfill(status=statuses[0], json={"detail": "No list of images."}),
        )
        shown = page.get_by_role("alert").filter(has_text="No list of images.")
        sort(page, trained, folder)
        expect(shown).to_have_count(1)
        del statuses[0]
        page.reload()
        sort(page, trained, folder)
        expect(shown).to_have_count(0)


def test_a_pile_is_grouped_and_makes_a_model(browser: Browser, service: Service, tmp_path: Path) -> None:
    pile = write_class_folders(tmp_path / "pile", {"red": 14, "blue": 14, "yellow": 14})
    photos = [photo.rename(pile / f"{photo.parent.name}{photo.name}") for photo in pile.glob("*/*.png")]
    with window(browser, service.url, **PHONE) as page:
        page.goto("/")
        drop(page, page.locator(".zone"), *photos)
        expect(page.get_by_text("These photos are not in folders.")).to_be_visible()
        page.get_by_role("button", name="Group them").click()
        asked = page.get_by_role("dialog", name="What are these?")
        expect(asked).to_contain_text("Group 1 of 3")
        assert accessibility_problems(page) == []
        assert too_wide(page) <= 0
        asked.get_by_role("button", pressed=True).first.click()
        expect(asked.get_by_role("button", pressed=True)).to_have_count(8)
        asked.get_by_role("button", name="Skip").click()
        expect(asked).to_contain_text("Group 2 of 3")
        asked.get_by_role("button", name="Back").click()
        for place, name in enumerate(("warm", "cold"), start=1):
            expect(asked).to_contain_text(f"Group {place} of 3")
            page.keyboard.press("/")
            page.keyboard.type(name)
            page.keyboard.press("Enter")
        expect(asked).to_contain_text("2 classes, 10 photos labelled.")
        page.keyboard.press("x")
        expect(asked).to_have_count(0)
        expect(page.locator(".training")).to_contain_text("2 classes, 10 photos labelled.")
        expect(page.locator(".group.class")).to_have_count(2)
        expect(page.locator(".tile.yours")).to_have_count(15)
        page.get_by_role("button", name="Make a model").click()
        expect(page.get_by_label("Model", exact=True)).to_have_value(re.compile("^mdl_"))
        expect(page.locator(".brought")).to_have_text(
            re.compile(r"\d+ images? moved.*The model learned from all your labels")
        )
        expect(page.locator(".tile.yours")).to_have_count(15)
        with Client(service.url) as client:
            model = client.models.get(page.get_by_label("Model", exact=True).input_value())
            assert sum(entry.images for entry in client.jobs.get(model.job_id).classes) == 10
            client.models.delete(model.id)
