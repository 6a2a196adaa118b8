"""A real Chromium, and services for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from core.clip.evaluation.label_issues import LabelIssue
from core.clip.models.backbone import Backbone
from tests.api.service import Service, listening
from tests.api.web.browser import BrowserMissing, launch_browser
from tests.api.web.finished import Running, finish_job


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Open a browser per module.

    While Playwright is open its event loop counts as running in this thread, and tests of other folders could
    not run their own.
    """
    with sync_playwright() as playwright:
        try:
            launched = launch_browser(
                playwright, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
            )
        except BrowserMissing as missing:
            pytest.fail(str(missing), pytrace=False)
        expect.set_options(timeout=120_000)  # The default of five seconds is too short on a busy machine.
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def quick_url(
    new_service: Callable[..., AbstractContextManager[Service]], backbone: Backbone
) -> Iterator[str]:
    """Run a service with one model and no worker, so that its jobs stay queued."""
    with new_service() as made, listening(made.app) as port:
        made.app.state.serving.warm_up()
        finish_job(made, backbone, label_issues=(LabelIssue(0, 0, 1, 0.8, 0.1),))
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def running(fresh: Service) -> Iterator[Running]:
    """Run a service without a worker, and yield it with its URL."""
    with listening(fresh.app) as port:
        fresh.app.state.serving.warm_up()
        yield fresh, f"http://127.0.0.1:{port}"
