"""A real Chromium, and services for it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from core.clip.models.backbone import Backbone
from tests.api.service import listening, service
from tests.api.web.browser import BrowserMissing, find_browser
from tests.api.web.window import COLOURS
from tests.core.serving.adapted import publish_model


def compared(stock: float, adapted: float, low: float, high: float) -> dict[str, Any]:
    difference = {"value": round(adapted - stock, 3), "low": low, "high": high}
    return {"stock": stock, "adapted": adapted, "difference": difference}


METRICS = {
    "measured_on": {"source": "test", "images": 40, "trained_images": 16},
    "trained_classes": compared(0.7, 0.92, 0.11, 0.33),
    "new_classes": compared(0.6, 0.62, -0.1, 0.14),
    "all_classes": {
        "trained": compared(0.6, 0.9, 0.2, 0.4),
        "new": compared(0.5, 0.5, -0.12, 0.12),
        "all": compared(0.55, 0.7, 0.06, 0.24),
    },
    "verdict": "better",
}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Open a browser per module.

    While Playwright is open its event loop counts as running in this thread, and tests of other folders could
    not run their own.
    """
    with sync_playwright() as playwright:
        try:
            found = find_browser(playwright)
        except BrowserMissing as missing:
            pytest.fail(str(missing), pytrace=False)
        launched = playwright.chromium.launch(
            executable_path=str(found.program), env={**os.environ, **found.environment}
        )
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def quick_url(tmp_path_factory: pytest.TempPathFactory, migrated: Path, backbone: Backbone) -> Iterator[str]:
    """Run a service with one model and no worker, so that its jobs stay queued."""
    data = tmp_path_factory.mktemp("page")
    (data / "clipcite.db").write_bytes(migrated.read_bytes())
    with ExitStack() as stack:
        made = stack.enter_context(service(data, backbone.name))
        made.app.state.serving.warm_up()
        publish_model(
            made.database, made.blobs, backbone, classes=list(COLOURS)[:2], name="colours", metrics=METRICS
        )
        port = stack.enter_context(listening(made.app))
        yield f"http://127.0.0.1:{port}"
