"""Folders of the zip: as those of `clipcite sort`."""

from playwright.sync_api import Browser

from clipcite.sorting.plan import safe_names
from tests.api.web.window import window

FOLDERS = """async (names) => {
  const { sortedFiles } = await import("/page/lib/sorting/zip.js");
  const photos = names.map((name, position) => (
    { position, name: "a.jpg", answer: { said: "class", class_name: name }, place: null }));
  const originals = new Map(photos.map(({ position }) => [position, new File([], "a.jpg")]));
  return sortedFiles({ photos, names, threshold: 0, originals }).map(({ path }) => path.split("/")[0]);
}"""


def test_folders_of_a_zip_are_those_of_the_command(browser: Browser, quick_url: str) -> None:
    names = [
        "猫" * 100,
        "猫" * 101,
        "a" * 119 + "é",
        "🦊" * 30 + ". ",
        "a/b",
        "con",
        " .x",
        "unsure",
        "St. B/c",
        "St. B:c",
    ]
    with window(browser, quick_url) as page:
        page.goto("/")
        found = dict(zip(names, page.evaluate(FOLDERS, names), strict=True))
    assert found == safe_names(names)
