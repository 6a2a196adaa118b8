"""`python -m tests.api.web.screenshots`: take the screenshots of the page in docs/images.

They come from a service with the starter, the demo's images and a real browser. This takes some minutes.
"""

import io
import os
import re
import tempfile
from pathlib import Path

from demo.stamps import split_stamps, stamps_folder
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from core.settings import Settings
from tests.api.web.browser import find_browser
from tests.api.web.window import drop, too_wide, window
from tests.service.running import serve

IMAGES = Path(__file__).parents[3] / "docs" / "images"
CLASSES = ("bird", "fish", "fruit")
DESKTOP = {"viewport": {"width": 1120, "height": 840}, "device_scale_factor": 1.5}
PHONE = {"viewport": {"width": 390, "height": 800}, "device_scale_factor": 2, "is_mobile": True}
MAX_BYTES = 150_000
WANTED = {
    *("train-light-desktop", "training-dark-desktop", "result-light-phone"),
    *("try-light-desktop", "try-dark-desktop", "try-dark-phone"),
}
"""Screenshots shown in docs/reference/web-page.md and the README. The others are checked for fit only."""
ASKED = {"fish": 2, "bird": 1, "hat": 1}
"""Number of classified images per class. `hat` is not trained."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        shots, asked = _write_images(Path(folder))
        found = find_browser(playwright)
        with (
            serve(Path(folder) / "data", {}) as service,
            playwright.chromium.launch(
                executable_path=str(found.program), env={**os.environ, **found.environment}
            ) as browser,
        ):
            job = _train(browser, service.url, shots)
            for scheme in ("light", "dark"):
                for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
                    with window(browser, service.url, color_scheme=scheme, **size) as page:
                        _take_views(page, job, asked, shots, f"{scheme}-{name}")


def _write_images(folder: Path) -> tuple[Path, list[Path]]:
    """Write class folders with one file that is no image, and images to classify. Return both."""
    stamps = split_stamps(stamps_folder(Settings().cache), shots=8)
    left = dict(ASKED)
    asked = []
    for image in (*stamps.train, *stamps.test):
        trained = image in stamps.train
        if image.class_name not in CLASSES and not left.get(image.class_name):
            continue
        if not trained and left.get(image.class_name):
            left[image.class_name] -= 1
            asked.append(folder / "asked" / Path(image.name).name)
            path = asked[-1]
        else:
            split = "train" if trained else "test"
            path = folder / "shots" / split / image.class_name / Path(image.name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.read())
    (folder / "shots" / "train" / "fish" / "scan 7.jpg").write_bytes(b"no image")
    return folder / "shots", asked


def _train(browser: Browser, url: str, shots: Path) -> str:
    """Train a model and return the job's id. Takes the screenshot of the training on the way."""
    with window(browser, url, color_scheme="dark", **DESKTOP) as page:
        page.goto("/")
        drop(page, page.locator(".zone"), shots)
        page.get_by_role("button", name="Remove scan 7.jpg").click(timeout=60_000)
        page.get_by_label("Model name").fill("image book")
        page.get_by_role("button", name="Start training").click()
        dva = page.get_by_role("img", name="Telling your classes apart")
        expect(dva).to_be_visible(timeout=120_000)
        expect(page.locator(".number")).to_have_text(re.compile(r"[4-9]\d%"), timeout=120_000)
        _take(page, "training-dark-desktop")
        expect(page.get_by_role("link", name="Try it", exact=True)).to_be_visible(timeout=900_000)
        return page.url.rpartition("/")[2]


def _take_views(page: Page, job: str, asked: list[Path], shots: Path, name: str) -> None:
    page.goto("/")
    drop(page, page.locator(".zone"), shots / "train")
    expect(page.locator(".thumbs .bad")).to_be_visible(timeout=60_000)
    _take(page, f"train-{name}")
    page.goto(f"/#/jobs/{job}")
    expect(page.get_by_role("link", name="Try it", exact=True)).to_be_visible(timeout=60_000)
    _take(page, f"result-{name}")
    page.get_by_role("link", name="Try it", exact=True).click()
    drop(page, page.locator(".zone"), *asked)
    page.get_by_label("Class names").fill("hat")
    page.get_by_label("Class names").press("Enter")
    page.get_by_label("Compare with the pre-trained model").check()
    expect(page.get_by_role("heading", name="Before")).to_have_count(len(asked), timeout=60_000)
    if name.endswith("phone"):
        page.locator(".answers").evaluate("element => element.scrollIntoView()")
    else:
        page.evaluate("() => scrollTo(0, 0)")
    _take(page, f"try-{name}")


def _take(page: Page, name: str) -> None:
    assert too_wide(page) <= 0, name
    if name not in WANTED:
        return
    page.wait_for_timeout(600)  # Wait until bars and lines are drawn.
    with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as shown:
        IMAGES.mkdir(parents=True, exist_ok=True)
        path = IMAGES / f"{name}.webp"
        shown.convert("RGB").save(path, "WEBP", quality=86, method=6)
    assert path.stat().st_size <= MAX_BYTES, path


if __name__ == "__main__":
    main()
