"""A pile of photos, sorted by keys in a browser: from no model to a sorted pile (benchmarks/pages/pile.md).

    clipcite serve --data /tmp/keys --port 8765 --no-token
    python -m benchmarks.sorted_by_keys --data clothing cifar10 trashnet --out keys.json

A script drops a pile onto *Train*, and presses *Group them*. It names the most frequent class of the nine
thumbnails of each group: by its digit, or for a new class by `/`, the name and Enter. With `--untick` it
first removes the thumbnails of other classes. After 10, 20 and 30 groups it reads the classes of all photos
from the page. Then it presses *Make a model*, and reads them again, also as if nothing were *something else*.
A data set is a folder with `test/<class>/`. No class is known before.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright
from rich.console import Console

from benchmarks.accuracy.tables import Table, figure
from benchmarks.data.listing import class_folders
from benchmarks.sorted_piles import draw
from tests.api.web.browser import launch_browser
from tests.api.web.window import drop, window

PHOTOS = 240
MEASURED = (10, 20, 30)
"""Numbers of answered groups after which the sort is measured."""
DIGITS = "1234567890"
CLASSES = """async () => {
  const { sorting } = await import("/page/lib/sorting/sorting.js");
  const { classOf } = await import("/page/lib/sorting/groups.js");
  return sorting.images.map((image) => {
    const inClass = classOf({ ...image, rejected: false });
    return [image.name, String(classOf(image)), String(inClass)];
  });
}"""


@dataclass
class Hand:
    """A person's input, counted."""

    page: Page
    keys: int = 0
    clicks: int = 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.keys += len(keys)

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()
        self.clicks += 1


class Requests:
    """The page's requests that have no answer yet."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.open = 0
        page.on("request", lambda _: self._count(1))
        page.on("requestfinished", lambda _: self._count(-1))
        page.on("requestfailed", lambda _: self._count(-1))

    def _count(self, more: int) -> None:
        self.open += more

    def settle(self) -> None:
        """Wait until no request has been open for a second."""
        quiet = 0
        while quiet < 10:
            self.page.wait_for_timeout(100)
            quiet = 0 if self.open else quiet + 1


def accuracy(page: Page, truth: dict[str, str]) -> tuple[float, float]:
    """Return the fraction of photos in the group of their class, also as if nothing were *something else*."""
    found: list[tuple[str, str, str]] = page.evaluate(CLASSES)
    sorted_right = sum(truth[name] == place for name, place, _ in found)
    return sorted_right / len(truth), sum(truth[name] == best for name, _, best in found) / len(truth)


def answer(hand: Hand, truth: dict[str, str], known: list[str], untick: bool) -> None:
    """Name the most frequent class of the thumbnails, and wait for the next group."""
    asked = hand.page.get_by_role("dialog", name="What are these?")
    group = asked.locator(".headline p").inner_text()
    shown = asked.locator(".pick").evaluate_all("(picks) => picks.map((pick) => pick.title)")
    name = Counter(truth[title] for title in shown).most_common(1)[0][0]
    if untick:
        for title in shown:
            if truth[title] != name:
                asked.get_by_title(title).click()
                hand.clicks += 1
    if name in known[: len(DIGITS)]:
        hand.press(DIGITS[known.index(name)])
    else:
        hand.press("/")
        hand.page.keyboard.type(name)
        hand.keys += len(name)
        hand.press("Enter")
        if name not in known:
            known.append(name)
    expect(asked.filter(has_text=group)).to_have_count(0)


def measure(browser: Browser, url: str, folder: Path, seed: int, untick: bool) -> dict[str, Any]:
    """Sort one pile. Return the accuracies and the counts."""
    generator = random.Random(f"{folder.name} {seed}")
    drawn = draw(generator, class_folders(folder / "test"), folder, PHOTOS)
    with tempfile.TemporaryDirectory() as root, window(browser, url) as page:
        photos = [Path(root) / f"{i:05}{path.suffix}" for i, (_, path) in enumerate(drawn)]
        for photo, (_, path) in zip(photos, drawn, strict=True):
            shutil.copy(path, photo)
        truth = {photo.name: name for photo, (name, _) in zip(photos, drawn, strict=True)}
        hand, requests, started = Hand(page), Requests(page), time.monotonic()
        known, answered = list[str](), 0
        row: dict[str, Any] = {"set": folder.name, "seed": seed, "untick": untick, "photos": len(truth)}
        page.goto("/")
        drop(page, page.locator(".zone"), *photos)
        hand.clicks += 1
        asked = page.get_by_role("dialog", name="What are these?")
        for number in MEASURED:
            hand.click("Group them")
            expect(asked).to_be_visible()
            while answered < number and asked.is_visible():
                answer(hand, truth, known, untick)
                answered += 1
            if asked.is_visible():
                hand.press("Escape")
            requests.settle()
            row[f"after {number}"] = accuracy(page, truth)[0]
        row |= {"groups": answered, "classes": len(known)}
        hand.click("Make a model")
        expect(page.get_by_label("Model", exact=True)).not_to_have_value("stock", timeout=1_800_000)
        expect(page.locator(".brought")).to_be_visible(timeout=600_000)
        requests.settle()
        model, nothing_apart = accuracy(page, truth)
        row |= {"model": model, "nothing apart": nothing_apart, "keys": hand.keys, "clicks": hand.clicks}
        row["minutes"] = (time.monotonic() - started) / 60
        return row


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--untick", action="store_true", help="remove the wrong thumbnails of each group")
    parser.add_argument("--url", default="http://127.0.0.1:8765")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
    with sync_playwright() as playwright:
        browser = launch_browser(playwright)
        expect.set_options(timeout=600_000)
        for seed in options.seeds:
            for folder in options.data:
                key = (folder.name, seed, options.untick)
                if not any((row["set"], row["seed"], row["untick"]) == key for row in rows):
                    rows.append(measure(browser, options.url, folder, seed, options.untick))
                    options.out.write_text(json.dumps(rows, indent=1))
        browser.close()
    table = Table(
        "Sorted by keys",
        [
            "set",
            "seed",
            "unticked",
            "photos",
            "classes found",
            *(f"after {n} groups" for n in MEASURED),
            "model",
            "model, nothing apart",
            "groups",
            "keys",
            "clicks",
            "minutes",
        ],
    )
    for row in rows:
        shares = [figure(row[f"after {n}"]) for n in MEASURED]
        first = [row["set"], str(row["seed"]), "yes" if row["untick"] else "no"]
        counts = [str(row[name]) for name in ("photos", "classes", "groups", "keys", "clicks")]
        minutes = f"{row['minutes']:.1f}"
        shares += [figure(row["model"]), figure(row["nothing apart"])]
        table.rows.append([*first, *counts[:2], *shares, *counts[2:], minutes])
    Console(width=200).print(table.markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
