"""Webhook deliveries at the end of a job: real jobs, receivers and connections."""

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update
from standardwebhooks import Webhook, WebhookVerificationError

from core.settings import Settings
from core.store.accounts import owners
from core.store.db.session import Database, database_now
from core.store.db.tables import JobEvent, WebhookDelivery
from core.store.jobs import lifecycle
from tests.core.store.samples import OWNER, claimed, create_job, new_job, new_owner, publish, types_of
from tests.core.urls import INSIDE, MALFORMED
from tests.receiver import Receiver, receiver
from tests.servers import free_port
from tests.service.running import PATIENCE, wait_for
from worker.dispatcher import webhooks
from worker.dispatcher.webhooks import DELAYS, DeliveryFailed, Webhooks
from worker.metrics import DispatcherMetrics

SLOW_SECONDS = 3.0

SECRET = "whsec_plJ3nmyCDGBKInavdOK15jsl"
OPEN = Settings(webhook_allow_private=True)
GUARDED = Settings()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine nothing is due again before a test makes it so."""
    monkeypatch.setattr(webhooks, "DELAYS", (timedelta(days=1),) * len(DELAYS))
    monkeypatch.setattr(webhooks, "CLAIMED", timedelta(days=1))


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def one_database(migrated: Path, tmp_path: Path) -> Iterator[Database]:
    """Return an SQLite database, for tests that do not depend on the database system."""
    database = Database(f"sqlite:///{shutil.copy(migrated, tmp_path)}")
    yield database
    database.close()


def sender(database: Database, settings: Settings = OPEN, **given: Any) -> Webhooks:
    given = {"seconds": PATIENCE, **given}
    return Webhooks(settings, database, DispatcherMetrics(CollectorRegistry()), **given)


def send(database: Database, settings: Settings = OPEN, **given: Any) -> list[str]:
    """Run one round to its end. Return the owners with due deliveries."""
    made = sender(database, settings, **given)
    begun = made.round()
    made.wait(PATIENCE)
    return begun


def secret(database: Database, owner: str = OWNER, *, rotate: bool = False) -> str:
    with database.write() as session:
        return owners.webhook_secret(session, owner, replace=rotate)


def cancelled(database: Database, url: str, owner: str = OWNER) -> str:
    """Create a job that has ended and whose delivery is pending."""
    secret(database, owner)
    job_id = new_job(database, webhook=url, owner=owner, name="animals")
    with database.write() as session:
        lifecycle.request_cancel(session, job_id, owner=owner)
    return job_id


def cancelled_at_once(database: Database, urls: list[str]) -> None:
    """Create an ended job per URL, in one transaction."""
    secret(database)
    with database.write() as session:
        for url in urls:
            lifecycle.request_cancel(session, create_job(session, webhook=url).id, owner=OWNER)


def let_be_due(database: Database, **values: Any) -> None:
    with database.write() as session:
        now = database_now(session)
        session.execute(update(WebhookDelivery).values(next_attempt_at=now, **values))


def waiting(database: Database) -> list[WebhookDelivery]:
    with database.read() as session:
        return list(session.scalars(select(WebhookDelivery)))


def webhook_events(database: Database, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the webhook events of a job."""
    with database.read() as session:
        found = session.scalars(select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq))
        return [(event.type, event.data) for event in found if event.type.startswith("webhook")]


def verified(hit: tuple[str, dict[str, str], bytes], key: str) -> Any:
    _, headers, body = hit
    return Webhook(key).verify(body, headers)


# --- the delivery ---


def test_the_end_of_a_job_is_delivered_once_and_signed(database: Database, there: Receiver) -> None:
    key = secret(database)
    job_id = new_job(database, webhook=there.url, name="animals")
    assert send(database) == []
    claim = claimed(database, job_id)
    assert publish(database, claim)
    assert send(database) == [OWNER]
    assert send(database) == []
    types = [json.loads(body)["type"] for _, _, body in there.hits]
    assert sorted(types) == ["job.succeeded", "model.published"]
    end = types.index("job.succeeded")
    path, headers, body = there.hits[end]
    assert path == "/hook?team=a"
    assert headers["host"] == f"127.0.0.1:{there.port}"
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"].startswith("msg_")
    assert verified(there.hits[end], key) == json.loads(body)
    news = json.loads(body)
    assert (news["type"], set(news)) == ("job.succeeded", {"type", "timestamp", "data"})
    job = news["data"]
    assert (job["id"], job["object"], job["name"]) == (job_id, "job", "animals")
    assert (job["status"], job["attempts"], job["error"]) == ("succeeded", 1, None)
    assert job["model_id"].startswith("mdl_")
    assert job["metrics"] == {"verdict": "better"}
    assert job["finished_at"] == news["timestamp"]
    published = json.loads(there.hits[1 - end][2])["data"]
    assert (published["status"], published["model_id"]) == ("running", job["model_id"])
    assert types_of(database, job_id)[-3:] == ["succeeded", *["webhook_delivered"] * 2]
    told = {"webhook_id": headers["webhook-id"], "type": "job.succeeded", "attempt": 1, "status": 204}
    assert ("webhook_delivered", told) in webhook_events(database, job_id)
    assert waiting(database) == []


