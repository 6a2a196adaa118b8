"""The page, the API and the SDK place the images of a layout alike."""

import io
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from api.archives.members import ArchiveError
from api.archives.read import read_archive
from clipcite.datasets.detect import read
from clipcite.errors import InvalidImages
from clipcite.types.class_names import same_class
from core.clip.prompts import clean_class_name
from tests.api import crafted
from tests.api.web.window import accessibility_problems, drop, shot, too_wide, window
from tests.layouts import layouts, random_layouts

Places = dict[str, str]
"""`split:class` of each file that counts."""
REFUSED = {"": "refused"}
NUMBER = 500
ADD = """async (layouts) => {
  const { Shots } = await import("/page/lib/training/training_form.js");
  const place = async (files) => {
    const shots = new Shots();
    const item = (path) => ({ path, file: new File([path.join("/")], path.at(-1)) });
    try {
      await shots.add(files.map((file) => item(file.split("/"))));
    } catch {
      return null;
    }
    const places = ({ name, images }) => images.map(({ path, split }) => [path.join("/"), split, name]);
    return shots.classes.filter(({ name }) => name).flatMap(places);
  };
  const found = [];
  for (const files of layouts) found.push(await place(files));
  return found;
}"""


def plain(places: Iterable[tuple[str, str, str]]) -> Places:
    """Return the places of file, split and class as the service counts them."""
    return {
        unicodedata.normalize("NFC", file): f"{split}:{same_class(clean_class_name(name))}"
        for file, split, name in places
    }


def in_the_api(files: list[str], folder: Path) -> Places:
    folder.mkdir()
    try:
        entries, _ = read_archive(io.BytesIO(crafted.zip_of(dict.fromkeys(files, b"content"))), folder)
    except ArchiveError as error:
        return {"no_images": {}, "unclear_layout": REFUSED}[error.code]
    return plain((entry.file_name, entry.split, entry.class_name) for entry in entries)


def in_the_sdk(files: list[str], folder: Path) -> Places:
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")
    try:
        found = read(folder).images
    except InvalidImages as error:
        return REFUSED if str(error).startswith("There are images in") else {}
    return plain(
        (one.image.path.relative_to(folder).as_posix(), one.split, one.class_name)
        for one in found
        if one.image.path
    )


