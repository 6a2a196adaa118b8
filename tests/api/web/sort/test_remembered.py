"""What the browser remembers of a check, for the same files another day."""

from playwright.sync_api import Browser

from tests.api.web.window import window

RECALLED = """async () => {
  const { note, recallNoted } = await import("/page/lib/sorting/remembered.js");
  const image = (n) => ({ file: new File([`photo ${n}`], `${n}.jpg`), label: null, skipped: false, held: 0 });
  const checked = [1, 2, 3].map(image);
  for (const each of checked) Object.assign(each, { label: "cat", held: 3 });
  await note(checked, ["cat", "dog"]);
  const again = async (names, photos) => {
    const images = photos.map(image);
    await recallNoted(images, names, images.length);
    return images.map(({ held, label }) => [held, label]);
  };
  return {
    same: await again(["dog", "cow"], [1, 2, 3, 4]),
    none: await again([], [1, 2, 3]),
    others: await again(["tabby"], [1, 2, 3]),
    fewer: await again(["cat"], [1, 2]),
  };
}"""


def test_a_check_comes_back_for_its_classes_and_its_pile(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        found = page.evaluate(RECALLED)
    assert found == {
        "same": [[3, "cat"]] * 3 + [[0, None]],
        "none": [[3, "cat"]] * 3,
        "others": [[0, None]] * 3,
        "fewer": [[0, None]] * 2,
    }