def test_every_final_state_has_its_event_type(one_database: Database, there: Receiver) -> None:
    key = secret(one_database)
    failed = claimed(one_database, new_job(one_database, webhook=there.url))
    with one_database.write() as session:
        assert lifecycle.finish_failed(session, failed, code="diverged", detail="Lower the rate.")
    stopped = claimed(one_database, new_job(one_database, webhook=there.url))
    with one_database.write() as session:
        assert lifecycle.finish_cancelled(session, stopped)
    lost = claimed(one_database, new_job(one_database, webhook=there.url), lease_seconds=-1)
    with one_database.write() as session:
        [job] = lifecycle.expire_leases(session, max_attempts=1, lease_seconds=30)
        assert job.status == "failed"
    requeued = claimed(one_database, new_job(one_database, webhook=there.url), lease_seconds=-1)
    with one_database.write() as session:
        [job] = lifecycle.expire_leases(session, max_attempts=2, lease_seconds=30)
        assert job.status == "queued"
    send(one_database)
    told = {(news := verified(hit, key))["data"]["id"]: news for hit in there.hits}
    assert {job_id: news["type"] for job_id, news in told.items()} == {
        failed.job_id: "job.failed",
        stopped.job_id: "job.cancelled",
        lost.job_id: "job.failed",
    }
    assert told[failed.job_id]["data"]["error"] == {"code": "diverged", "detail": "Lower the rate."}
    assert requeued.job_id not in told


def test_a_new_secret_signs_at_once(database: Database, there: Receiver) -> None:
    """The receiver refuses deliveries until it has the new secret. Those are sent again."""
    old = secret(database)
    assert secret(database) == old
    cancelled(database, there.url)
    new = secret(database, rotate=True)
    assert secret(database) == new != old
    send(database)
    assert verified(there.hits[0], new)
    for other in (old, secret(database, new_owner(database, "other"))):
        with pytest.raises(WebhookVerificationError):
            verified(there.hits[0], other)


# --- failed deliveries ---


def test_a_failed_delivery_is_retried_later(database: Database, there: Receiver) -> None:
    there.answers = [500, 200]
    job_id = cancelled(database, there.url)
    before = datetime.now(UTC)
    assert send(database) == [OWNER]
    assert send(database) == []  # Not yet.
    [row] = waiting(database)
    assert row.next_attempt_at >= before + DELAYS[0]
    let_be_due(database)
    assert send(database) == [OWNER]
    assert waiting(database) == []
    first, second = there.hits
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert first[2] == second[2]
    failed, delivered = webhook_events(database, job_id)
    assert failed[0] == "webhook_failed"
    assert (failed[1]["attempt"], failed[1]["reason"]) == (1, "responded with 500")
    assert failed[1]["next_attempt_at"].endswith("Z")
    assert delivered == ("webhook_delivered", {**delivered[1], "attempt": 2, "status": 200})


def test_a_clock_that_was_set_back_holds_no_message_back(database: Database, there: Receiver) -> None:
    cancelled(database, there.url)
    with database.write() as session:
        ahead = database_now(session) + 2 * max(*webhooks.DELAYS, webhooks.CLAIMED)
        session.execute(update(WebhookDelivery).values(next_attempt_at=ahead))
    assert send(database) == [OWNER]
    assert len(there.hits) == 1


