"""Time and size of photos, read in the browser: as `clipcite sort --csv` reads them."""

from base64 import b64encode
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from clipcite.sorting.output import photo_of
from clipcite.sorting.plan import safe_names
from tests.api.web.window import window

READ = """async (encoded) => {
  const { photoFacts } = await import("/page/lib/files/photo_facts.js");
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const { time, width, height } = await photoFacts(new Blob([bytes]));
  return [time, width, height];
}"""


def test_they_are_those_of_the_command(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (90, 40), "red")
    for orientation in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x0132] = "2026:11:02 10:00:00"
        image.save(tmp_path / f"changed {orientation}.jpg", exif=exif)
        exif.get_ifd(0x8769)[0x9003] = "2026:11:01 09:30:00"
        profile = bytes(100_000)  # two segments before the size
        image.save(tmp_path / f"taken {orientation}.jpg", exif=exif, icc_profile=profile, progressive=True)
    image.save(tmp_path / "plain.jpg")
    image.save(tmp_path / "plain.png")
    with window(browser, quick_url) as page:
        page.goto("/")
        found = {
            path: tuple(page.evaluate(READ, b64encode(path.read_bytes()).decode()))
            for path in sorted(tmp_path.iterdir())
        }
        assert found == {path: photo_of(path) for path in found}
        assert found[tmp_path / "taken 6.jpg"] == ("2026-11-01T09:30:00", 40, 90)
        whole = (tmp_path / "taken 6.jpg").read_bytes()
        for end in (0, 1, 3, 30, 90, 150, 1000):  # files that end early, and one that is no image
            cut = b64encode(whole[:end]).decode()
            assert page.evaluate(READ, cut) == ["", "", ""]
        assert page.evaluate(READ, b64encode(b"BM" + bytes(100)).decode()) == ["", "", ""]


FOLDERS = """async (names) => {
  const { sortedFiles } = await import("/page/lib/sorting/output.js");
  const images = names.map((name) => ({ name: "a.jpg", label: name, predictions: [], path: ["a.jpg"] }));
  const files = sortedFiles({ images, names: names.map((name) => ({ name })), threshold: 0 });
  return files.map(({ path }) => path.split("/")[0]);
}"""


def test_folders_of_a_zip_are_those_of_the_command(browser: Browser, quick_url: str) -> None:
    names = ["猫" * 100, "猫" * 101, "a" * 119 + "é", "🦊" * 30 + ". ", "a/b", "con", " .x", "unsure"]
    with window(browser, quick_url) as page:
        page.goto("/")
        found = dict(zip(names, page.evaluate(FOLDERS, names), strict=True))
    assert found == safe_names(names)


UNREADABLE = """async () => {
  const { photoFacts } = await import("/page/lib/files/photo_facts.js");
  const arrayBuffer = () => Promise.reject(new DOMException("It was moved.", "NotReadableError"));
  const { time, width, height } = await photoFacts({ slice: () => ({ arrayBuffer }) });
  return [time, width, height];
}"""


def test_a_file_that_is_gone_has_neither(browser: Browser, quick_url: str) -> None:
    """One such file must not cost the table of all others."""
    with window(browser, quick_url) as page:
        page.goto("/")
        assert page.evaluate(UNREADABLE) == ["", "", ""]
