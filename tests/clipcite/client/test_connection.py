"""The Python client on lost, slow and untrusted connections, without a service."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clipcite import APIConnectionError, APIStatusError, Client, InvalidAddress, Retry, WaitTimeout
from clipcite.__main__ import app
from clipcite.client.address import DEFAULT_URL, settings_of
from clipcite.types.classify import CLASSIFICATION_EXAMPLE, RESULT_EXAMPLE
from tests.clipcite.client.awaited import awaited_client
from tests.clipcite.client.scripted import response, scripted_server

QUICK = Retry(attempts=3, first_seconds=0.01)
ALIAS = (
    '{"name": "a", "alias": "prod", "reference": "a@prod", "model": "mdl_1", "version": 2, "revision": 1, '
    '"history": []}'
)
JOB = (
    '{"id": "job_x", "status": "running", "created_at": "2026-01-01T00:00:00Z", "cancel_requested": false, '
    '"config": {}, "classes": [], "attempts": 1, "warnings": []}'
)
both = pytest.mark.parametrize("connect", [Client, awaited_client])


@both
def test_a_rollback_is_sent_once(connect: Any) -> None:
    """After a lost response, a retry could roll back twice. A promotion can be repeated."""
    with (
        scripted_server(b"", b"", response(ALIAS)) as lost,
        connect(lost.url, "key", retry=QUICK) as client,
    ):
        with pytest.raises(APIConnectionError):
            client.aliases.rollback("a", "prod")
        assert len(lost.seen) == 1
        assert client.aliases.promote("a", "prod", "a@2").version == 2
        assert len(lost.seen) == 3


def test_a_certificate_of_an_own_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=own"
    made += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(made.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    for proxy in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    ready = response('{"status": "ok", "parts": {}, "version": "0", "backbone": "starter", "device": "cpu"}')
    with scripted_server(ready, tls=context) as there:
        for connect in (Client, awaited_client):
            with (
                connect(there.url, "key", retry=Retry(attempts=1)) as client,
                pytest.raises(APIConnectionError, match=r"CERTIFICATE_VERIFY_FAILED: .*SSL_CERT_FILE"),
            ):
                client.ready()
        done = CliRunner().invoke(app, ["models", "list", "--url", there.url])
        assert done.exit_code == 3
        assert "is not trusted (CERTIFICATE_VERIFY_FAILED: " in done.stderr
        assert "SSL_CERT_FILE" in done.stderr
        assert "clipcite serve" not in done.stderr
        monkeypatch.setattr("clipcite.cli.doctor.server_missing", lambda: "pip install clipcite")
        found = json.loads(CliRunner().invoke(app, ["doctor", "--json", "--url", there.url]).stdout)
        assert "is not trusted" in found[-1]["detail"]

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        for connect in (Client, awaited_client):
            with connect(there.url, "key") as client:
                assert client.ready().status == "ok"
        monkeypatch.setenv("SSL_CERT_FILE", str(key))
        with pytest.raises(InvalidAddress, match="SSL_CERT_FILE"):
            Client(there.url)


@both
@pytest.mark.parametrize("first", [[], [response(JOB)]])
def test_a_wait_ends_in_time_without_a_response(connect: Any, first: list[bytes]) -> None:
    """Without a response to the first request, and to the next one."""
    with scripted_server(*first, None) as silent, connect(silent.url, "key") as client:
        with pytest.raises(WaitTimeout, match=r"job_x .*continues") as timed_out:
            client.jobs.wait("job_x", timeout=1)
        assert (timed_out.value.job is not None) == bool(first)
        assert len(silent.seen) > len(first)


@both
@pytest.mark.parametrize("answer", [b"", response('{"code": "starting"}', status=503)])
def test_a_wait_ends_in_time_without_a_service(connect: Any, answer: bytes) -> None:
    """Its pauses between two tries are longer than the rest of the time."""
    with (
        scripted_server(answer) as there,
        connect(there.url, "key") as client,
        pytest.raises(WaitTimeout, match=r"job_x .*continues"),
    ):
        client.jobs.wait("job_x", timeout=0.7)


@pytest.mark.slow
def test_names_that_the_output_cannot_encode() -> None:
    jobs = response(
        json.dumps({"data": [{**json.loads(JOB), "name": "обувь é \udce9"}], "next_cursor": None})
    )
    with scripted_server(jobs) as there:
        for encoding, name in (("latin-1", "????? é ?"), ("utf-8", "обувь é ?")):
            for options in ([], ["--json"]):
                done = subprocess.run(
                    [sys.executable, "-m", "clipcite", "jobs", "list", "--url", there.url, *options],
                    env={**os.environ, "PYTHONIOENCODING": encoding},
                    capture_output=True,
                    check=True,
                )
                shown = done.stdout.decode(encoding)
                if options:
                    assert json.loads(shown)[0]["name"] == "обувь é \udce9"
                else:
                    assert name in shown


@both
def test_a_client_waits_while_the_service_starts(connect: Any) -> None:
    starting = response(json.dumps({"code": "starting", "detail": "The service is starting."}), status=503)
    with scripted_server(*[starting] * 5, response(ALIAS)) as there:
        with connect(there.url, "key", retry=QUICK) as client:
            assert client.aliases.promote("a", "prod", "a@2").version == 2
        assert len(there.seen) == 6
    with (
        scripted_server(starting) as there,
        connect(there.url, "key", retry=Retry(attempts=1)) as client,
        pytest.raises(APIStatusError, match="is starting"),
    ):
        client.aliases.promote("a", "prod", "a@2")
    with scripted_server(starting, b"") as there, connect(there.url, "key", retry=QUICK) as client:
        with pytest.raises(APIConnectionError):  # the start has failed
            client.aliases.promote("a", "prod", "a@2")
        assert len(there.seen) == 1 + QUICK.attempts


@both
def test_a_service_that_is_not_ready_gives_its_reasons(connect: Any) -> None:
    parts = {"backbone": {"status": "unavailable", "reason": "The hub can't be reached."}}
    status = {"status": "unavailable", "parts": parts, "version": "1", "backbone": "x", "device": "cpu"}
    unready = response(json.dumps(status), status=503)
    with scripted_server(unready) as there, connect(there.url, "key", retry=Retry(attempts=1)) as client:
        readiness = client.ready()
    assert not readiness.ready
    assert readiness.parts["backbone"]["reason"] == "The hub can't be reached."


def test_the_address_of_this_machines_service_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPCITE_DATA", str(tmp_path))
    monkeypatch.delenv("CLIPCITE_URL", raising=False)
    assert str(settings_of(None, None)["base_url"]) == DEFAULT_URL
    (tmp_path / "serve.lock").write_text("http://127.0.0.1:8123")
    (tmp_path / "token").write_text("t0ken\n")
    found = settings_of(None, None)
    assert str(found["base_url"]) == "http://127.0.0.1:8123"
    assert found["headers"]["Authorization"] == "Bearer t0ken"
    assert str(settings_of("http://127.0.0.1:9", None)["base_url"]) == "http://127.0.0.1:9"


def classified(model: str, images: int) -> bytes:
    results = [RESULT_EXAMPLE] * images
    return response(json.dumps({**CLASSIFICATION_EXAMPLE, "model": model, "results": results}))


@both
def test_results_are_of_one_model_even_if_the_job_gets_it_meanwhile(connect: Any) -> None:
    """Before that, the results are those of the instant preview."""
    images = [b"an image"] * 40
    mixed = [classified("job_1", 32), classified("mdl_1", 8)]
    parts = [classified("mdl_1", 32), classified("mdl_1", 8)]
    with scripted_server(*mixed, *parts) as server, connect(server.url) as client:
        found = client.classify(images, model="job_1")
        assert (found.model, len(found)) == ("mdl_1", 40)
        assert server.seen == ["POST /classify"] * 4
