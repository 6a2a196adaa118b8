"""`python -m docs.pictures`: make the images of the page in docs/images.

They come from a service with the starter, its default sample and a real browser: the views, and the animation
at the top of the README, whose last frame may show one wrong answer of four. This takes some minutes.
"""

import io
import re
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.api.web.browser import launch_browser
from tests.api.web.window import drop, too_wide, window
from tests.service.running import Service, serve

IMAGES = Path(__file__).parent / "images"
DESKTOP: dict[str, Any] = {"viewport": {"width": 1120, "height": 840}, "device_scale_factor": 1.5}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 800},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
HERO: dict[str, Any] = {"viewport": {"width": 960, "height": 600}, "device_scale_factor": 1.25}
LOOKS = (("light", "desktop", DESKTOP), ("dark", "desktop", DESKTOP), ("light", "phone", PHONE))
MAX_BYTES = 150_000
MAX_HERO_BYTES = 1_500_000
MAX_HERO_MS = 12_000
GUARD = 900_000  # Timeout (milliseconds). It only guards against hanging.


@dataclass(frozen=True)
class Material:
    """The sample as files."""

    name: str
    folder: Path
    """Class folders below train/ and test/."""
    new_class: str


@dataclass
class Film:
    """Frames of an animation, with their durations in milliseconds."""

    frames: list[Image.Image] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)

    def take(self, page: Page, milliseconds: int) -> None:
        page.wait_for_timeout(400)  # Wait until bars are drawn.
        self.frames.append(_screen(page))
        self.durations.append(milliseconds)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        serve(Path(folder) / "data", {}) as service,
        launch_browser(playwright) as browser,
    ):
        material = _download_sample(service, Path(folder))
        job = ""
        for scheme in ("light", "dark"):
            with window(browser, service.url, color_scheme=scheme, **HERO) as page:
                job = _film(page, service, material, scheme)
        _train_views(browser, service, material)
        for scheme, name, size in LOOKS:
            with window(browser, service.url, color_scheme=scheme, **size) as page:
                page.goto(_with_token(service))
                _take_views(page, job, material, f"{scheme}-{name}")


def _with_token(service: Service) -> str:
    return f"/#token={service.key}" if service.key else "/"


def _download_sample(service: Service, folder: Path) -> Material:
    with service.http as http:
        sample = http.get("/samples").raise_for_status().json()["data"][0]
        content = http.get(f"/samples/{sample['name']}.zip").raise_for_status().content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder / "shots")
    new_class = sample["new_classes"][0]
    return Material(sample["name"], folder / "shots", new_class)


def _film(page: Page, service: Service, material: Material, scheme: str) -> str:
    """Record the way from folders to a new class. Return the id of the job."""
    film = Film()
    page.goto(_with_token(service))
    expect(page.locator(".zone")).to_be_visible()
    film.take(page, 900)
    drop(page, page.locator(".zone"), material.folder)
    expect(page.get_by_text(re.compile("images look good"))).to_be_visible(timeout=GUARD)
    page.evaluate("() => scrollTo(0, 0)")
    film.take(page, 1500)
    page.get_by_label("Model name").fill(material.name)
    page.get_by_role("button", name="Start training").click()
    expect(page.locator(".number")).to_have_text(re.compile(r"\d%"), timeout=GUARD)
    expect(page.locator(".strip.rough .fill").first).to_be_visible(timeout=GUARD)
    for percent in (10, 30, 50, 70, 90):
        while not page.locator(".result").count() and _progress(page) < percent:
            page.wait_for_timeout(100)
        if page.locator(".result").count():
            break
        film.take(page, 350)
    expect(page.locator(".strip-box .strip li").nth(2)).to_be_visible(timeout=GUARD)
    page.wait_for_load_state("networkidle")
    film.take(page, 3400)
    still = film.frames[-1]
    job = page.url.rpartition("/")[2]
    last = page.locator(".new-class")
    last.scroll_into_view_if_needed(timeout=GUARD)
    film.take(page, 1300)
    page.get_by_role("button", name=f"+ {material.new_class}").click()
    expect(last.get_by_text("recognised by the name alone")).to_be_visible(timeout=GUARD)
    film.take(page, 2600)
    assert last.locator(".wrong").count() <= 1
    assert sum(film.durations) <= MAX_HERO_MS
    _save(film.frames, IMAGES / f"hero-{scheme}.webp", MAX_HERO_BYTES, duration=film.durations)
    if scheme == "light":
        _save([still], IMAGES / "hero-still.webp", MAX_BYTES)
    return job


