"""User actions in a browser."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_playwright_python
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200), "yellow": (200, 180, 40)}
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


@contextmanager
def window(browser: Browser, url: str, *, expected: Sequence[str] = (), **context: Any) -> Iterator[Page]:
    """Open the service's page in a browser without history. Assert at the end that it logged no error.

    Args:
        expected: parts of messages that a test causes itself; browsers log every 401.
    """
    with browser.new_context(base_url=url, locale="en-GB", **context) as opened:
        page = opened.new_page()
        page.set_default_timeout(120_000)
        said: list[str] = []

        def hear(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                said.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        # Intercept file dialogs from the start: just before a dialog would be too late.
        page.on("filechooser", lambda chooser: None)
        yield page
        page.unroute_all(behavior="ignoreErrors")  # a request in flight would fail the next test
        wrong = [text for text in said if not any(part in text for part in expected)]
        assert not wrong, wrong


def shot(colour: str, number: int, size: int = 48) -> bytes:
    """Return a plain image; each number gives a different one."""
    data = io.BytesIO()
    shade = tuple(min(255, channel + number) for channel in COLOURS[colour])
    Image.new("RGB", (size, size - 8), shade).save(data, "PNG")
    return data.getvalue()


def write_class_folders(folder: Path, classes: dict[str, int]) -> Path:
    """Write class folders with this number of images each."""
    for name, images in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            tint = number + 20 * name.startswith("test")
            (folder / name / f"{number}.png").write_bytes(shot(Path(name).name, tint))
    return folder


def drop(page: Page, target: Locator, *paths: Path) -> None:
    """Drag files or folders from the desktop onto the target through the browser's own input events.

    The target may move meanwhile: a banner above it can appear. Like a person, drop only when the pointer
    is over the target.
    """
    target.scroll_into_view_if_needed()
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    while True:
        box = target.bounding_box()
        assert box is not None
        point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 12}
        for kind in ("dragEnter", "dragOver"):
            session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **point})
        if target.evaluate(
            "(target, {x, y}) => target.contains(document.elementFromPoint(x, y))",
            point,
        ):
            break
        session.send("Input.dispatchDragEvent", {"type": "dragCancel", "data": data, **point})
    session.send("Input.dispatchDragEvent", {"type": "drop", "data": data, **point})
    session.detach()


def accessibility_problems(page: Page) -> list[str]:
    """Return axe's violations. The debugger runs axe, because the page's policy forbids foreign scripts."""
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
    """Return by how many pixels the page is wider than its window.

    A phone widens the window to fit the page, so the comparison uses the configured width.
    """
    session = page.context.new_cdp_session(page)
    metrics = session.send("Page.getLayoutMetrics")
    session.detach()
    assert page.viewport_size is not None
    return int(metrics["cssContentSize"]["width"] - page.viewport_size["width"])
