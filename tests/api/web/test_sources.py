"""Sources of training images on the page: camera, clipboard, phone, and samples of the service."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from clipcite import Client
from tests.api.web.window import accessibility_problems, drop, shot, too_wide, window, write_class_folders
from tests.service.running import serve, wait_for

PHONE = {"viewport": {"width": 360, "height": 700}, "has_touch": True, "is_mobile": True}
IMAGES = ".thumbs img:visible"
PASTE = """async ([selector, colour, count]) => {
  const transfer = new DataTransfer();
  for (let i = 0; i < count; i += 1) {
    const canvas = new OffscreenCanvas(48, 40 + i);
    const pen = canvas.getContext("2d");
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 48, 40 + i);
    transfer.items.add(new File([await canvas.convertToBlob()], "image.png", { type: "image/png" }));
  }
  const event = new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
  document.querySelector(selector).dispatchEvent(event);
}"""


def wait_for_frames(page: Page) -> None:
    wait_for(lambda: page.get_by_label("Camera").evaluate("video => video.videoWidth > 0"))


@contextmanager
def camera(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Open the page and record a new class with Chromium's fake camera."""
    with window(browser, url, permissions=["camera"], **options) as page:
        page.goto("/")
        page.locator(".zone").get_by_role("button", name="Use the camera").click()
        expect(page.get_by_label("Camera")).to_be_visible()
        wait_for_frames(page)
        yield page


def test_holding_the_button_records_eight_images(browser: Browser, quick_url: str) -> None:
    with camera(browser, quick_url) as page:
        hold = page.get_by_role("button", name="Hold to record")
        hold.hover()
        page.mouse.down()
        expect(page.locator(IMAGES)).to_have_count(8)
        page.mouse.up()
        hold.click()  # A tap takes one image.
        expect(page.locator(IMAGES)).to_have_count(9)
        hold.focus()
        page.keyboard.down("Space")
        expect(page.locator(IMAGES)).to_have_count(17)
        page.keyboard.up("Space")
        assert accessibility_problems(page) == []
        names = [image.get_attribute("alt") for image in page.locator(IMAGES).all()]
        assert len(set(names)) == len(names)


def test_the_camera_is_turned_off(browser: Browser, quick_url: str) -> None:
    with camera(browser, quick_url) as page:
        track = page.evaluate_handle("() => document.querySelector('video').srcObject.getTracks()[0]")
        assert track.evaluate("track => track.readyState") == "live"
        page.get_by_role("button", name="Close the camera").click()
        assert track.evaluate("track => track.readyState") == "ended"
        page.locator(".class").get_by_role("button", name="Use the camera").click()
        wait_for_frames(page)
        track = page.evaluate_handle("() => document.querySelector('video').srcObject.getTracks()[0]")
        page.goto("/#/jobs")  # Leaving the view
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        assert track.evaluate("track => track.readyState") == "ended"


