"""A model of a pile's labels, and the next version of one."""

import re
from pathlib import Path

from playwright.sync_api import Browser, expect

from clipcite import Client
from clipcite.types.models import Model
from tests.api.web.sort.piles import answered, drop_pile
from tests.api.web.window import window
from tests.service.running import Service


def test_a_pile_makes_a_model_that_sorts_it(browser: Browser, service: Service, folder: Path) -> None:
    with window(browser, service.url) as page, Client(service.url) as client:
        pile = drop_pile(page, folder, "red", "blue")
        for name, key in (("red", "1"), ("blue", "2"), ("yellow", "x")):
            for number in (1, 5):
                page.locator(f'.tile[title="{name}/{number}.png"]').press(key)
        answered(service.url, pile, 6)
        page.get_by_role("button", name="Make a model").click()
        page.keyboard.type("club photos")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Model", exact=True)).to_have_value(re.compile("^mdl_"))
        expect(page.locator(".brought")).to_contain_text("The photos are sorted by club photos.")
        model = client.models.get("club photos")
        assert model.id == page.get_by_label("Model", exact=True).input_value()
        assert set(model.trained_classes) == {"red", "blue"}
        assert sum(entry.images for entry in client.jobs.get(model.job_id).classes) == 4
        expect(page.locator(".tile.yours")).to_have_count(6)
        page.reload()  # the pile has the model
        expect(page.get_by_label("Model", exact=True)).to_have_value(model.id)
        expect(page.get_by_role("button", name="Train again with 4 labels")).to_be_visible()
        client.models.delete(model.id)


def test_training_again_leaves_the_random_photos_out_unless_asked(
    browser: Browser, service: Service, trained: Model, folder: Path
) -> None:
    with window(browser, service.url) as page, Client(service.url) as client:
        drop_pile(page, folder, model=trained.id)
        expect(page.locator(".tile")).to_have_count(42)
        page.get_by_role("button", name="Check with 20").click()
        asked = page.get_by_role("dialog")
        keys = {name: str(n + 1) for n, name in enumerate(trained.trained_classes)}
        for place in range(1, 21):
            expect(asked).to_contain_text(f"{place} of 20")
            name = re.search(r"(red|blue|yellow)/", asked.locator(".file").inner_text())[1]
            page.keyboard.press(keys.get(name, "x"))
        expect(page.get_by_text("measured on 20 photos drawn at random")).to_be_visible()
        every = page.get_by_role("checkbox", name="Train on the random photos, too")
        lost = page.get_by_text("Then nothing measures the new model.")
        expect(lost).to_be_hidden()
        every.check()
        expect(lost).to_be_visible()
        every.uncheck()
        page.locator(".tile:not(.yours)").first.press("1")
        page.get_by_role("button", name=re.compile(r"^Train again with \d+ labels$")).click()
        question = page.get_by_role("dialog")
        expect(question).to_contain_text(re.compile(r"labels\? It takes about .+ this one stays\."))
        with page.expect_request("**/extend") as sent:
            question.get_by_role("button", name="Train again").click()
        assert "pile_drawn" not in sent.value.post_data
        expect(page.locator(".brought")).to_contain_text("The photos are sorted by colours of tests.")
        again = client.models.get("colours of tests")
        assert again.version == 2
        client.models.delete(again.id)
