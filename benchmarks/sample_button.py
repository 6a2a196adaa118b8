"""Times of the button "Try with sample images": from the click to the first right answer, and to the verdict.

    python -m benchmarks.sample_button

A real browser clicks the button on the whole service. Each click has a fresh service without data.
"""

import argparse
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.machine import processor
from clipcite import Client
from demo.service import Service, running_service
from tests.api.web.browser import find_browser

GUARD = 600_000  # Timeout (milliseconds). It only guards against hanging.
MAX_ANSWER_SECONDS = 5.0
MAX_VERDICT_SECONDS = 60.0


@dataclass(frozen=True)
class Click:
    """Seconds since the click."""

    answer: float
    """All test images have an answer of the instant preview, at least one of them right."""
    model: float
    """The trained model answers."""
    verdict: float
    """The job is evaluated."""
    words: str
    """The verdict."""


def click(page: Page, service: Service) -> Click:
    """Click the button, and follow the view until the job is evaluated."""
    page.goto(f"{service.url}/#token={service.key}")
    button = page.get_by_role("button", name="Try with sample images")
    expect(button).to_be_visible(timeout=GUARD)
    began = time.monotonic()
    button.click()
    expect(page.locator(".answer > .best > strong.right").first).to_be_visible(timeout=GUARD)
    answer = time.monotonic() - began
    expect(page.get_by_label("Model").locator("option:checked")).to_have_text(
        re.compile(r", version \d+$"), timeout=GUARD
    )
    model = time.monotonic() - began
    with Client(service.url, service.key) as client:
        job = next(client.jobs.list()).wait(timeout=GUARD / 1000)
    words = job.metrics.verdict if job.metrics else job.status
    return Click(answer, model, time.monotonic() - began, words)


def run(browser: Browser, runs: int) -> list[Click]:
    """Click once per fresh service."""
    clicks = []
    for _ in range(runs):
        with running_service() as service:
            service.wait_until_ready(seconds=90, backbone_seconds=180)
            with browser.new_context(locale="en-GB") as context:
                clicks.append(click(context.new_page(), service))
        one = clicks[-1]
        print(
            f"| {one.answer:.1f} | {one.model:.1f} | {one.verdict:.1f} | {one.words} |",
            flush=True,
        )
    return clicks


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="number of clicks (default 3)")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    print("| first right answer, s | trained model, s | verdict, s | verdict |\n|---:|---:|---:|---|")
    with sync_playwright() as playwright:
        found = find_browser(playwright)
        with playwright.chromium.launch(
            executable_path=str(found.program), env={**os.environ, **found.environment}
        ) as browser:
            clicks = run(browser, options.runs)
    good = sum(
        one.answer <= MAX_ANSWER_SECONDS and one.verdict <= MAX_VERDICT_SECONDS and one.words == "better"
        for one in clicks
    )
    within = (
        f"a right answer within {MAX_ANSWER_SECONDS:.0f} s, verdict better within {MAX_VERDICT_SECONDS:.0f} s"
    )
    print(
        f"\n{os.cpu_count()} cores, {processor()}, load {load:.1f} before. {good} of {len(clicks)}: {within}."
    )


if __name__ == "__main__":
    main()
