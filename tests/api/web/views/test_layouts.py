"""The page, the API and the SDK place the images of a layout alike."""

import io
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from playwright.sync_api import Browser

from api.archives.members import ArchiveError
from api.archives.read import read_archive
from clipcite.datasets.detect import read
from clipcite.errors import InvalidImages
from core.clip.prompts import clean_class_name, same_class
from tests.api import crafted
from tests.api.web.window import window
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
