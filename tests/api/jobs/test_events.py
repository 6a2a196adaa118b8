"""/jobs/{id}/events: the list and the stream, over real connections where the connection matters."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest

import api.jobs.event_stream
from api.jobs.event_stream import EventSource
from core.store.accounts import api_keys
from core.store.db.session import database_now
from core.store.errors import DatabaseUnavailable
from core.store.jobs import lifecycle
from core.store.jobs.lifecycle import Claim, append_event
from tests.api.conftest import MakeService
from tests.api.service import Service, assert_problem, listening
from tests.api.streams import STREAM, Heard, connect, events_in
from tests.core.store import samples
from tests.service.running import wait_for

PROGRESS = {
    **{"stage": "training", "epoch": 3, "epochs": 20, "step": 41, "steps": 200, "fraction": 0.2},
    **{"eta_seconds": 31.5, "images_per_second": 52.0},
    "loss": {"total": 1.2, "dva": 0.6, "scl": 0.8, "vld": 0.4},
}
SECONDS = 600
"""Timeout of a stream in these tests (seconds). It only guards against hanging."""


def queued(service: Service) -> str:
    return samples.new_job(service.database)


def running(service: Service) -> Claim:
    return samples.claimed(service.database, queued(service))


def beat(service: Service, claim: Claim, fraction: float) -> None:
    progress = {**PROGRESS, "fraction": fraction}
    with service.database.write() as session:
        assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress=progress) is False


def warn(service: Service, claim: Claim, detail: str = "Less memory than thought.") -> None:
    with service.database.write() as session:
        assert lifecycle.record_warning(session, claim, "batch_halved", detail)


def finished_job(service: Service) -> str:
    claim = running(service)
    beat(service, claim, 0.2)
    warn(service, claim)
    assert samples.publish(service.database, claim)
    return claim.job_id


def events_of(service: Service, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.client.get(f"/jobs/{job_id}/events").json()["data"]
    return found


def streamed(service: Service, job_id: str, query: str = "", **headers: str) -> httpx.Response:
    """Return the whole stream of a job that has ended or will end."""
    return service.client.get(f"/jobs/{job_id}/events{query}", headers={**STREAM, **headers})


def heard(response: httpx.Response) -> list[Heard]:
    assert response.status_code == 200, response.text
    return list(events_in(response.text.splitlines()))


# --- the list ---


def test_the_list(either: Service) -> None:
    job_id = finished_job(either)
    events = events_of(either, job_id)
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    types = ["queued", "started", "stage", "progress", "warning", "model_published", "succeeded"]
    assert [event["type"] for event in events] == types
    assert all(set(event) == {"seq", "at", "type", "data"} for event in events)
    assert events[2]["data"] == {"stage": "training"}
    assert events[3]["data"] == PROGRESS
    path = f"/jobs/{job_id}/events"
    for after in range(8):
        assert either.client.get(path, params={"after": after}).json()["data"] == events[after:]
    assert either.client.get(f"/jobs/{job_id}").json()["warnings"] == [
        {"code": "batch_halved", "detail": "Less memory than thought."}
    ]


def test_invalid_event_numbers(fresh: Service) -> None:
    path = f"/jobs/{queued(fresh)}/events"
    for after in ("-1", "x", "2147483648", "99999999999999999999"):
        assert_problem(fresh.client.get(f"{path}?after={after}"), 422, "invalid_request", "after")
        response = fresh.client.get(path, headers={**STREAM, "Last-Event-ID": after})
        assert_problem(response, 422, "invalid_request", "last-event-id")


def test_the_accept_header_selects_list_or_stream(fresh: Service) -> None:
    path = f"/jobs/{finished_job(fresh)}/events"
    for accept, kind in (
        ("text/event-stream", "text/event-stream"),
        ("application/json, TEXT/Event-Stream;q=0.9", "text/event-stream"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("", "application/json"),
    ):
        response = fresh.client.get(path, headers={"Accept": accept})
        assert response.headers["content-type"].split(";")[0] == kind


# --- the stream of what has happened ---


def test_a_stream_is_the_list_with_names(either: Service) -> None:
    job_id = finished_job(either)
    response = streamed(either, job_id)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.text.startswith("retry: ")
    found = heard(response)
    assert [item.data for item in found] == events_of(either, job_id)
    assert [item.id for item in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [item.event for item in found] == ["log", "log", "log", "progress", "log", "log", "done"]
    assert found[-1].data["data"]["model_id"].startswith("mdl_")


def test_webhook_events_are_listed_and_end_no_stream_twice(fresh: Service) -> None:
    claim = samples.claimed(fresh.database, samples.new_job(fresh.database))
    assert samples.publish(fresh.database, claim)
    with fresh.database.write() as session:
        for _ in range(2):
            append_event(session, claim.job_id, at=database_now(session), type="webhook_delivered")
    types = [event["type"] for event in events_of(fresh, claim.job_id)]
    assert types == ["queued", "started", "model_published", "succeeded", *["webhook_delivered"] * 2]
    assert [item.event for item in heard(streamed(fresh, claim.job_id))] == ["log", "log", "log", "done"]
    assert streamed(fresh, claim.job_id, **{"Last-Event-ID": "4"}).status_code == 204
    assert streamed(fresh, claim.job_id, "?after=5").status_code == 204


def test_every_final_state_ends_the_stream_with_done(fresh: Service) -> None:
    cancelled = queued(fresh)
    fresh.client.post(f"/jobs/{cancelled}/cancel")
    failed = running(fresh)
    with fresh.database.write() as session:
        lifecycle.finish_failed(session, failed, code="out_of_memory", detail="Use a smaller batch_size.")
    for job_id, how in ((cancelled, "cancelled"), (failed.job_id, "failed")):
        last = heard(streamed(fresh, job_id))[-1]
        assert (last.event, last.type) == ("done", how)


def test_a_stream_resumes_after_the_last_event_id(fresh: Service) -> None:
    job_id = finished_job(fresh)
    for seen in range(7):
        assert [e.id for e in heard(streamed(fresh, job_id, **{"Last-Event-ID": str(seen)}))] == list(
            range(seen + 1, 8)
        )
    assert [e.id for e in heard(streamed(fresh, job_id, "?after=5"))] == [6, 7]
    # A reconnecting browser sends Last-Event-ID, which is newer than the address.
    assert [e.id for e in heard(streamed(fresh, job_id, "?after=1", **{"Last-Event-ID": "6"}))] == [7]


# --- over real connections, while it happens ---


class Stream:
    """Open connection that a thread reads."""

    def __init__(self, port: int, job_id: str, **headers: str) -> None:
        self.found: list[Heard] = []
        self.problem: BaseException | None = None
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS)
        self._request = self._client.stream("GET", f"/jobs/{job_id}/events", headers={**STREAM, **headers})
        self._response = self._request.__enter__()
        assert self._response.status_code == 200
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for item in events_in(self._response.iter_lines()):
                self.found.append(item)
        except Exception as error:
            self.problem = error

    def wait(self, what: Callable[[], object]) -> None:
        wait_for(lambda: bool(what()) or self.problem is not None)
        assert self.problem is None

    def read_to_end(self) -> list[Heard]:
        """Return the whole stream once the server has closed it."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        assert self.problem is None
        self._client.close()
        return self.found

    def cut(self) -> None:
        """Cut the connection without a closing handshake, as a network failure does."""
        raw = self._response.extensions["network_stream"].get_extra_info("socket")
        raw.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)


