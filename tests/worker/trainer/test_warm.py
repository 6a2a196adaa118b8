"""The warm trainer, with stand-ins. test_trainer.py tests the real one."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.running import wait_for
from tests.worker.conftest import StandIn
from worker.trainer import supervisor
from worker.trainer.process import MALLOC, WarmTrainer
from worker.trainer.supervisor import TrainerDied, run_trainer

DONE = "folder = job(); say(type='done', metrics={'pid': os.getpid(), 'folder': folder, 'cold': cold})"


@pytest.fixture
def warm_trainer() -> Iterator[WarmTrainer]:
    warm_trainer = WarmTrainer()
    yield warm_trainer
    warm_trainer.close()


def run(warm_trainer: WarmTrainer, folder: Path, **more: Any) -> dict[str, Any]:
    """Return the metrics of the last message."""
    given: dict[str, Any] = {
        "on_message": lambda message: None,
        "should_stop": lambda: False,
        "deadline_seconds": 120,
        "stall_seconds": 120,
        "warm_trainer": warm_trainer,
    }
    return run_trainer(folder, **{**given, **more}).metrics


def process_of(warm_trainer: WarmTrainer) -> psutil.Process:
    assert warm_trainer.pid is not None
    return psutil.Process(warm_trainer.pid)


def wait_until_dead(process: psutil.Process) -> None:
    """Wait without reaping the process: the pool reads its exit status."""
    with suppress(psutil.NoSuchProcess):
        wait_for(lambda: process.status() == psutil.STATUS_ZOMBIE)


def test_the_warm_trainer_gets_one_job(warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in(DONE)
    warm_trainer.prepare()
    waiting = process_of(warm_trainer)
    warm_trainer.prepare()
    assert warm_trainer.pid == waiting.pid  # At most one trainer waits.
    folder = tmp_path / "with 'quotes' and ü"
    assert run(warm_trainer, folder) == {"pid": waiting.pid, "folder": str(folder), "cold": False}
    assert not waiting.is_running()
    assert warm_trainer.pid is None  # The next trainer starts only on request.
    assert run(warm_trainer, tmp_path)["cold"]


def test_a_trainer_killed_while_it_waits_costs_no_attempt(
    warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in(DONE)
    warm_trainer.prepare()
    process_of(warm_trainer).kill()
    assert run(warm_trainer, tmp_path)["cold"]
    warm_trainer.prepare()
    killed = process_of(warm_trainer)
    killed.kill()
    wait_until_dead(killed)
    warm_trainer.prepare()  # A new trainer replaces it.
    waiting = process_of(warm_trainer)
    assert waiting.pid != killed.pid
    assert run(warm_trainer, tmp_path)["pid"] == waiting.pid


@pytest.mark.parametrize(
    "before_its_first_word",
    ["os._exit(1)", "os.kill(os.getpid(), 9)", "print('{\"type', end='', flush=True); os._exit(0)"],
)
def test_a_trainer_that_dies_before_its_start_costs_no_attempt(
    warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path, before_its_first_word: str
) -> None:
    stand_in(f"folder = job()\nif not cold: {before_its_first_word}\n{DONE.partition('; ')[2]}")
    warm_trainer.prepare()
    gone = process_of(warm_trainer)
    assert run(warm_trainer, tmp_path)["cold"]
    assert not gone.is_running()


def test_a_hanging_trainer_is_replaced(
    warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "TAKE_SECONDS", 0.5)
    stand_in(f"if not cold: time.sleep(60)\n{DONE}")
    warm_trainer.prepare()
    hanging = process_of(warm_trainer)
    assert run(warm_trainer, tmp_path)["cold"]
    assert not hanging.is_running()


def test_a_trainer_that_dies_during_the_job_costs_an_attempt(
    warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in("job(); say(type='phase', phase='starting'); os.kill(os.getpid(), 9)")
    warm_trainer.prepare()
    with pytest.raises(TrainerDied, match="memory"):
        run(warm_trainer, tmp_path)


def test_its_whole_group_ends(warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in(
        "import subprocess\n"
        "other = subprocess.Popen(['sleep', '60'])\n"
        "job(); say(type='done', metrics={'other': other.pid})"
    )
    warm_trainer.prepare()
    other = run(warm_trainer, tmp_path)["other"]
    if psutil.pid_exists(other):
        wait_until_dead(psutil.Process(other))


def test_close_ends_the_trainer(warm_trainer: WarmTrainer, stand_in: StandIn) -> None:
    stand_in("time.sleep(60)")
    warm_trainer.prepare()
    waiting = process_of(warm_trainer)
    warm_trainer.close()
    assert not waiting.is_running()
    warm_trainer.prepare()
    assert warm_trainer.pid is None
    warm_trainer.close()  # Repeating the close does no harm.


def test_a_failed_start_of_the_warm_trainer_is_no_error(
    warm_trainer: WarmTrainer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    warm_trainer.prepare()
    assert warm_trainer.pid is None
    assert "A warm trainer could not be started" in caplog.text


def test_the_trainer_gets_no_secrets(
    warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "CLIPCITE_ADMIN_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "CELERY_BROKER_URL",
        "DATABASE_URL",
        "PGPASSWORD",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
    ):
        monkeypatch.setenv(name, "hunter2")
    for name in ("HTTPS_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://user:hunter2@proxy.example:3128")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stand_in("job(); say(type='done', metrics=dict(os.environ))")
    warm_trainer.prepare()
    seen = run(warm_trainer, tmp_path)
    assert "hunter2" not in json.dumps(seen)
    assert seen["OMP_NUM_THREADS"] == "1"
    assert seen["PATH"] == os.environ["PATH"]
    assert seen["HTTPS_PROXY"] == seen["http_proxy"] == "http://proxy.example:3128"


def test_the_users_own_settings_of_malloc_are_kept(
    warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("job(); say(type='done', metrics=dict(os.environ))")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    for name in MALLOC:
        monkeypatch.delenv(name, raising=False)
    assert MALLOC.items() <= run(warm_trainer, tmp_path).items()
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "123456")
    seen = run(warm_trainer, tmp_path)
    assert {k: v for k, v in seen.items() if k.startswith("MALLOC_")} == {"MALLOC_MMAP_THRESHOLD_": "123456"}


def test_signals_to_the_workers_group_do_not_reach_the_trainer(
    warm_trainer: WarmTrainer, stand_in: StandIn, tmp_path: Path
) -> None:
    """Ctrl-C in a terminal signals the whole foreground group; only the worker may end its trainer."""
    stand_in(DONE)
    warm_trainer.prepare()
    assert warm_trainer.pid is not None
    assert os.getpgid(warm_trainer.pid) == warm_trainer.pid != os.getpgid(0)
    assert os.getsid(warm_trainer.pid) == warm_trainer.pid
    os.kill(warm_trainer.pid, signal.SIGTERM)  # A terminated trainer ends.
    wait_until_dead(process_of(warm_trainer))
    assert run(warm_trainer, tmp_path)["cold"]
