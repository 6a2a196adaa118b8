"""A pile of photos, sorted by keys in a browser: from no model to a sorted pile (benchmarks/pages/pile.md).

    python -m benchmarks.sorted_by_keys --data clothing cifar10 trashnet --out keys.json

Half of the photos are of half of the classes; the others are of the other classes, which nobody names:
they are something else. A script drops the pile onto *Sort*, and presses *Group them*. It gives each
group the most frequent class of its thumbnails by one key, or for a new class by `/`, the name and Enter;
with `--untick` it first removes the thumbnails of other classes. It takes new groups when the page offers
them. Every tenth answer is interrupted: at once the page is reloaded, its browser is killed and starts
again, or another browser takes over; or the answer is given while the service has ended after SIGTERM or
SIGKILL, before it starts again. The script then compares what was answered with what the service and the page
have, and reads the sort. Then it presses *Check with 20* and gives the true classes, presses *Make a model*,
and reads the sort after both. It runs a service of its
own. A data set is a folder with `test/<class>/`.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from rich.console import Console

from benchmarks.accuracy.tables import Table, figure
from benchmarks.data.listing import class_folders
from benchmarks.sorted_piles import draw
from tests.api.web.browser import killable, launch_browser
from tests.api.web.window import drop
from tests.service.running import Service, serve, wait_for

PHOTOS = 400
MEASURED = (10, 20, 30, 40)
"""Numbers of the answers that are interrupted. After each the sort is measured."""
PATIENCE = 60
"""Seconds until an answer that hasn't arrived counts as lost."""
DIGITS = "1234567890"
LEAST_LIKE = "Are any of these none of your classes?"
Truth = dict[str, str | None]
"""Class of each photo by file name; None for something else."""


@dataclass
class Hand:
    """A person's input, counted."""

    page: Page
    profile: str
    """Of the page's browser."""
    truth: Truth
    untick: bool
    labels: Truth = field(default_factory=dict)
    """What was said, by file name; None for something else."""
    excluded: set[tuple[str, str | None]] = field(default_factory=set)
    """Photos that were unticked, with the class that they are not of."""
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
        wrong = [one for one in shown if self.truth[one] != name] if self.untick or asks else []
        if asks and None not in found:
            self._note([], shown, None)
        else:
            self._untick(asked, wrong)
            self._note([one for one in shown if one not in wrong], wrong, name)
        if asks and None not in found:
            self.page.keyboard.press("Enter")
        else:
            self._press(name)
        self.answers += 1
        expect(asked.filter(has_text=group)).to_have_count(0)

    def check(self) -> None:
        """Check with 20."""
        self.click("Check with 20")
        asked = self.page.get_by_role("dialog")
        for number in range(1, 21):
            expect(asked).to_contain_text(f"{number} of 20")
            file = asked.locator(".file").inner_text()
            self._note([file], [], self.truth[file])
            self._press(self.truth[file])
        expect(asked).to_have_count(0)

    def _press(self, name: str | None) -> None:
        keyboard = self.page.keyboard
        if name is None:
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

    def sees_group(self) -> bool:
        """Show a group, of new ones if the page offers them. Return False if none is left."""
        asked, keyboard = self.page.get_by_role("dialog"), self.page.keyboard
        none_left = self.page.get_by_text("There are no groups to ask about")
        if not asked.is_visible():
            self.click("Group them")
            expect(asked.or_(none_left)).to_be_visible()
        if none_left.is_visible():
            return False
        regroup = asked.get_by_role("button", name="Regroup with the new names")
        if regroup.is_visible():
            keyboard.press("r")
            expect(asked.filter(has_text="Group 1 of")).to_have_count(1)
        return True

    def _note(self, ticked: Sequence[str], wrong: Sequence[str], name: str | None) -> None:
        self.labels |= dict.fromkeys(ticked, name)
        self.excluded |= {(one, name) for one in wrong}
        for one in wrong:
            if one in self.labels and self.labels[one] == name:
                del self.labels[one]

    def _untick(self, asked: Locator, wrong: Sequence[str]) -> None:
        for name in wrong:
            asked.get_by_title(name, exact=True).click()
            self.clicks += 1