def _progress(page: Page) -> int:
    return int(page.locator(".number").inner_text().rstrip("%") or 0)


def _train_views(browser: Browser, service: Service, material: Material) -> None:
    """Take the Train view and a running job in each look. The jobs are cancelled."""
    for scheme, name, size in LOOKS:
        with window(browser, service.url, color_scheme=scheme, **size) as page:
            page.goto(_with_token(service))
            drop(page, page.locator(".zone"), material.folder)
            expect(page.get_by_text(re.compile("images look good"))).to_be_visible(timeout=GUARD)
            page.evaluate("() => scrollTo(0, 0)")
            _take(page, f"train-{scheme}-{name}")
            page.get_by_role("button", name="Start training").click()
            expect(page.locator(".number")).to_have_text(re.compile(r"[3-9]\d%"), timeout=GUARD)
            page.get_by_text("Details", exact=True).click()
            _take(page, f"training-{scheme}-{name}")
            page.get_by_role("button", name="Cancel", exact=True).click()
            page.get_by_role("button", name="Cancel the job").click()
            expect(page.get_by_role("heading", name="Cancelled")).to_be_visible(timeout=GUARD)


def _take_views(page: Page, job: str, material: Material, look: str) -> None:
    page.goto(f"/#/jobs/{job}")
    expect(page.locator(".strip-box .strip li").nth(2)).to_be_visible(timeout=GUARD)
    page.wait_for_load_state("networkidle")
    _take(page, f"result-{look}")
    page.get_by_role("link", name=re.compile("Use it|Try it")).first.click()
    expect(page.locator(".answer > .best > strong")).to_have_count(6, timeout=GUARD)
    page.get_by_label("Class names").fill(material.new_class)
    page.get_by_label("Class names").press("Enter")
    page.wait_for_load_state("networkidle")
    page.evaluate("() => scrollTo(0, 0)")
    if look.endswith("phone"):
        page.locator(".answers").evaluate("element => element.scrollIntoView()")
    _take(page, f"try-{look}")
    model = page.get_by_label("Model", exact=True).input_value()
    page.goto(f"/#/sort/{model}")
    expect(page.get_by_label("Model", exact=True)).to_have_value(model, timeout=GUARD)
    drop(page, page.locator(".zone"), material.folder / "test")
    new_pile = page.get_by_role("button", name="Make a new pile")
    ask = page.get_by_role("button", name=re.compile("Ask me about"))
    expect(new_pile.or_(ask)).to_be_visible(timeout=GUARD)
    if new_pile.is_visible():  # the pile of another look
        new_pile.click()
    expect(ask).to_be_visible(timeout=GUARD)
    page.get_by_label("Class names").fill(material.new_class)  # The folder has images of it.
    page.get_by_label("Class names").press("Enter")
    page.wait_for_load_state("networkidle")
    expect(page.locator('.groups[aria-busy="false"]')).to_be_visible(timeout=GUARD)
    page.locator(".tile").first.click()
    page.evaluate("() => scrollTo(0, 0)")
    if look.endswith("phone"):
        page.locator(".sum").evaluate("element => element.scrollIntoView()")
    _take(page, f"sort-{look}")
    page.goto("/#/models")
    expect(page.locator(".model").first).to_be_visible(timeout=GUARD)
    page.wait_for_load_state("networkidle")
    _take(page, f"models-{look}")


def _take(page: Page, name: str) -> None:
    assert too_wide(page) <= 0, name
    page.wait_for_timeout(600)  # Wait until bars and lines are drawn.
    _save([_screen(page)], IMAGES / f"{name}.webp", MAX_BYTES)


def _screen(page: Page) -> Image.Image:
    with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as shown:
        return shown.convert("RGB")


def _save(frames: list[Image.Image], path: Path, max_bytes: int, **options: Any) -> None:
    first, *rest = frames
    first.save(path, "WEBP", quality=84, method=6, save_all=bool(rest), append_images=rest, loop=0, **options)
    assert path.stat().st_size <= max_bytes, (path, path.stat().st_size)


if __name__ == "__main__":
    main()