def types(found: list[Heard]) -> list[str]:
    return [item.type for item in found]


def readers_of(service: Service) -> int:
    source: EventSource = service.app.state.event_source
    return source.readers.held


@contextmanager
def followed(service: Service) -> Iterator[int]:
    """Yield the port of a real server, and assert at the end that no stream remains."""
    with listening(service.app) as port:
        yield port
        wait_for(lambda: readers_of(service) == 0)


def test_events_arrive_while_the_job_runs(either: Service) -> None:
    job_id = queued(either)
    with followed(either) as port:
        stream = Stream(port, job_id)
        stream.wait(lambda: types(stream.found) == ["queued"])
        claim = samples.claimed(either.database, job_id)
        beat(either, claim, 0.1)
        stream.wait(lambda: types(stream.found)[1:] == ["started", "stage", "progress"])
        warn(either, claim)
        stream.wait(lambda: types(stream.found)[-1] == "warning")
        samples.publish(either.database, claim)
        assert types(stream.read_to_end())[-1] == "succeeded"
    assert [item.data for item in stream.found] == events_of(either, job_id)


def test_head_of_a_stream_ends(fresh: Service) -> None:
    with followed(fresh) as port:
        address = f"http://127.0.0.1:{port}/jobs/{queued(fresh)}/events"
        response = httpx.head(address, headers=STREAM, timeout=SECONDS)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")


def test_a_stream_resumes_at_another_process(
    new_service: Callable[..., AbstractContextManager[Service]], database_url: str
) -> None:
    """The connection is cut repeatedly while a worker goes on, and resumes at the other of two APIs each
    time.
    """
    with new_service(database_url=database_url) as one, new_service(database_url=database_url) as two:
        claim = running(one)
        enough = threading.Event()
        warned: list[str] = []

        def work() -> None:
            """Report progress until all cuts are done, so that no cut falls after the end."""
            while not enough.wait(0.02):
                warned.append(f"{len(warned)}")
                warn(one, claim, warned[-1])
                beat(one, claim, 0.5)
            samples.publish(one.database, claim)

        worker = threading.Thread(target=work, daemon=True)
        with followed(one) as first, followed(two) as second:
            found: list[Heard] = []
            worker.start()
            for port in (first, second, first, second):
                seen = found[-1].id if found else 0
                stream = Stream(port, claim.job_id, **{"Last-Event-ID": str(seen)})
                stream.wait(lambda s=stream: len(s.found) > 2)
                stream.cut()
                found += stream.found
            enough.set()
            last = Stream(first, claim.job_id, **{"Last-Event-ID": str(found[-1].id)})
            found += last.read_to_end()
        worker.join()
        numbers = [item.id for item in found]
        assert numbers == sorted(set(numbers))
        warnings = [item.data["data"]["detail"] for item in found if item.type == "warning"]
        assert warnings == warned
        assert {e["seq"] for e in events_of(two, claim.job_id)} <= set(numbers)
        assert found[-1].event == "done"


