"""The Try view: large images, one answer each, before and now, and images that go back into the training."""

import base64
import re
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, Request, Route, expect

from core.clip.models.backbone import Backbone
from tests.api.service import shots
from tests.api.serving.adapted import publish_model
from tests.api.web.finished import CLASSES, Running, finish_job
from tests.api.web.window import accessibility_problems, drop, shot, too_wide, window, write_class_folders


def answers(page: Page) -> list[str]:
    return page.locator(".answer > .best > strong").all_inner_texts()


def test_six_held_out_images_fit_and_are_judged(
    browser: Browser, running: Running, backbone: Backbone
) -> None:
    made, url = running
    model = finish_job(made, backbone).model
    with window(browser, url, viewport={"width": 1280, "height": 800}) as page:
        page.goto(f"/#/try/{model}")
        cards = page.locator(".answer")
        expect(cards).to_have_count(6)
        expect(page.locator(".answer > .best > strong")).to_have_count(6)
        for card in cards.all():
            box = card.bounding_box()
            assert box["y"] + box["height"] <= 800
        truths = [re.sub(r" \d+\.png$", "", name) for name in page.locator(".file").all_text_contents()]
        assert set(truths) == set(CLASSES)
        now = answers(page)
        right = sum(said == truth for said, truth in zip(now, truths, strict=True))
        marks = page.locator(".answer > .best > strong").evaluate_all("all => all.map((e) => e.className)")
        assert marks == [("right" if a == b else "wrong") for a, b in zip(now, truths, strict=True)]
        tally = page.locator(".toolbar .tally")
        expect(tally).to_have_text(re.compile(rf"^Right: {right} of 6 now, \d before$"))
        hold = page.get_by_role("button", name="Hold to see the answers before training")
        hold.hover()
        page.mouse.down()
        expect(hold).to_have_attribute("aria-pressed", "true")
        before = sum(said == truth for said, truth in zip(answers(page), truths, strict=True))
        page.mouse.up()
        expect(tally).to_have_text(f"Right: {right} of 6 now, {before} before")
        assert answers(page) == now
        hold.focus()
        page.keyboard.down("Space")
        expect(hold).to_have_attribute("aria-pressed", "true")
        page.keyboard.up("Space")
        expect(hold).to_have_attribute("aria-pressed", "false")
        # Test images of the job must not train.
        expect(page.get_by_role("button", name="Train again")).to_be_hidden()


def test_own_images_replace_the_test_images(browser: Browser, quick_url: str, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "own", {"red": 18})
    with window(browser, quick_url) as page:
        page.goto("/#/try/colours")
        expect(page.locator(".answer")).to_have_count(6)
        drop(page, page.locator(".panel .zone"), folder)
        expect(page.locator(".answer > .best > strong")).to_have_count(16)
        left_out = page.get_by_role("alert")
        expect(left_out).to_have_text("Try shows 16 photos, so 2 photos were left out. Sort takes thousands.")
        model = page.get_by_label("Model", exact=True).input_value()
        expect(left_out.get_by_role("link", name="Sort")).to_have_attribute("href", f"#/sort/{model}")


def test_photos_are_chosen_on_the_first_screen_of_a_phone(
    browser: Browser, running: Running, backbone: Backbone, tmp_path: Path
) -> None:
    made, url = running
    model = finish_job(made, backbone).model
    (tmp_path / "a.png").write_bytes(shot("red", 41, size=90))
    with window(browser, url, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True) as page:
        page.goto(f"/#/try/{model}")
        choose = page.get_by_role("button", name="Choose photos")
        box = choose.bounding_box()
        assert box["y"] + box["height"] < 640
        drop(page, page.locator(".panel .zone"), tmp_path / "a.png")
        expect(page.locator(".answer > .best > strong")).to_have_count(1)
        for part in (".strength", ".dock"):
            shown = page.locator(part).evaluate(
                "e => [getComputedStyle(e).position, getComputedStyle(e).display]"
            )
            assert shown[0] == "static" or shown[1] == "contents"
        marks = page.locator(".answer .marks")  # on one line, which does not reach into the rest of the card
        assert marks.evaluate("e => e.offsetHeight < 40 && e.scrollWidth <= e.clientWidth")
        page.get_by_role("button", name="Wrong: a.png").click()
        select = page.get_by_label("True class of a.png")
        assert select.bounding_box()["width"] > 0.8 * page.locator(".answer .foot").bounding_box()["width"]
        page.get_by_role("button", name="Take back").click()
        expect(page.get_by_role("button", name="Wrong: a.png")).to_be_visible()
        expect(select).to_have_count(0)
        page.get_by_role("button", name="Right: a.png").click()
        expect(page.get_by_role("button", name="Train again with 1 correction")).to_be_in_viewport()
        assert too_wide(page) <= 0


