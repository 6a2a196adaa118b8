"""The command line in a real terminal: progress bars, Ctrl-C, NO_COLOR."""

import os
import re
import signal
import sys
from pathlib import Path

import pexpect
import psutil
import pytest

from clipcite import Client, Job
from tests.service.running import Service, wait_for

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def terminal(service: Service, *arguments: str, **settings: str) -> "pexpect.spawn[str]":
    variables = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}}
    return pexpect.spawn(
        sys.executable,
        ["-m", "clipcite", *arguments],
        env={**variables, "CLIPCITE_URL": service.url, "TERM": "xterm-256color", **settings},  # type: ignore[arg-type]
        dimensions=(30, 110),
        timeout=600,
        encoding="utf-8",
        preexec_fn=_as_from_a_shell,
    )


def _as_from_a_shell() -> None:
    """Restore the default Ctrl-C handling.

    Tests in the background (`pytest &`, `nohup`) ignore Ctrl-C, and their children inherit that. A shell in a
    terminal gives its programs the default.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_detaches_and_the_job_goes_on(service: Service, folder: Path) -> None:
    session = terminal(
        service, "adapt", str(folder), "--wait", "--epochs", "1000", "--config", '{"batch_size": 4}'
    )
    session.expect(r"job_\w+")
    job_id = session.match.group(0)
    session.expect("Training")
    session.sendintr()
    session.expect(f"clipcite jobs wait {job_id}")
    session.expect(pexpect.EOF)
    session.close()
    assert session.exitstatus == 130
    with Client(service.url) as client:
        assert client.jobs.get(job_id).status == "running"
        again = terminal(service, "jobs", "wait", job_id)  # Follow the job again.
        again.expect("Training")
        client.jobs.cancel(job_id)
        again.expect("cancelled")
        again.expect(pexpect.EOF)
        again.close()
        assert again.exitstatus == 1


@pytest.mark.parametrize("colours", [True, False])
def test_colours_on_a_terminal_unless_disabled(service: Service, taught: Job, colours: bool) -> None:
    session = (
        terminal(service, "jobs", "list") if colours else terminal(service, "jobs", "list", NO_COLOR="1")
    )
    session.expect(pexpect.EOF)
    session.close()
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-7]m", session.before or "")) == colours
    assert taught.id[-6:] in ANSI.sub("", session.before or "")


def test_a_deletion_is_confirmed(service: Service, taught: Job) -> None:
    for name, kind in ((taught.id, "jobs"), (taught.model_id or "", "models")):
        session = terminal(service, kind, "delete", name)
        session.expect(f"Delete .*{name}")
        session.sendline("n")
        session.expect(pexpect.EOF)
        session.close()
        assert session.exitstatus == 1
    with Client(service.url) as client:
        assert client.models.get(taught.model_id or "").job_id == client.jobs.get(taught.id).id


def test_sort_without_a_model_asks_for_one(service: Service, taught: Job, folder: Path) -> None:
    """It names the models and the page, and also accepts class names for the pre-trained model."""
    for typed in (str(taught.model_id), "red, blue"):
        with Client(service.url) as client:  # a pile of the same images would be continued
            for pile in client.piles.list():
                client.piles.delete(pile.id)
        session = terminal(service, "sort", str(folder))
        session.expect(f"Your models: .*{taught.model_id}")
        session.expect("To group the images first and name the groups, choose Sort on http://")
        session.expect("A model, or class names separated by commas: ")
        session.sendline(typed)
        session.expect(r"Copy \d+ images into")
        session.sendline("n")
        session.expect(pexpect.EOF)
        session.close()
        assert session.exitstatus == 1


@pytest.mark.parametrize(
    ("options", "question"),
    [
        (["--label", "2", "--yes"], "Class"),
        (["--check", "2", "--yes"], "Class: "),
        ([], r"Copy \d+ images into"),
    ],
    ids=["label", "check", "copy"],
)
def test_ctrl_c_at_a_question_ends_the_sort(
    service: Service, folder: Path, options: list[str], question: str
) -> None:
    session = terminal(service, "sort", str(folder), "-c", "red,blue", *options)
    session.expect(question)
    # A signal just before the process waits for input would be handled with the next key.
    wait_for(lambda: psutil.Process(session.pid).status() == psutil.STATUS_SLEEPING)
    session.sendintr()
    session.expect("Stopped. The same command continues.")
    session.expect(pexpect.EOF)
    session.close()
    assert session.exitstatus == 130
    assert [path.suffix for path in folder.with_name(f"{folder.name}-sorted").iterdir()] == [".jsonl"]
