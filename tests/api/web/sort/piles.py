"""A pile in the Sort view: made by a drop, or of class names."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.api.web.window import drop
from tests.service.running import wait_for

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def drop_pile(page: Page, folder: Path, *names: str, model: str = "stock") -> str:
    """Drop a folder onto the list of piles, and type class names. Return the id of its new pile."""
    page.goto(f"/#/sort/{model}")
    expect(page.get_by_role("heading", name="Sort", exact=True)).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value(model)
    drop(page, page.locator(".zone"), folder)
    page.wait_for_url(re.compile("#/sort/pil_"))
    expect(page.get_by_role("button", name="Group them")).to_be_visible()
    for name in names:
        page.get_by_label("Class names").fill(name)
        page.get_by_label("Class names").press("Enter")
    if names or model != "stock":
        expect(page.get_by_role("button", name="Ask me about 10")).to_be_visible()
    expect(page.locator('.groups[aria-busy="false"]')).to_be_visible()
    return page.url.rpartition("/")[2]


def group(page: Page, name: str) -> Locator:
    """Return the photos of a group."""
    return page.get_by_role("listbox", name=re.compile(rf"^({name}) \d+$")).get_by_role("option")


def sizes(page: Page) -> Counter[str]:
    """Return the number of photos per group."""
    names = (text.rsplit(" ", 1) for text in page.locator(".group h2").all_inner_texts())
    return Counter({re.sub(r"^(\d|X(?=S))\s*", "", name): int(number) for name, number in names})


def images_of(url: str, pile: str) -> list[dict[str, Any]]:
    """Return the images of a pile, as the service has them."""
    found: list[dict[str, Any]] = httpx.get(f"{url}/piles/{pile}/images").json()["data"]
    return found


def said(url: str, pile: str) -> Counter[tuple[str, str | None, str]]:
    """Return the answers that the service has: what was said, the class and how it was asked."""
    answers = (image["answer"] for image in images_of(url, pile))
    return Counter((a["said"], a["class_name"], a["how"]) for a in answers if a)


def answered(url: str, pile: str, count: int) -> None:
    """Wait until the service has answers about so many images."""
    wait_for(lambda: sum(said(url, pile).values()) == count)
