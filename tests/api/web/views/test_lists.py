"""Paging in the page's lists, after everything shown has been deleted."""

import re

import httpx
from playwright.sync_api import APIResponse, Browser, Route, expect

from clipcite import Client
from tests.api.service import shots
from tests.api.web.finished import Running
from tests.api.web.window import window
from tests.core.store.samples import new_job


def test_show_more_after_everything_shown_was_deleted(browser: Browser, running: Running) -> None:
    made, url = running
    ids = [new_job(made.database, name=f"job {number}") for number in range(23)]
    with Client(url) as client, window(browser, url) as page:
        page.goto("/#/jobs")
        expect(page.locator(".list > li")).to_have_count(20)
        for job_id in ids[3:]:
            client.jobs.delete(job_id)
        page.get_by_role("button", name="Show more").click()
        expect(page.locator(".list > li")).to_have_count(23)
        expect(page.get_by_role("link", name=re.compile("^job 0$"))).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_a_cancelled_job_stays_cancelled(browser: Browser, running: Running) -> None:
    made, url = running
    job = made.accepted(**shots())["id"]
    asked: list[Route] = []
    late: list[APIResponse] = []

    def hold_second(route: Route) -> None:
        asked.append(route)
        if len(asked) == 2:
            late.append(route.fetch())
        else:
            route.continue_()

    with Client(url) as client, window(browser, url) as page:
        page.route(f"**/jobs/{job}", hold_second)
        page.goto(f"/#/jobs/{job}")
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        while not late:
            page.wait_for_timeout(50)
        client.jobs.cancel(job)
        expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
        with page.expect_event("requestfinished"):
            asked[1].fulfill(response=late[0])
        page.wait_for_timeout(100)
        expect(page).to_have_title("Cancelled · clipcite", timeout=1)


def test_a_cancelled_job_is_trained_again_without_an_upload(browser: Browser, running: Running) -> None:
    made, url = running
    first = made.accepted(**shots(), name="animals")["id"]
    with Client(url) as client, window(browser, url) as page:
        client.jobs.cancel(first)
        page.goto("/#/jobs")
        page.get_by_role("button", name="Train again animals").click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        again = client.jobs.get(page.url.rpartition("/")[2])
        assert again.id != first
        assert again.classes == client.jobs.get(first).classes
        page.goto("/#/models")  # the view of the job would ask for it, and log a 404
        expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
        client.jobs.delete(client.jobs.cancel(again.id).id)
        page.goto("/#/jobs")
        page.get_by_role("button", name="Train again animals").click()
        expect(page.get_by_text("Waiting in the queue")).to_be_visible()
        assert page.url.rpartition("/")[2] not in {first, again.id}


SHOWN = """async (body) => {
  const { problemBox } = await import("/page/lib/problem.js");
  const { Problem } = await import("/page/lib/service/http.js");
  return problemBox(new Problem(body.status, body, "")).innerHTML;
}"""


def test_an_error_links_to_the_place_of_its_remedy(browser: Browser, quick_url: str) -> None:
    body = httpx.get(f"{quick_url}/models/nobody").json()
    with window(browser, quick_url) as page:
        page.goto("/docs")
        assert page.evaluate(SHOWN, body) == (
            """<p>There is no model 'nobody'. <a href="#/models">Models</a> lists your models.</p>"""
        )
