"""A real Chromium, and services for it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from core.clip.evaluation.label_issues import LabelIssue
from core.clip.models.backbone import Backbone
from tests.api.service import listening, service
from tests.api.web.browser import BrowserMissing, find_browser
from tests.api.web.finished import Running, finish_job


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
            executable_path=str(found.program),
            env={**os.environ, **found.environment},
            args=["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
        )
        expect.set_options(timeout=120_000)  # The default of five seconds is too short on a busy machine.
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
        finish_job(made, backbone, label_issues=(LabelIssue(0, 0, 1, 0.8, 0.1),))
        port = stack.enter_context(listening(made.app))
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def running(tmp_path: Path, migrated: Path, backbone: Backbone) -> Iterator[Running]:
    """Run a service without a worker, and yield it with its URL."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clipcite.db").write_bytes(migrated.read_bytes())
    with service(tmp_path / "data", backbone.name) as made, listening(made.app) as port:
        made.app.state.serving.warm_up()
        yield made, f"http://127.0.0.1:{port}"