@dataclass
class Stage:
    """A service and a browser that end and start again."""

    browser: Browser
    """Of the kind of the others, which are killed."""
    folder: Path
    """For the service's data and the profiles of browsers."""
    service: Service = field(init=False)
    _serving: ExitStack = field(default_factory=ExitStack)
    _windows: list[ExitStack] = field(default_factory=list)

    def start(self, port: int = 0) -> None:
        self.service = self._serving.enter_context(serve(self.folder / "data", {}, port))

    def restart(self, end: Callable[[], None], meanwhile: Callable[[], None]) -> None:
        """End the service, and start it again on the same folder and port."""
        end()
        meanwhile()
        self._serving.close()
        self.start(int(self.service.url.rpartition(":")[2]))

    def open(self, profile: str) -> Page:
        """Start a browser with this profile, and open the service's page."""
        window = ExitStack()
        page = window.enter_context(killable(self.browser, self.folder / profile, self.service.url))
        self._windows.append(window)
        page.set_default_timeout(600_000)
        page.goto(f"/#token={self.service.key}" if self.service.key else "/")
        return page

    def kill_browser(self) -> None:
        """Send SIGKILL to all processes of the browser that was opened first."""
        self._windows.pop(0).close()

    def close(self) -> None:
        while self._windows:
            self.kill_browser()
        self._serving.close()


def go_on(hand: Hand, pile: str) -> None:
    """Open the list of piles in the hand's page, and continue the pile."""
    hand.page.goto("/#/sort")
    hand.page.locator(f'a.main[href="#/sort/{pile}"]').click()


def reload(hand: Hand, stage: Stage, pile: str) -> None:
    hand.answer()
    hand.page.reload()


def kill_browser(hand: Hand, stage: Stage, pile: str) -> None:
    hand.answer()
    stage.kill_browser()
    hand.page = stage.open(hand.profile)
    go_on(hand, pile)


def stop_service(hand: Hand, stage: Stage, pile: str) -> None:
    stage.restart(stage.service.stop, hand.answer)
    hand.page.keyboard.press("Escape")


def kill_service(hand: Hand, stage: Stage, pile: str) -> None:
    stage.restart(stage.service.kill, hand.answer)
    hand.page.keyboard.press("Escape")


def other_browser(hand: Hand, stage: Stage, pile: str) -> None:
    hand.answer()
    hand.profile += " and another"
    hand.page = stage.open(hand.profile)
    go_on(hand, pile)
    stage.kill_browser()


INTERRUPTIONS = (reload, kill_browser, stop_service, kill_service, other_browser)


def lost(hand: Hand, stage: Stage, pile: str) -> int:
    """Return how many answers about photos the service or the page does not have, after some patience."""

    def missing() -> int:
        with stage.service.http as http:
            images = http.get(f"/piles/{pile}/images").raise_for_status().json()["data"]
        labels = {
            (image["file"], image["answer"]["class_name"])
            for image in images
            if image["answer"] and image["answer"]["said"] in {"class", "none"}
        }
        excluded = {(image["file"], name) for image in images for name in image["not_classes"]}
        shown = hand.page.locator(".tile.yours").evaluate_all("(all) => all.map((tile) => tile.ariaLabel)")
        named = {f"{file}, {name or 'something else'}, labelled" for file, name in hand.labels.items()}
        return len(labels ^ {*hand.labels.items()}) + len(hand.excluded - excluded) + len(named ^ {*shown})

    until = time.monotonic() + PATIENCE
    while (count := missing()) and time.monotonic() < until:
        hand.page.wait_for_timeout(500)
    return count


def accuracy(service: Service, pile: str, truth: Truth) -> tuple[float, dict[str, Any] | None]:
    """Return the fraction of photos in their place, and what the service has measured."""
    with service.http as http:
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


