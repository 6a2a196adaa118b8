"""What a person does in a browser, in the words of the tests."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_playwright_python
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


@contextmanager
def window(browser: Browser, url: str, *, expected: Sequence[str] = (), **context: Any) -> Iterator[Page]:
    """A page of this service in a browser without a past. At the end nothing may have gone wrong in it.

    Args:
        expected: parts of the messages that a test causes itself; browsers tell of every 401.
    """
    with browser.new_context(base_url=url, locale="en-GB", **context) as opened:
        page = opened.new_page()
        page.set_default_timeout(20_000)
        said: list[str] = []
        page.on("console", lambda message: message.type in {"error", "warning"} and said.append(message.text))
        page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        # File dialogs are caught from now on: asked for only when one is to open, that may come too late.
        page.on("filechooser", lambda chooser: None)
        yield page
        wrong = [text for text in said if not any(part in text for part in expected)]
        assert not wrong, wrong


def shot(colour: str, number: int, size: int = 48) -> bytes:
    """A plain image, no two of them the same."""
    data = io.BytesIO()
    shade = tuple(min(255, channel + number) for channel in COLOURS[colour])
    Image.new("RGB", (size, size - 8), shade).save(data, "PNG")
    return data.getvalue()


def lay_out(folder: Path, classes: dict[str, int]) -> Path:
    """A folder of class folders with so many images each."""
    for name, images in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            tint = number + 20 * name.startswith("test")
            (folder / name / f"{number}.png").write_bytes(shot(Path(name).name, tint))
    return folder


def drop(page: Page, target: Locator, *paths: Path) -> None:
    """Drag files or folders of the desktop onto it, as the browser itself would be told."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": box["x"] + box["width"] / 2,
                "y": box["y"] + 12,
                "data": {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1},
            },
        )
    session.detach()


def accessibility_problems(page: Page) -> list[str]:
    """What axe finds. It is run by the debugger, since the page itself may run nothing that it is given."""
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
    options = json.dumps({"resultTypes": ["violations"]})
    answer = session.send(
        "Runtime.evaluate",
        {"expression": f"axe.run(document, {options})", "awaitPromise": True, "returnByValue": True},
    )
    session.detach()
    assert "exceptionDetails" not in answer, answer
    return [
        f"{violation['id']}: {node['html'][:150]} {node['failureSummary']}"
        for violation in answer["result"]["value"]["violations"]
        for node in violation["nodes"]
    ]


def too_wide(page: Page) -> int:
    """By how many pixels the page is wider than its window. (A phone shows a page that is too wide in a
    window that is as wide: what counts is the width that it was given.)"""
    session = page.context.new_cdp_session(page)
    metrics = session.send("Page.getLayoutMetrics")
    session.detach()
    assert page.viewport_size is not None
    return int(metrics["cssContentSize"]["width"] - page.viewport_size["width"])