def test_a_deleted_job_ends_its_streams(fresh: Service) -> None:
    job_id, other = queued(fresh), queued(fresh)
    with followed(fresh) as port:
        streams = [Stream(port, job_id), Stream(port, job_id), Stream(port, other)]
        for stream in streams:
            stream.wait(lambda s=stream: s.found)
        assert fresh.client.delete(f"/jobs/{job_id}").status_code == 204
        for stream in streams[:2]:
            assert types(stream.read_to_end()) == ["queued"]
        fresh.client.post(f"/jobs/{other}/cancel")
        assert types(streams[2].read_to_end()) == ["queued", "cancelled"]


def test_a_disconnected_reader_is_dropped_and_an_idle_stream_pings(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.jobs.event_stream, "PING_SECONDS", 0.05)
    with (
        followed(fresh) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client,
        client.stream("GET", f"/jobs/{queued(fresh)}/events", headers=STREAM) as response,
    ):
        lines = response.iter_lines()
        assert ": ping" in lines
        assert ": ping" in lines
        assert readers_of(fresh) == 1


def test_a_long_stream_ends_and_its_reader_authenticates_again(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.jobs.event_stream, "MAX_SECONDS", 0.3)
    monkeypatch.setattr(api.jobs.event_stream, "PING_SECONDS", 0.05)
    service = make_service()
    with service.database.write() as session:
        made = api_keys.create(session, owner="team")
    job_id = samples.new_job(service.database, owner="team")
    headers = {**STREAM, "authorization": f"Bearer {made.key}"}
    with followed(service) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
        heard = list(events_in(client.get(f"/jobs/{job_id}/events", headers=headers).text.splitlines()))
        assert [event.event for event in heard] == ["log"]
        with service.database.write() as session:
            api_keys.revoke(session, made.row.id)
        again = client.get(f"/jobs/{job_id}/events", headers={**headers, "last-event-id": str(heard[-1].id)})
        assert_problem(again, 401, "key_revoked")


def test_a_stream_survives_a_database_outage(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database outage only delays events."""
    job_id = queued(fresh)
    asked = threading.Event()

    def away(*_: Any) -> Any:
        asked.set()
        raise DatabaseUnavailable("It is away.")

    with followed(fresh) as port:
        stream = Stream(port, job_id)
        stream.wait(lambda: stream.found)
        with monkeypatch.context() as patch:
            patch.setattr(fresh.database, "read", away)
            samples.claimed(fresh.database, job_id)
            assert asked.wait(SECONDS)
            assert types(stream.found) == ["queued"]
        stream.wait(lambda: types(stream.found) == ["queued", "started"])
        stream.cut()


@pytest.mark.slow
def test_two_hundred_readers_leave_room_for_requests(either: Service) -> None:
    """No reader keeps a thread or a connection."""
    claim = running(either)
    others = [queued(either) for _ in range(20)]
    threads = threading.active_count()

    async def follow(port: int) -> None:
        ids = [claim.job_id] * 100 + others * 5
        streams = await asyncio.gather(*(connect(port, job_id) for job_id in ids))
        wait_for(lambda: readers_of(either) == 200)
        assert threading.active_count() - threads < 100
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as http:
            assert (await http.get("/jobs")).status_code == 200
        await asyncio.to_thread(samples.publish, either.database, claim)
        ends = await asyncio.wait_for(
            asyncio.gather(*(reader.read() for reader, _ in streams[:100])), SECONDS
        )
        assert all(b"event: done" in end and b'"type":"succeeded"' in end for end in ends)
        assert readers_of(either) == 100

    with followed(either) as port:
        asyncio.run(follow(port))


def test_streams_end_when_the_service_stops(fresh: Service) -> None:
    job_id = queued(fresh)
    with followed(fresh) as port:
        streams = [Stream(port, job_id) for _ in range(3)]
        for stream in streams:
            stream.wait(lambda s=stream: s.found)
        fresh.app.state.stopping.set()
        for stream in streams:
            assert types(stream.read_to_end()) == ["queued"]
        assert Stream(port, job_id).read_to_end() == []  # A late reader gets no stream.


def test_streams_per_owner_are_limited(fresh: Service) -> None:
    job_id = queued(fresh)
    fresh.app.state.event_source.readers.most = 4
    with followed(fresh) as port:
        streams = [Stream(port, job_id) for _ in range(2)]
        for stream in streams:
            stream.wait(lambda s=stream: s.found)
        assert_problem(streamed(fresh, job_id), 503, "busy", "Ask for the state of the job")
        assert_problem(
            fresh.client.get(f"/jobs/{job_id}?wait=30"), 503, "busy", "Ask for the state of the job"
        )
        streams[0].cut()
        wait_for(lambda: readers_of(fresh) == 1)
        Stream(port, job_id).cut()
        streams[1].cut()