def test_judged_images_go_into_the_training(
    browser: Browser, running: Running, backbone: Backbone, tmp_path: Path
) -> None:
    made, url = running
    model = finish_job(made, backbone).model
    files = [tmp_path / f"{name}.png" for name in "ab"]
    for number, file in enumerate(files):
        file.write_bytes(shot("red", 40 + number, size=90))
    with window(browser, url) as page:
        page.goto(f"/#/try/{model}")
        expect(page.locator(".answer > .best > strong")).to_have_count(6)
        drop(page, page.locator(".panel .zone"), *files)
        expect(page.locator(".answer > .best > strong")).to_have_count(2)
        said = answers(page)
        page.get_by_role("button", name="Right: a.png").click()
        page.get_by_role("button", name="Wrong: b.png").click()
        with page.expect_response("**/classify"):
            page.get_by_label("Strength").press("ArrowRight")
        expect(page.locator(".answer > .best > strong")).to_have_count(2)
        page.wait_for_timeout(300)  # the answers are drawn again, and the choice stays open
        true = next(name for name in CLASSES if name != said[1])
        page.get_by_label("True class of b.png").select_option(true)
        expect(page.locator(".toolbar .tally")).to_have_text(re.compile(r"^Right: 1 of 2 now, \d before$"))
        page.get_by_role("button", name="Change the class of b.png").click()
        page.get_by_role("button", name="Wrong: b.png").click()
        page.get_by_label("True class of b.png").select_option(said[1])  # "Wrong" was a mistake
        expect(page.locator(".toolbar .tally")).to_have_text(re.compile(r"^Right: 2 of 2 now, \d before$"))
        page.get_by_role("button", name="Change the class of b.png").click()
        page.get_by_role("button", name="Wrong: b.png").click()
        page.get_by_label("True class of b.png").select_option(true)
        page.get_by_role("button", name="Train again with 2 corrections").click()
        page.get_by_role("dialog").get_by_role("button", name="Train again").click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        job = page.url.rpartition("/")[2]
    images = made.client.get(f"/jobs/{job}/images").json()["data"]
    labels = {image["file_name"]: (image["split"], image["class_name"]) for image in images}
    assert labels["a.png"] == ("train", said[0])
    assert labels["b.png"] == ("train", true)