def test_a_refused_camera_says_what_to_do(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.add_init_script(
            "const refused = new DOMException('', 'NotAllowedError');"
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(refused)"
        )
        page.goto("/")
        page.locator(".zone").get_by_role("button", name="Use the camera").click()
        expect(page.get_by_role("alert")).to_contain_text("Allow it in the address bar")


def test_pasted_images_go_to_the_focused_class(browser: Browser, quick_url: str) -> None:
    with window(browser, quick_url) as page:
        page.goto("/")
        page.evaluate(PASTE, ["body", "red", 2])  # A new class
        expect(page.locator(IMAGES)).to_have_count(2)
        page.get_by_label("Class name").fill("red")
        page.get_by_role("button", name="Add a class").click()
        page.evaluate(PASTE, ["body", "green", 1])  # The last class
        cards = page.locator(".class")
        expect(cards.last.locator(IMAGES)).to_have_count(1)
        page.get_by_label("Class name").first.focus()
        page.evaluate(PASTE, [".class-name", "blue", 1])
        expect(cards.first.locator(IMAGES)).to_have_count(3)
        alts = [image.get_attribute("alt") for image in page.locator(IMAGES).all()]
        assert alts == ["pasted 1.png", "pasted 2.png", "pasted 4.png", "pasted 3.png"]
        expect(page.get_by_label("Class name").first).to_have_value("red")


def test_a_phone_offers_its_camera_and_its_photos(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    with window(browser, quick_url, color_scheme="dark", **PHONE) as page:
        # Over plain http from another machine the browser offers no camera to the page.
        page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
        page.goto("/")
        expect(page.get_by_role("button", name="Choose a folder")).to_have_count(0)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Take photos").click()
        assert chooser.value.element.get_attribute("capture") == "environment"
        (tmp_path / "image.png").write_bytes(shot("red", 1))
        chooser.value.set_files(tmp_path / "image.png")
        expect(page.locator(IMAGES)).to_have_count(1)
        card = page.locator(".class")
        expect(card.get_by_role("button", name="Take photos")).to_be_visible()
        with page.expect_file_chooser() as chooser:
            card.get_by_role("button", name="Choose photos").click()
        assert chooser.value.is_multiple()
        assert accessibility_problems(page) == []
        assert too_wide(page) <= 0


@pytest.mark.slow
def test_one_click_on_the_sample_shows_what_changed(browser: Browser, tmp_path: Path) -> None:
    with serve(tmp_path / "data", {}) as service, window(browser, service.url) as page:
        page.goto("/")
        button = page.get_by_role("button", name="Try with sample images")
        expect(page.locator(".sample")).to_contain_text("Licence")
        assert accessibility_problems(page) == []
        button.click()
        expect(page.get_by_role("heading", name="Better", exact=True)).to_be_visible()
        strip = page.get_by_role("list", name="Wrong before, right now")
        expect(strip.get_by_role("listitem")).to_have_count(6)
        job = page.url
        page.go_back()
        button.click()
        page.wait_for_url(job)  # not a second job


def test_an_unreadable_file_is_marked(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    shots = write_class_folders(tmp_path / "shots", {"red": 2, "green": 2})
    with window(browser, quick_url) as page:
        page.add_init_script(
            "const read = File.prototype.arrayBuffer;"
            "const failed = () => Promise.reject(new DOMException('', 'NotReadableError'));"
            "File.prototype.arrayBuffer = function () {"
            "  return this.name === '1.png' ? failed() : read.call(this);"
            "}"
        )
        page.goto("/")
        drop(page, page.locator(".zone"), shots)
        expect(page.locator(".thumbs .bad")).to_have_count(2)
        expect(page.locator(".thumbs .bad").first).to_contain_text("Can't be read")
        expect(page.get_by_text("2 images can't be read.")).to_be_visible()
        start = page.get_by_role("button", name="Start training")
        expect(start).to_be_disabled()
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("button", name="Remove 1.png").first).to_be_focused()
        page.get_by_role("button", name="Leave them out").click()
        expect(page.locator(".thumbs .bad")).to_have_count(0)
        expect(start).to_be_enabled()
        expect(start).to_be_focused()


def test_photos_of_a_phone_are_taken(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    """TIFF and HEIC too, which Chromium can't show."""
    shots = write_class_folders(tmp_path / "shots", {"red": 2, "green": 2})
    pillow_heif.register_heif_opener()
    for kind in ("TIFF", "AVIF", "HEIF"):
        Image.effect_noise((90, 70), 50).convert("RGB").save(shots / "red" / f"photo.{kind.lower()}", kind)
    with window(browser, quick_url) as page, Client(quick_url) as client:
        page.goto("/")
        drop(page, page.locator(".zone"), shots)
        expect(page.locator(IMAGES)).to_have_count(7)  # the service makes the thumbnails of TIFF and HEIC
        page.get_by_role("button", name="Start training").click()
        page.wait_for_url(re.compile("#/jobs/job_"))
        job = client.jobs.get(page.url.rpartition("/")[2])
        assert {entry.name: entry.images for entry in job.classes} == {"red": 5, "green": 2}
        client.jobs.cancel(job.id)


def test_the_service_makes_thumbnails_of_what_is_seen(
    browser: Browser, quick_url: str, tmp_path: Path
) -> None:
    """A class shows 24 images, and the view a few classes. Chromium can't show TIFF."""
    shots = write_class_folders(tmp_path / "shots", {f"class {number}": 0 for number in range(10)})
    for folder in shots.iterdir():
        for number in range(3):
            Image.effect_noise((90, 70), 50).convert("RGB").save(folder / f"{number}.tiff", "TIFF")
    with window(browser, quick_url, viewport={"width": 800, "height": 600}) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/thumbnail" in request.url else None)
        page.goto("/")
        drop(page, page.locator(".zone"), shots)
        expect(page.locator(".thumbs li")).to_have_count(30)
        expect(page.locator(IMAGES).first).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert 0 < len(asked) < 20
        page.locator(".thumbs li").last.scroll_into_view_if_needed()
        expect(page.locator(".thumbs").last.locator("img[src]")).to_have_count(3)
