"""Many large photos on the page (benchmarks/pages/sorting.md).

    clipcite serve --data /tmp/large --port 8765 --no-token
    python -m benchmarks.large_piles --data clothing --photos 1000 3000 --out large.json

A model of half of the classes, with five images each, sorts photos of 1,600 × 1,200 pixels: the test images,
enlarged and cropped at random. The script drops them onto *Sort* in Chromium and waits for the answer for all
photos together. Then it scrolls, first as the groups open, then with all groups unfolded. With `--phone` the
window is that of a phone, and the page gets a quarter of the processor.
A data set is a folder with `train/<class>/` and `test/<class>/`.
"""

import argparse
import json
import random
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from rich.console import Console

from benchmarks.accuracy.tables import Table
from benchmarks.data.listing import class_folders, images_in
from clipcite import Client
from tests.api.web.browser import launch_browser
from tests.api.web.window import drop, window

SIZE = (1600, 1200)
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "is_mobile": True,
    "has_touch": True,
}
SLOWER = 4
"""Factor by which the processor of a phone is slower."""
WATCH = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
  }).observe({ type: "longtask" });
}"""
FRAMES = """() => new Promise((resolve) => {
  const times = [];
  const until = performance.now() + 5000;
  requestAnimationFrame(function next(now) {
    times.push(now);
    scrollBy(0, 120);
    if (now < until) requestAnimationFrame(next);
    else resolve(times.slice(1).map((time, i) => time - times[i]));
  });
})"""
"""Scrolls for five seconds, 120 pixels a frame. Resolves to the milliseconds between frames."""


def photos(folder: Path, sources: Sequence[Path], count: int) -> None:
    """Write photos into the folder."""
    generator = random.Random(count)
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as image:
            width, height = image.size
            left, top = generator.randrange(1 + width // 8), generator.randrange(1 + height // 8)
            box = (left, top, left + width * 7 // 8, top + height * 7 // 8)
            image.convert("RGB").crop(box).resize(SIZE, Image.Resampling.BICUBIC).save(
                folder / f"{number:05}.jpg", quality=90
            )


def largest_renderer() -> int:
    """Return the memory of the largest page of this script's browser (bytes)."""
    found = [0]
    for process in psutil.Process().children(recursive=True):
        if "--type=renderer" in process.cmdline():
            found.append(process.memory_full_info().pss)
    return max(found)


def frame(page: Page) -> float:
    """Return the median milliseconds per frame while the page scrolls from its top."""
    page.evaluate("scrollTo(0, 0)")
    return float(np.median(page.evaluate(FRAMES)))


def measure(browser: Browser, url: str, model: str, folder: Path, phone: bool) -> dict[str, Any]:
    files = list(folder.iterdir())
    with window(browser, url, **(PHONE if phone else {})) as page:
        if phone:
            page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        page.goto(f"/#/sort/{model}")
        page.evaluate(WATCH)
        started = time.monotonic()
        drop(page, page.locator(".zone"), folder)
        expect(page.locator(".group").first).to_be_visible()
        first = time.monotonic() - started
        expect(page.get_by_role("button", name=re.compile("Ask me about"))).to_be_visible()
        seconds = time.monotonic() - started
        page.wait_for_timeout(2000)  # thumbnails in view
        row: dict[str, Any] = {
            "photos": len(files),
            "kB": sum(file.stat().st_size for file in files) / len(files) / 1000,
            "first": first,
            "all": seconds,
            "as opened": frame(page),
            "longest": page.evaluate("window.longest"),
        }
        page.get_by_role("button", name=re.compile("^Show all")).evaluate_all(
            "(buttons) => buttons.forEach((button) => button.click())"
        )
        return row | {
            "unfolded": frame(page),
            "JavaScript": page.evaluate("performance.memory.usedJSHeapSize"),
            "process": largest_renderer(),
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, nargs="+", default=[1000, 3000])
    parser.add_argument("--url", default="http://127.0.0.1:8765")
    parser.add_argument("--phone", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    names = class_folders(options.data / "train")[::2]
    with Client(options.url) as client:
        job = client.adapt({name: images_in(options.data / "train" / name)[:5] for name in names}).wait()
    sources = [path for name in names for path in images_in(options.data / "test" / name)]
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as root:
        browser = launch_browser(playwright)
        expect.set_options(timeout=1_800_000)
        for count in options.photos:
            folder = Path(root) / f"{count} photos"
            folder.mkdir()
            photos(folder, sources, count)
            rows.append(measure(browser, options.url, job.model_id or "", folder, options.phone))
            options.out.write_text(json.dumps(rows, indent=1))
        browser.close()
    table = Table("Large piles", ["", *(f"{row['photos']:,} photos of {row['kB']:.0f} kB" for row in rows)])
    for name, key, unit, scale in (
        ("first group", "first", "s", 1),
        ("all photos", "all", "s", 1),
        ("longest task of the page", "longest", "ms", 1),
        ("JavaScript memory", "JavaScript", "MB", 1e6),
        ("memory of the page's process", "process", "MB", 1e6),
        ("median frame, groups as they open", "as opened", "ms", 1),
        ("median frame, all groups unfolded", "unfolded", "ms", 1),
    ):
        table.rows.append([name, *(f"{row[key] / scale:.0f} {unit}" for row in rows)])
    Console(width=200).print(table.markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