def test_the_page_the_api_and_the_sdk_agree(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    table = layouts()
    everything = [*(layout.files for layout in table), *random_layouts(NUMBER, seed=1)]
    with window(browser, quick_url, expected=["422"]) as page:
        page.goto("/")
        found = page.evaluate(ADD, everything)
    pages = [REFUSED if places is None else plain(places) for places in found]
    apis = [in_the_api(files, tmp_path / f"api-{i}") for i, files in enumerate(everything)]
    sdks = [in_the_sdk(files, tmp_path / f"sdk-{i}") for i, files in enumerate(everything)]

    random = apis[len(table) :]
    kinds = [REFUSED, {}]
    assert min(random.count(kind) for kind in kinds) > NUMBER / 50  # the layouts are of all kinds
    assert sum(any(place.startswith("test:") for place in places.values()) for places in random) > NUMBER / 5
    different = [
        one for one in zip(everything, pages, apis, sdks, strict=True) if not one[1] == one[2] == one[3]
    ]
    assert not different, (len(different), different[:3])
    for layout, places in zip(table, pages, strict=False):
        assert places == (REFUSED if layout.expected is None else layout.expected), layout.name


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write images by path, each of a colour; an empty colour is a text file."""
    for number, (name, colour) in enumerate(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(shot(colour, number) if colour else b"a text")
    return folder


def rows(page: Page) -> list[list[str]]:
    return [row.locator("th, td").all_inner_texts() for row in page.locator(".folders tbody tr").all()]


def test_split_and_class_of_each_folder_are_shown_and_what_is_left_out(
    browser: Browser, quick_url: str, tmp_path: Path
) -> None:
    folder = write(
        tmp_path / "data",
        {
            **{f"train/{name}/{i}.png": "red" for name in ("fox", "<b>owl") for i in range(2)},
            **{"test/fox/t.png": "red", "dev/fox/v.png": "green", "dev/fox/w.png": "green"},
            **{"cover.png": "blue", "train/fox/.DS_Store": "", "notes.txt": ""},
        },
    )
    asked: list[list[str]] = []
    with window(browser, quick_url, viewport={"width": 390, "height": 800}) as page:
        page.on(
            "request",
            lambda request: (
                "layout" in request.url and asked.append(json.loads(request.post_data or "")["paths"])
            ),
        )
        page.goto("/", wait_until="networkidle")  # what arrives later moves the target of a drop
        drop(page, page.locator(".zone"), folder)
        expect(page.locator(".folders tbody tr")).to_have_count(3)
        assert sorted(rows(page)) == [
            ["data/test/fox", "fox", "1 test"],
            ["data/train/<b>owl", "<b>owl", "2 training"],
            ["data/train/fox", "fox", "2 training"],
        ]
        expect(page.locator(".folders summary")).to_have_text("3 folders, 5 files left out")
        left_out = page.locator(".folders li").all_inner_texts()
        assert sorted(text.partition(". ")[0] for text in left_out) == [
            "Left out: 1 file in data",
            "Left out: 1 file in data",
            "Left out: 1 file in data/train/fox",
            "Left out: 2 files in data/dev/fox",
        ]
        assert any("There are test images" in text for text in left_out)
        assert [len(paths) for paths in asked] == [10]
        assert too_wide(page) <= 0
        assert accessibility_problems(page) == []
        page.locator(".folders summary").focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('.folders .scroll')")
        page.locator(".folders summary").press("Enter")
        expect(page.locator(".folders table")).to_be_hidden()


def test_a_name_that_a_person_gave_stays(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    first = write(tmp_path / "1", {"train/cat/a.png": "red", "train/dog/b.png": "green"})
    later = write(tmp_path / "2", {"test/cat/c.png": "red", "test/owl/d.png": "blue"})
    card = write(tmp_path / "3", {"anything/x/e.png": "yellow", "anything/y/f.png": "yellow"})
    with window(browser, quick_url) as page:
        page.goto("/", wait_until="networkidle")  # what arrives later moves the target of a drop
        drop(page, page.locator(".zone"), first / "train")
        expect(page.locator(".class")).to_have_count(2)
        page.get_by_label("Class name").first.fill("lynx")
        expect(page.locator(".folders tbody tr").first).to_contain_text("lynx")
        drop(page, page.locator(".zone"), later / "test")
        expect(page.locator(".class")).to_have_count(3)
        drop(page, page.locator(".class").first, card / "anything")
        expect(page.locator(".folders tbody tr")).to_have_count(6)
        assert rows(page) == [
            ["train/cat", "lynx", "1 training"],
            ["test/cat", "lynx", "1 test"],
            ["anything/x", "lynx", "1 training"],
            ["anything/y", "lynx", "1 training"],
            ["train/dog", "dog", "1 training"],
            ["test/owl", "owl", "1 test"],
        ]


def test_images_in_no_folder_go_where_they_are_dropped(
    browser: Browser, quick_url: str, tmp_path: Path
) -> None:
    loose = write(
        tmp_path, {"a.png": "red", "b.png": "green", "folder/cat/c.png": "blue", "folder/d.png": "red"}
    )
    with window(browser, quick_url) as page:
        page.goto("/", wait_until="networkidle")  # what arrives later moves the target of a drop
        page.route("**/adapt/layout", lambda route: route.abort())  # is not needed for images in no folder
        drop(page, page.locator(".zone"), loose / "a.png")
        expect(page.get_by_label("Class name")).to_have_value("")
        expect(page.locator(".folders")).to_be_hidden()
        page.get_by_label("Class name").fill("cat")
        drop(page, page.locator(".class"), loose / "b.png")
        expect(page.get_by_text("2 training images")).to_be_visible()
        page.unroute_all()
        drop(page, page.locator(".class"), loose / "folder")  # the person says the class, also of d.png
        expect(page.get_by_text("4 training images")).to_be_visible()
        expect(page.locator(".folders summary")).to_have_text("2 folders")


def test_an_unclear_layout_is_refused_with_its_reason(
    browser: Browser, quick_url: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "data", {"train/cat/a.png": "red", "blue/b.png": "blue"})
    with window(browser, quick_url, expected=["422"]) as page:
        page.goto("/", wait_until="networkidle")  # what arrives later moves the target of a drop
        drop(page, page.locator(".zone"), folder)
        expect(page.get_by_role("alert")).to_contain_text(
            "images in 'blue' beside 'train'. Put every class folder"
        )
        expect(page.locator(".class")).to_have_count(0)
        drop(page, page.locator(".zone"), folder / "train")
        expect(page.locator(".class")).to_have_count(1)
        expect(page.get_by_role("alert")).to_be_hidden()