def test_the_third_try_is_the_last(one_database: Database, there: Receiver) -> None:
    assert sum(DELAYS, timedelta()) < timedelta(hours=1)
    there.answers = [503, 503, 503]
    job_id = cancelled(one_database, there.url)
    for _ in range(5):
        send(one_database)
        let_be_due(one_database)
    events = webhook_events(one_database, job_id)
    assert [(kind, data["attempt"]) for kind, data in events] == [("webhook_failed", n) for n in (1, 2, 3)]
    assert [data["next_attempt_at"] is None for _, data in events] == [False, False, True]
    assert (len(there.hits), waiting(one_database)) == (3, [])


def test_redirects_are_not_followed(one_database: Database, there: Receiver) -> None:
    with receiver() as inside:
        there.answers, there.location = [307], inside.url
        job_id = cancelled(one_database, there.url)
        send(one_database)
        assert (len(there.hits), inside.hits) == (1, [])
    assert "redirects are not followed" in webhook_events(one_database, job_id)[0][1]["reason"]


def test_an_unreachable_receiver(one_database: Database) -> None:
    job_id = cancelled(one_database, f"http://127.0.0.1:{free_port()}/")
    unknown = cancelled(one_database, "http://nobody.invalid/")

    def resolve(host: str, port: int) -> list[str]:
        if host == "nobody.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [host]

    for _ in range(2):  # A failure ends the owner's round.
        send(one_database, resolve=resolve)
    assert "could not be reached" in webhook_events(one_database, job_id)[0][1]["reason"]
    assert (
        webhook_events(one_database, unknown)[0][1]["reason"]
        == "could not be reached: the name has no public address"
    )
    assert len(waiting(one_database)) == 2


def test_a_thread_that_does_not_start_blocks_no_later_delivery(
    one_database: Database, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sender(one_database)
    cancelled(one_database, there.url)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            made.round()
    cancelled(one_database, there.url)
    assert made.round() == [OWNER]
    made.wait(PATIENCE)
    assert len(there.hits) == 2


@contextmanager
def slow(drip: bytes) -> Iterator[str]:
    """Accept connections and then send nothing, or the drip repeatedly. Yield the URL."""
    stop = threading.Event()
    open_ones: list[socket.socket] = []

    def talk(connection: socket.socket) -> None:
        try:
            while drip and not stop.wait(0.05):
                connection.sendall(drip)
        except OSError:
            pass  # The sender has closed the connection.

    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                open_ones.append(connection)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        stop.set()
        server.shutdown(socket.SHUT_RDWR)
    for connection in open_ones:
        connection.close()


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"x"])
def test_a_slow_receiver_delays_no_other(drip: bytes, one_database: Database, there: Receiver) -> None:
    with slow(drip) as url:
        hung = [cancelled(one_database, url) for _ in range(6)]
        quick = cancelled(one_database, there.url, new_owner(one_database, "other"))
        made = sender(one_database, seconds=SLOW_SECONDS)
        assert sorted(made.round()) == sorted([OWNER, "other"])
        assert OWNER not in made.round()
        wait_for(lambda: there.hits, seconds=PATIENCE)
        assert [webhook_events(one_database, job_id) for job_id in hung] == [[]] * 6
        made.wait(PATIENCE)
    fates = [webhook_events(one_database, job_id) for job_id in hung]
    assert sorted(map(len, fates)) == [0, 0, 0, 0, 0, 1]
    assert {data["reason"] for found in fates for _, data in found} == {
        f"did not respond within {SLOW_SECONDS:g} s"
    }
    assert webhook_events(one_database, quick)[0][0] == "webhook_delivered"


# --- crashes and deletions ---


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Database], tuple[Webhooks, WebhookDelivery]]:
    """Return a function that claims a delivery and dies. It returns what a frozen process goes on with."""

    def claim(database: Database) -> tuple[Webhooks, WebhookDelivery]:
        def die(*given: object, **more: object) -> int:
            raise SystemExit

        made = sender(database)
        with monkeypatch.context() as patch:
            patch.setattr(webhooks, "send", die)
            with pytest.raises(SystemExit):
                made._deliver_next(OWNER)
        [row] = waiting(database)
        assert row.attempts == 1
        return made, row

    return claim


def test_deliveries_of_a_dead_process_are_sent_again(
    database: Database, there: Receiver, killed: Callable[[Database], tuple[Webhooks, WebhookDelivery]]
) -> None:
    job_id = cancelled(database, there.url)
    made, begun = killed(database)
    assert send(database) == []  # Another dispatcher leaves the delivery alone.
    let_be_due(database)
    assert send(database) == [OWNER]
    assert there.hits[0][1]["webhook-id"] == begun.id
    made._record(begun, reason="late")  # The first dispatcher resumes.
    made._record(begun, status=200)
    assert [(kind, data["attempt"]) for kind, data in webhook_events(database, job_id)] == [
        ("webhook_delivered", 2)
    ]


