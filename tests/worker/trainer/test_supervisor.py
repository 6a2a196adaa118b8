"""The trainer's process, with misbehaving stand-ins. tests/service tests the real one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.worker.conftest import StandIn
from worker.trainer.protocol import Done, Message, PhaseBegun
from worker.trainer.supervisor import Stopped, TrainerDied, TrainerFailed, run_trainer

Run = Callable[..., Done]


@pytest.fixture
def run(stand_in: StandIn, tmp_path: Path) -> Run:
    """Run the passed Python in place of `python -m worker.trainer`."""

    def run(script: str, **more: Any) -> Done:
        stand_in(script)
        given: dict[str, Any] = {
            "on_message": lambda message: None,
            "should_stop": lambda: False,
            "deadline_seconds": 30,
            "stall_seconds": 30,
        }
        return run_trainer(tmp_path, **{**given, **more})

    return run


def test_the_last_message_is_the_result(run: Run) -> None:
    heard: list[Message] = []
    result = run(
        "say(type='phase', phase='steps'); say(type='alive'); say(type='done', metrics={'a': 1}, seconds=2)",
        on_message=heard.append,
    )
    assert (result.metrics, result.seconds) == ({"a": 1}, 2)
    assert [isinstance(message, PhaseBegun) and message.phase for message in heard] == ["steps"]


def test_an_error_of_the_trainer_is_final_but_a_missing_backbone_is_not(run: Run) -> None:
    with pytest.raises(TrainerFailed, match="too high") as failed:
        run("say(type='failed', code='training_diverged', detail='too high')")
    assert failed.value.code == "training_diverged"
    with pytest.raises(TrainerDied) as passing:
        run("say(type='failed', code='backbone_unavailable', detail='hub away')")
    assert passing.value.code == "backbone_unavailable"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("os.kill(os.getpid(), 9)", "memory"),
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("sys.exit(3)", "exit status 3"),
        ("print('{\"type\": \"st', end='', flush=True); os._exit(0)", "without a result"),
    ],
)
def test_an_end_without_a_result_is_retried(run: Run, script: str, says: str) -> None:
    with pytest.raises(TrainerDied, match=says) as died:
        run(script)
    assert died.value.code == "trainer_died"


@pytest.mark.slow
def test_silence_is_a_stall_except_while_loading(run: Run) -> None:
    with pytest.raises(TrainerDied) as stalled:
        run("say(type='phase', phase='steps'); time.sleep(60)", stall_seconds=0.5)
    assert stalled.value.code == "training_stalled"
    loading = "say(type='phase', phase='starting'); time.sleep(1.5); say(type='done', metrics={})"
    assert run(loading, stall_seconds=0.5).metrics == {}
    alive = "say(type='phase', phase='folds')\nfor _ in range(35): time.sleep(0.1); say(type='alive')\n"
    assert run(alive + "say(type='done', metrics={})", stall_seconds=3).metrics == {}


def test_the_deadline_and_a_stop_end_it(run: Run) -> None:
    with pytest.raises(TrainerFailed) as late:
        run("time.sleep(60)", deadline_seconds=0.5)
    assert late.value.code == "deadline_exceeded"
    with pytest.raises(Stopped):
        run("time.sleep(60)", should_stop=lambda: True)


def test_a_frozen_trainer_is_killed(run: Run, tmp_path: Path) -> None:
    """Only the trainer gets SIGSTOP; the supervisor continues until its stall timeout."""
    freezes = """
open(job() + '/pid', 'w').write(str(os.getpid()))
say(type='phase', phase='steps')
os.kill(os.getpid(), 19)
"""
    with pytest.raises(TrainerDied) as frozen:
        run(freezes, stall_seconds=1)
    assert frozen.value.code == "training_stalled"
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.slow
def test_the_deadline_ends_a_computation_that_holds_the_gil(run: Run, tmp_path: Path) -> None:
    """A single C call holds the GIL, so no signal handler and no other thread runs."""
    computes = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(job() + '/pid', 'w').write(str(os.getpid()))
say(type='phase', phase='steps')
sum(iter(int, 1))
"""
    heard: list[Message] = []
    with pytest.raises(TrainerFailed) as late:
        run(computes, deadline_seconds=8, on_message=heard.append)
    assert late.value.code == "deadline_exceeded"
    assert heard  # The computation has started.
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
