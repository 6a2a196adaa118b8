"""The page's zip upload and its alias buttons."""

import re
import zipfile
from pathlib import Path
from typing import get_args

from playwright.sync_api import Browser, expect

from clipcite import Client
from clipcite.types.models import ExportFormat
from core.clip.models.backbone import Backbone
from tests.api.web.finished import Running, finish_job
from tests.api.web.window import accessibility_problems, drop, shot, window, write_class_folders


def test_a_zip_is_opened_before_it_is_sent(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    archive = tmp_path / "shots.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for colour in ("red", "green"):
            for number in range(2):
                packed.writestr(f"shots/train/{colour}/{number}.png", shot(colour, number))
        packed.writestr("shots/testing/red/9.png", shot("red", 9))
        packed.writestr("__MACOSX/shots/train/red/._0.png", b"not an image")
        packed.writestr("shots/train/red/damaged.jpg", b"no image")
    with window(browser, quick_url) as page:
        page.goto("/")
        drop(page, page.locator(".zone"), archive)
        expect(page.locator(".class")).to_have_count(2)
        expect(page.locator(".thumbs img:visible")).to_have_count(5)
        page.get_by_role("button", name="Remove damaged.jpg").click()
        page.get_by_label("Model name").fill("from a zip")
        page.get_by_text("Use in code").click()
        page.get_by_role("tab", name="Python").click()
        expect(page.get_by_label("Python", exact=True)).to_contain_text(
            'client.adapt("images", name="from a zip"'
        )
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        job = page.url.rpartition("/")[2]
    with Client(quick_url) as client:
        classes = {one.name: (one.images, one.test_images) for one in client.jobs.get(job).classes}
        client.jobs.cancel(job)
    assert classes == {"red": (2, 1), "green": (2, 0)}


def test_names_of_an_old_zip_are_not_guessed(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    """The zip has no UTF-8 flag, and its names are in code page 437."""
    archive = tmp_path / "old.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("K/0.png", shot("red", 0))
        packed.writestr("B/0.png", shot("green", 0))
    archive.write_bytes(archive.read_bytes().replace(b"K/0.png", b"\x84/0.png"))
    with window(browser, quick_url) as page:
        page.goto("/")
        drop(page, page.locator(".zone"), archive)
        expect(page.get_by_text("The names in old.zip are not UTF-8.")).to_be_visible()
        expect(page.locator(".class")).to_have_count(0)


def test_a_model_is_named_and_its_alias_moved_and_moved_back(
    browser: Browser, quick_url: str, tmp_path: Path
) -> None:
    with Client(quick_url) as client, window(browser, quick_url) as page:
        delta = client.models.export("colours", tmp_path / "delta.zip", format="delta")
        versions = [client.models.import_model(delta, name=name) for name in ("shades", "other")]
        client.models.rename(versions[1].id, None)
        page.goto("/#/models")
        first, second = (page.locator(".model").filter(has_text=f"shades, version {n}") for n in (1, 2))
        page.get_by_label("More actions").first.click()
        page.get_by_label("Name of red, green and yellow").fill("shades")
        page.get_by_role("button", name="Save name").click()
        for row, tag in ((first, "prod"), (second, "prod")):
            expect(second).to_be_visible()
            page.get_by_text("1 other version of shades").click()
            row.get_by_label("More actions").click()
            row.get_by_label("Alias of shades").fill(tag)
            row.get_by_role("button", name="Point here").click()
            expect(row.locator(".tag", has_text="@prod")).to_have_count(1)
        expect(first.locator(".tag", has_text="@prod")).to_have_count(0)
        assert client.aliases.get("shades", "prod").model == versions[1].id
        second.get_by_label("More actions").click()
        second.get_by_role("button", name="Roll back @prod").click()
        page.get_by_role("button", name="Roll back", exact=True).click()
        expect(first.locator(".tag", has_text="@prod")).to_have_count(1)
        expect(first.get_by_role("link", name="Result")).to_have_count(0)  # it was imported
        for version in versions:
            client.models.delete(version.id, force=True)


def test_a_model_that_is_gone_leaves_the_others_to_try(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url, expected=["404"]) as page:
        page.goto("/#/try/mdl_none")
        expect(page.get_by_role("alert")).to_contain_text("There is no model 'mdl_none'")
        expect(page.get_by_label("Model", exact=True)).to_have_value("stock")
        page.get_by_label("Model", exact=True).select_option("colours, version 1")
        expect(page.get_by_role("button", name="red, trained")).to_be_visible()


def test_back_returns_to_the_chosen_model(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        model = page.get_by_label("Model", exact=True)
        for view in ("try", "sort"):
            page.goto(f"/#/{view}/stock")
            model.select_option("colours, version 1")
            page.get_by_role("link", name="Jobs", exact=True).click()
            expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
            page.go_back()
            expect(model).to_have_value(re.compile("^mdl_"))


def test_an_evaluation_with_dropped_images_stays(
    browser: Browser, running: Running, backbone: Backbone, tmp_path: Path
) -> None:
    made, url = running
    model = finish_job(made, backbone, images=6).model  # so that eight images replace its verdict
    folder = write_class_folders(tmp_path / "photos", {"red": 3, "green": 3, "blue": 2})
    with Client(url) as client, window(browser, url) as page:
        page.goto("/#/models")
        before = page.locator(".model .tag").inner_text()
        page.get_by_text("Evaluate with images").click()
        zone = page.locator(".model .zone")
        drop(page, zone, folder / "red" / "0.png")
        expect(page.get_by_role("alert")).to_contain_text("named after the classes")
        drop(page, zone, folder)
        shown = page.locator(".evaluated")
        expect(shown).to_contain_text("of 8 right")
        kept = client.models.get(model).evaluation()
        assert kept.mistakes
        expect(shown).to_contain_text(" ".join(kept.sentences))
        expect(shown).to_contain_text("not trained on 'blue'")
        expect(page.get_by_label("Mistakes").get_by_role("img")).to_have_count(len(kept.mistakes))
        now = page.locator(".model .tag")
        expect(now).to_have_text(f"{kept.sentences[0][:-1]} {kept.stock_accuracy:.0%} → {kept.accuracy:.0%}")
        assert now.inner_text() != before
        assert accessibility_problems(page) == []
        # Jobs have it, too.
        words = now.inner_text()
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.locator(".list .tag")).to_have_text(words)
        page.get_by_role("link", name="View").click()
        result = page.locator(".result")
        expect(result).to_contain_text(" ".join(kept.sentences[1:]))
        expect(result.locator(".three dd").nth(1)).to_have_text(f"{kept.accuracy:.0%}")
        # It is still there after a reload, without the images.
        page.go_back()
        page.go_back()
        page.reload()
        page.get_by_text("Evaluate with images").click()
        expect(shown).to_contain_text(f"{kept.correct} of 8 right")
        rows = page.get_by_role("table", name="Right per class").get_by_role("row")
        expect(rows).to_have_count(4)
        expect(rows.filter(has_text="blue")).to_have_text(re.compile(r"^blue20%\d+%$"))
        page.get_by_text("What is taken for what").click()
        matrix = page.get_by_role("table", name="What is taken for what").locator("tbody tr")
        assert kept.confusion_matrix is not None
        counts = [row.locator("td").all_inner_texts() for row in matrix.all()]
        assert counts == [[str(images) for images in row] for row in kept.confusion_matrix]
        # Another drop replaces one without an answer.
        page.route("**/evaluate", lambda route: None, times=1)
        with page.expect_request("**/evaluate"):
            drop(page, zone, folder)
        with page.expect_event("requestfailed", lambda request: "/evaluate" in request.url):
            drop(page, zone, folder / "red", folder / "green")
        expect(shown).to_contain_text("of 6 right")


def test_the_mistakes_of_an_evaluation_train_the_next_version(
    browser: Browser, running: Running, backbone: Backbone, tmp_path: Path
) -> None:
    made, url = running
    job = finish_job(made, backbone, images=6).job
    folder = write_class_folders(tmp_path / "photos", {"red": 4, "blue": 2})
    with window(browser, url) as page:
        page.goto(f"/#/jobs/{job}")
        expect(page.locator(".result > p").first).to_contain_text(
            "If it may also answer with"
        )  # of the report
        page.get_by_text("Evaluate with images").click()
        drop(page, page.locator(".result .zone").first, folder)
        expect(page.get_by_label("Mistakes").get_by_role("img")).to_have_count(2)  # "blue" was not trained
        expect(page.locator(".result > p").first).to_contain_text("67% correct")  # at once, as after a reload
        expect(page.locator(".three dd").nth(1)).to_have_text("67%")
        page.get_by_role("button", name="Train again with 2 photos").click()
        asked = page.get_by_role("dialog")
        expect(asked).to_contain_text("can’t test it any more")
        asked.get_by_role("button", name="Go back").click()
        page.get_by_role("button", name="Train again with 2 photos").click()
        asked.get_by_role("button", name="Train again").click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        started = page.url.rpartition("/")[2]
    images = made.client.get(f"/jobs/{started}/images").json()["data"]
    added = [(image["split"], image["class_name"]) for image in images if image["class_name"] == "blue"]
    assert added == [("train", "blue")] * 2


def test_a_model_sorts_and_is_downloaded_in_a_chosen_format(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/#/models")
        page.get_by_label("More actions").first.click()
        page.get_by_role("button", name="Download").first.click()
        formats = page.get_by_role("dialog")
        expect(formats.get_by_role("radio")).to_have_count(len(get_args(ExportFormat)))
        values = formats.get_by_role("radio").evaluate_all("all => all.map((one) => one.value)")
        assert set(values) == set(get_args(ExportFormat))
        expect(formats.get_by_label("open_clip", exact=False).first).to_be_checked()
        assert accessibility_problems(page) == []
        formats.get_by_label("For another clipcite service").check()
        with page.expect_download() as saved:
            formats.get_by_role("button", name="Download").click()
        assert saved.value.suggested_filename.endswith("-delta.zip")
        with zipfile.ZipFile(saved.value.path()) as archive:
            assert "weights.safetensors" in archive.namelist()
        page.get_by_role("link", name="Sort with it").first.click()
        expect(page.get_by_role("heading", name="Sort", exact=False).first).to_be_visible()
        expect(page.get_by_label("Model", exact=True)).to_have_value(re.compile("^mdl_"))