def test_a_deleted_job_sends_nothing(
    database: Database, there: Receiver, killed: Callable[[Database], tuple[Webhooks, WebhookDelivery]]
) -> None:
    gone = cancelled(database, there.url)
    with database.write() as session:
        lifecycle.delete(session, gone, owner=OWNER)
    assert send(database) == []
    gone = cancelled(database, there.url)
    made, begun = killed(database)
    with database.write() as session:
        lifecycle.delete(session, gone, owner=OWNER)
    made._record(begun, status=200)
    assert (there.hits, waiting(database)) == ([], [])


# --- refused addresses ---


def test_internal_addresses_are_not_reached(one_database: Database, there: Receiver) -> None:
    """The URLs cover every spelling of an address of this machine, and names that resolve to it.

    A server on this machine counts the connections.
    """
    port = there.port
    urls = [f"http://{url.split('/')[2]}:{port}/" for url in INSIDE] + MALFORMED
    hosts = ["evil.example", "mixed.example", "mapped.example"]
    urls += [f"http://{host}:{port}/" for host in hosts]
    answers = {
        "evil.example": ["127.0.0.1"],
        "mixed.example": ["8.8.8.8", "127.0.0.1"],
        "mapped.example": ["::ffff:127.0.0.1"],
    }
    cancelled_at_once(one_database, urls)
    made = sender(one_database, GUARDED, resolve=lambda host, _: answers.get(host, ["127.0.0.1"]))
    while made.round():
        made.wait(PATIENCE)
    assert there.hits == []
    assert len(waiting(one_database)) == len(urls)
    with one_database.read() as session:
        ends = list(session.scalars(select(JobEvent.data).where(JobEvent.type == "webhook_failed")))
    assert len(ends) == len(urls)
    refused = [data["reason"] for data in ends if data["reason"].startswith("is not allowed: ")]
    assert len(refused) == len(urls) - len(hosts)
    others = {data["reason"] for data in ends} - set(refused)
    assert others == {"could not be reached: the name has no public address"}


def test_a_name_is_resolved_once(one_database: Database, there: Receiver) -> None:
    """A second lookup could return another address than the checked one."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "127.0.0.2"]

    with receiver("127.0.0.2", there.port) as inside:
        cancelled(one_database, f"http://rebinding.example:{there.port}/")
        send(one_database, resolve=rebinding)
        assert (len(there.hits), len(inside.hits), asked) == (1, 0, ["rebinding.example"])
    assert there.hits[0][1]["host"] == f"rebinding.example:{there.port}"


def test_proxies_of_the_environment_are_ignored(
    one_database: Database, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        cancelled(one_database, there.url)
        send(one_database)
        assert (len(there.hits), proxy.hits) == (1, [])


# --- TLS ---


@pytest.fixture
def receiver_with_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[int, list[str | None]]]:
    """Run a TLS server for receiver.example on loopback, whose authority is trusted.

    Yield its port, and the server names that clients sent.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("receiver.example").configure_cert(context)
    names: list[str | None] = []
    context.sni_callback = lambda connection, name, _: names.append(name)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    heard = b""
                    while not heard.endswith(b"{}"):
                        heard += wrapped.recv(65_536)
                    wrapped.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            except ssl.SSLError:
                continue  # The client rejected the certificate.
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], names
        server.shutdown(socket.SHUT_RDWR)


def post(port: int, host: str, addresses: list[str]) -> int:
    return webhooks.send(
        f"https://{host}:{port}/", "msg_1", {}, SECRET, allow_private=True, resolve=lambda *_: addresses
    )


def test_the_name_is_checked_and_not_the_address(
    receiver_with_tls: tuple[int, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, names = receiver_with_tls
    assert post(port, "receiver.example", ["127.0.0.1"]) == 202
    assert post(port, "receiver.example", ["127.0.0.9", "127.0.0.1"]) == 202  # one address after another
    assert names == ["receiver.example"] * 2
    with pytest.raises(DeliveryFailed, match=r"(?i)hostname mismatch"):
        post(port, "other.example", ["127.0.0.1"])
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(DeliveryFailed, match=r"(?i)certificate verify failed"):
        post(port, "receiver.example", ["127.0.0.1"])