def measure(stage: Stage, first: int, folder: Path, seed: int, untick: bool) -> dict[str, Any]:
    """Sort one pile, with this interruption first. Return the accuracies and the counts."""
    photos = pile_of(folder, seed)
    with tempfile.TemporaryDirectory() as root:
        dropped = Path(root) / f"{folder.name} {seed} {untick}"
        dropped.mkdir()
        truth: Truth = {}
        for i, (name, path) in enumerate(photos):
            shutil.copy(path, dropped / f"{i:05}{path.suffix}")
            truth[f"{i:05}{path.suffix}"] = name
        hand, started = Hand(stage.open(dropped.name), dropped.name, truth, untick), time.monotonic()
        row: dict[str, Any] = {"set": folder.name, "seed": seed, "untick": untick, "photos": len(truth)}
        hand.page.goto("/#/sort/stock")
        drop(hand.page, hand.page.locator(".zone"), dropped)
        new = hand.page.get_by_role("button", name="Make a new pile")
        group = hand.page.get_by_role("button", name="Group them")
        expect(new.or_(group)).to_be_visible()
        if new.is_visible():  # the pile of another run
            new.click()
        expect(group).to_be_visible()
        pile = hand.page.url.rpartition("/")[2]
        row["lost"] = {}
        for place, number in enumerate(MEASURED):
            while hand.answers < number - 1 and hand.sees_group():
                hand.answer()
            interruption = INTERRUPTIONS[(first + place) % len(INTERRUPTIONS)]
            if hand.sees_group():
                interruption(hand, stage, pile)
                expect(hand.page.locator(".sum .tally")).to_contain_text("labelled")
                row["lost"][f"{number} {interruption.__name__}"] = lost(hand, stage, pile)
            row[f"after {number}"], _ = accuracy(stage.service, pile, truth)
        row |= {
            "answers": hand.answers,
            "classes": len(hand.known),
            "letters": hand.letters,
            "clicks": hand.clicks,
        }
        if hand.page.get_by_role("dialog").is_visible():
            hand.page.keyboard.press("Escape")
        hand.check()
        row["lost"]["check"] = lost(hand, stage, pile)
        row["checked"], row["measured"] = accuracy(stage.service, pile, truth)
        hand.click("Make a model")
        hand.page.keyboard.type(dropped.name)
        hand.page.keyboard.press("Enter")
        expect(hand.page.locator(".brought")).to_be_visible(timeout=1_800_000)
        with stage.service.http as http:
            wait_for(lambda: http.get(f"/piles/{pile}").json()["model"] != "stock")
        row["model"], row["measured with model"] = accuracy(stage.service, pile, truth)
        row["lost"]["model"] = lost(hand, stage, pile)
        row["minutes"] = (time.monotonic() - started) / 60
        stage.kill_browser()
        return row


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--untick", action="store_true", help="remove the wrong thumbnails of each group")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = json.loads(options.out.read_text()) if options.out.exists() else []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as root:
        expect.set_options(timeout=600_000)
        stage = Stage(launch_browser(playwright), Path(root))
        stage.start()
        for seed in options.seeds:
            for place, folder in enumerate(options.data):
                key = (folder.name, seed, options.untick)
                if not any((row["set"], row["seed"], row["untick"]) == key for row in rows):
                    rows.append(measure(stage, place * len(MEASURED), folder, seed, options.untick))
                    options.out.write_text(json.dumps(rows, indent=1))
        stage.close()
        stage.browser.close()
    counts = ("photos", "classes", "answers", "letters", "clicks")
    sorts = (*(f"after {number}" for number in MEASURED), "checked", "model")
    table = Table(
        "Sorted by keys",
        ["set", "seed", "unticked", *counts, *sorts, "measured", "with model", "lost", "minutes"],
    )
    for row in rows:
        first = [row["set"], str(row["seed"]), "yes" if row["untick"] else "no"]
        measured = (
            f"{figure(said['accuracy'])} [{figure(said['interval'][0])}, {figure(said['interval'][1])}]"
            for said in (row["measured"], row["measured with model"])
        )
        shares = [*(figure(row[name]) for name in sorts), *measured]
        losses = str(sum(row["lost"].values()))
        numbers = [str(row[name]) for name in counts]
        table.rows.append([*first, *numbers, *shares, losses, f"{row['minutes']:.1f}"])
    Console(width=200).print(table.markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
