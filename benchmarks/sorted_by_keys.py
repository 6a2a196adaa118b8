"""A pile of photos, sorted by keys in a browser: from no model to a sorted pile (benchmarks/pages/pile.md).

    clipcite serve --data /tmp/keys --port 8765 --no-token
    python -m benchmarks.sorted_by_keys --data clothing cifar10 trashnet --out keys.json

Half of the photos are of half of the classes; the others are of the other classes, which nobody names:
they are something else. A script drops the pile onto *Sort*, and presses *Group them*. It gives each
group the most frequent class of its thumbnails by one key, or for a new class by `/`, the name and Enter;
with `--untick` it first removes the thumbnails of other classes. It takes new groups when the page offers
them. After 20 and 40 answers it reloads the page, sees that no label is lost, and reads the sort. Then it
presses *Make a model*, and reads the sort again. A data set is a folder with `test/<class>/`.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from rich.console import Console

from benchmarks.accuracy.tables import Table, figure
from benchmarks.data.listing import class_folders
from benchmarks.sorted_piles import draw
from tests.api.web.browser import launch_browser
from tests.api.web.window import drop, window

PHOTOS = 400
MEASURED = (20, 40)
"""Numbers of answers after which the sort is measured."""
DIGITS = "1234567890"
LEAST_LIKE = "Are any of these none of your classes?"
Truth = dict[str, str | None]
"""Class of each photo by file name; None for something else."""


@dataclass
class Hand:
    """A person's input, counted."""

    page: Page
    truth: Truth
    untick: bool
    known: list[str] = field(default_factory=list)
    """Names that the page has, in its order."""
    answers: int = 0
    letters: int = 0
    clicks: int = 0

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()
        self.clicks += 1

    def answer(self) -> None:
        """Answer for the group that is shown."""
        asked = self.page.get_by_role("dialog")
        title = asked.get_by_role("heading").inner_text()
        group = asked.locator(".headline p").inner_text()
        shown: list[str] = asked.locator(".pick").evaluate_all("(picks) => picks.map((pick) => pick.title)")
        found = [self.truth[name] for name in shown]
        asks = title == LEAST_LIKE
        name = None if asks else Counter(found).most_common(1)[0][0]
        if not asks or None in found:
            self._untick(
                asked, [one for one in shown if self.truth[one] != name] if self.untick or asks else []
            )
        keyboard = self.page.keyboard
        if asks and None not in found:
            keyboard.press("Enter")
        elif name is None:
            keyboard.press("x")
        elif name in self.known[: len(DIGITS)]:
            keyboard.press(DIGITS[self.known.index(name)])
        else:
            keyboard.press("/")
            keyboard.type(name)
            keyboard.press("Enter")
            self.letters += len(name) + 1
            if name not in self.known:
                self.known.append(name)
        self.answers += 1
        expect(asked.filter(has_text=group)).to_have_count(0)
        regroup = asked.get_by_role("button", name="Regroup with the new names")
        if regroup.is_visible():
            keyboard.press("r")
            expect(asked.filter(has_text="Group 1 of")).to_have_count(1)

    def _untick(self, asked: Locator, wrong: Sequence[str]) -> None:
        for name in wrong:
            asked.get_by_title(name, exact=True).click()
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


def accuracy(url: str, pile: str, truth: Truth) -> tuple[float, dict[str, Any] | None]:
    """Return the fraction of photos in their place, and what the service has measured."""
    with httpx.Client(base_url=url, timeout=600) as http:
        files = {
            image["position"]: image["file"] for image in http.get(f"/piles/{pile}/images").json()["data"]
        }
        while not (found := http.get(f"/piles/{pile}/sort").raise_for_status().json())["ready"]:
            time.sleep(1)
    right = [
        place["something_else"]
        if truth[files[place["position"]]] is None
        else place["class_name"] == truth[files[place["position"]]]
        for place in found["images"]
    ]
    return sum(right) / len(truth), found["measured"]


def pile_of(folder: Path, seed: int) -> list[tuple[str | None, Path]]:
    """Return photos with their classes: half of them are something else."""
    generator = random.Random(f"{folder.name} {seed}")
    classes = class_folders(folder / "test")
    known = sorted(generator.sample(classes, len(classes) // 2))
    strangers = [name for name in classes if name not in known]
    photos: list[tuple[str | None, Path]] = [*draw(generator, known, folder, PHOTOS // 2)]
    photos += [(None, path) for _, path in draw(generator, strangers, folder, PHOTOS // 2)]
    generator.shuffle(photos)
    return photos


def measure(browser: Browser, url: str, folder: Path, seed: int, untick: bool) -> dict[str, Any]:
    """Sort one pile. Return the accuracies and the counts."""
    photos = pile_of(folder, seed)
    with tempfile.TemporaryDirectory() as root, window(browser, url) as page:
        dropped = Path(root) / f"{folder.name} {seed} {untick}"
        dropped.mkdir()
        truth: Truth = {}
        for i, (name, path) in enumerate(photos):
            shutil.copy(path, dropped / f"{i:05}{path.suffix}")
            truth[f"{i:05}{path.suffix}"] = name
        hand, requests, started = Hand(page, truth, untick), Requests(page), time.monotonic()
        row: dict[str, Any] = {"set": folder.name, "seed": seed, "untick": untick, "photos": len(truth)}
        page.goto("/#/sort/stock")
        drop(page, page.locator(".zone"), dropped)
        new = page.get_by_role("button", name="Make a new pile")
        group = page.get_by_role("button", name="Group them")
        expect(new.or_(group)).to_be_visible()
        if new.is_visible():  # the pile of another run
            new.click()
        expect(group).to_be_visible()
        pile = page.url.rpartition("/")[2]
        asked, none_left = page.get_by_role("dialog"), page.get_by_text("There are no groups to ask about")
        for number in MEASURED:
            while hand.answers < number:
                if not asked.is_visible():
                    hand.click("Group them")
                    expect(asked.or_(none_left)).to_be_visible()
                if none_left.is_visible():
                    break
                hand.answer()
            if asked.is_visible():
                page.keyboard.press("Escape")
            requests.settle()
            labelled = page.locator(".sum .tally").inner_text()
            page.reload()
            expect(page.locator(".sum .tally")).to_have_text(labelled)  # nothing is lost
            row[f"after {number}"], row[f"measured after {number}"] = accuracy(url, pile, truth)
        row |= {
            "answers": hand.answers,
            "classes": len(hand.known),
            "letters": hand.letters,
            "clicks": hand.clicks,
        }
        hand.click("Make a model")
        page.keyboard.type(dropped.name)
        page.keyboard.press("Enter")
        expect(page.locator(".brought")).to_be_visible(timeout=1_800_000)
        requests.settle()
        row["model"], row["measured, model"] = accuracy(url, pile, truth)
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
    counts = ("photos", "classes", "answers", "letters", "clicks")
    sorts = (*(f"after {number}" for number in MEASURED), "model")
    table = Table("Sorted by keys", ["set", "seed", "unticked", *counts, *sorts, "measured", "minutes"])
    for row in rows:
        first = [row["set"], str(row["seed"]), "yes" if row["untick"] else "no"]
        said = row[f"measured after {MEASURED[-1]}"]
        share = (
            "–"
            if said is None
            else f"{figure(said['accuracy'])} [{figure(said['interval'][0])}, {figure(said['interval'][1])}]"
        )
        shares = [*(figure(row[name]) for name in sorts), share]
        table.rows.append([*first, *(str(row[name]) for name in counts), *shares, f"{row['minutes']:.1f}"])
    Console(width=200).print(table.markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