def test_an_image_unlike_the_training_images_is_marked(
    browser: Browser, running: Running, backbone: Backbone, tmp_path: Path
) -> None:
    made, url = running
    model = finish_job(made, backbone).model
    imported = publish_model(made.database, made.blobs, backbone, classes=CLASSES)  # without training images
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    (tmp_path / "red.png").write_bytes(shot("red", 3, size=96))
    files = [tmp_path / "red.png", tmp_path / "noise.png"]
    asked = {"class_names": list(CLASSES), "model": model, "something_else": True}
    asked["images"] = [{"base64": base64.b64encode(file.read_bytes()).decode()} for file in files]
    results = made.client.post("/classify", json=asked).json()["results"]
    assert [result["something_else"] for result in results] == [False, True]
    with window(browser, url, expected=["422"]) as page:
        page.goto(f"/#/try/{model}")
        drop(page, page.locator(".panel .zone"), *files)
        red, other = (page.locator(".answer").filter(has_text=file.name).locator(".best") for file in files)
        expect(other.locator(".tag", has_text="something else")).to_be_visible()
        expect(red.locator("strong")).to_be_visible()
        expect(red.get_by_text("something else")).to_have_count(0)
        page.goto(f"/#/try/{imported}")
        expect(page.locator(".tag", has_text="something else")).to_have_count(0)
        expect(other.locator("strong")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_a_preview_is_rough_and_never_certain(browser: Browser, running: Running) -> None:
    made, url = running
    test = {
        "test_images": [(f"{n}.png", shot("red", 60 + n, size=90)) for n in range(2)],
        "test_labels": ["red fox", "badger"],
    }
    job = made.accepted(**shots(), **test)["id"]
    with window(browser, url) as page:
        page.goto(f"/#/jobs/{job}")
        strip = page.locator(".strip.rough li")
        expect(strip).to_have_count(2)
        expect(strip.locator(".fill.striped")).to_have_count(2)
        expect(page.locator(".rough-tag")).to_be_visible()
        page.get_by_role("link", name="Try the instant preview").click()
        expect(page.locator(".answer")).to_have_count(2)
        expect(page.locator(".answer > .track .fill.striped")).to_have_count(2)
        shares = page.locator(".answer > .best .share")
        expect(shares).to_have_count(2)
        assert "100%" not in shares.all_inner_texts()
        formatted = page.evaluate(
            "async () => (await import('/page/lib/words.js')).roughPercent(1)",
        )
        assert formatted == "99%"


def test_the_camera_answers_live(browser: Browser, running: Running, backbone: Backbone) -> None:
    made, url = running
    model = finish_job(made, backbone).model
    with window(browser, url, permissions=["camera"]) as page:
        begun: list[Request] = []
        ended: list[Request] = []
        for event, requests in (("request", begun), ("requestfinished", ended), ("requestfailed", ended)):
            page.on(event, lambda request, to=requests: "/classify" in request.url and to.append(request))
        page.goto(f"/#/try/{model}")
        expect(page.locator(".answer > .best > strong")).to_have_count(6)
        for _ in range(6):
            page.locator(".answer .x").first.click()
        before = len(ended)
        page.get_by_role("button", name="Live camera").click()
        bars = page.get_by_role("list", name="Live answers").get_by_role("listitem")
        expect(bars).to_have_count(3)
        names = bars.all_inner_texts()
        assert [name.split()[0] for name in names] == list(CLASSES)
        while len(ended) < before + 10:
            page.wait_for_timeout(50)
            assert len(begun) <= len(ended) + 1
        page.get_by_label("Class names").fill("oak")
        page.get_by_label("Class names").press("Enter")
        expect(bars).to_have_count(4)
        page.get_by_role("button", name="Snap").click()
        expect(page.locator(".answer > .best > strong")).to_have_count(1)
        assert accessibility_problems(page) == []
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        page.wait_for_timeout(300)
        asked = len(begun)
        assert len(ended) == asked
        page.wait_for_timeout(700)  # several times the pause between two requests
        assert len(begun) == asked


CONFUSED = """async ([first, second]) => {
  const { confused } = await import("/page/components/try/predictions.js");
  return confused([first, second]);
}"""


def test_a_new_class_close_to_a_trained_one_is_explained(browser: Browser, running: Running) -> None:
    _, url = running

    def prediction(name: str, kind: str, probability: float, similarity: float) -> dict[str, object]:
        return {"class_name": name, "kind": kind, "probability": probability, "similarity": similarity}

    pants = prediction("pants", "trained", 0.42, 0.31)
    skirt = prediction("skirt", "new", 0.58, 0.29)
    hint = {"trained": "pants", "added": "skirt"}
    with window(browser, url) as page:
        page.goto("/#/try")
        assert page.evaluate(CONFUSED, [skirt, pants]) == hint
        # A large lead, but by the balance alone: the similarity of the trained class is higher.
        assert page.evaluate(CONFUSED, [{**skirt, "probability": 0.9}, {**pants, "probability": 0.1}]) == hint
        sure = {**skirt, "probability": 0.9, "similarity": 0.4}
        assert page.evaluate(CONFUSED, [sure, {**pants, "probability": 0.1}]) is None
        assert page.evaluate(CONFUSED, [{**skirt, "kind": "trained"}, pants]) is None


def test_a_phone_gets_the_address_as_qr_code(browser: Browser, quick_url: str) -> None:
    """Only over https, where phones reach the service."""
    address = "https://clipcite.test"

    def answer(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace(address, quick_url)))

    with window(browser, address) as page:
        page.route(f"{address}/**", answer)
        page.goto("/#/try/stock")
        button = page.get_by_role("button", name="Use on phone")
        button.click()
        code = page.get_by_role("dialog").get_by_role("img", name=f"QR code of {address}/#/try/stock")
        expect(code).to_have_js_property("complete", True)
        assert code.evaluate("image => image.naturalWidth") > 100
        assert accessibility_problems(page) == []
        page.keyboard.press("Escape")
        expect(button).to_be_focused()
        page.goto(f"{quick_url}/#/try/stock")
        expect(page.get_by_role("button", name="Live camera")).to_be_visible()
        expect(button).to_have_count(0)
