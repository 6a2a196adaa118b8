"""The real trainer, started cold and warm."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from safetensors.torch import load_file

from clipcite.types.images import Image as LabelledImage
from core.clip.config import resolve_config
from core.clip.models.backbones import keep_speed
from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest
from core.store.db import migrate
from tests.core.clip.tiny import make_tiny_backbone
from tests.service.running import PATIENCE, running_module, wait_for
from worker.trainer.process import WarmTrainer
from worker.trainer.protocol import TASK, TASK_JSON, Done, Message, PhaseBegun, Step, Task
from worker.trainer.supervisor import run_trainer

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # More threads only spin on work this small.


@pytest.fixture
def warm_trainer() -> Iterator[WarmTrainer]:
    warm_trainer = WarmTrainer()
    warm_trainer.prepare()
    yield warm_trainer
    warm_trainer.close()


def write_job(folder: Path, backbone: str, *, checkpoint_seconds: float = 3600, **config: Any) -> Path:
    """Write the inputs of a small job like the worker."""
    folder.mkdir()
    images = []
    for i in range(12):
        name: str = ("red", "green")[i % 2]
        colour = (200 - i, 40, 40) if name == "red" else (40, 200 - i, 40)
        Image.new("RGB", (48, 40), colour).save(folder / f"{i:05d}", "PNG")
        images.append(LabelledImage(f"{i:05d}", name, "test" if i < 4 else "train"))
    settings = {"epochs": 3, "batch_size": 4, **config}
    task = Task(
        config=resolve_config(backbone=backbone, **settings),
        images=images,
        cache=str(folder.parent / "cache"),
        device="cpu",
        max_image_bytes=10_000,
        max_image_pixels=10_000,
        checkpoint_seconds=checkpoint_seconds,
        serving_reserve_bytes=0,
    )
    (folder / TASK).write_bytes(TASK_JSON.dump_json(task))
    return folder


KILLED = """
import json, os, signal, sys
from importlib import import_module
from pathlib import Path
from worker.trainer.__main__ import IMPORTS, TASK_JSON, Channel, train

class Halting(Channel):
    "Waits for the signal after this epoch's checkpoint. Otherwise a small training may end first."
    def checkpoint(self, epoch):
        super().checkpoint(epoch)
        if epoch == self.halt_at:
            signal.pause()

def attempt(folder, kill_at):
    "In a process of its own, killed as soon as it has written this epoch's checkpoint."
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        task = TASK_JSON.validate_json((folder / "task.json").read_bytes())
        channel = Halting(os.fdopen(writing, "w"))
        channel.halt_at = kill_at
        channel.send(train(folder, task, channel))
        os._exit(0)
    os.close(writing)
    heard = []
    for line in os.fdopen(reading):
        heard.append(json.loads(line))
        if (heard[-1]["type"], heard[-1].get("epoch")) == ("checkpoint", kill_at):
            os.kill(pid, signal.SIGKILL)
            break
    return os.waitpid(pid, 0)[1], heard

for module in IMPORTS:
    import_module(module)
if sys.argv[3] == "bf16":
    import_module("core.clip.models.speed").multiplies_bf16 = lambda: True
folder = Path(sys.argv[1])
print(json.dumps([attempt(folder, kill_at) for kill_at in json.loads(sys.argv[2])]))
"""


def attempts(folder: Path, kill_at: list[int], processor: str = "") -> list[tuple[int, list[dict[str, Any]]]]:
    """Run one attempt after the other in the same folder. Return the exit code and the messages of each.

    Args:
        processor: "bf16" for one that multiplies bf16, so that its precision is a choice.
    """
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), json.dumps(kill_at), processor],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[tuple[int, list[dict[str, Any]]]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_killed_three_times_gives_the_same_weights(tmp_path: Path) -> None:
    backbone = make_tiny_backbone(tmp_path / "tiny")
    given = {"epochs": 8, "checkpoint_seconds": 0}
    whole = write_job(tmp_path / "whole", backbone, **given)
    killed = write_job(tmp_path / "killed", backbone, **given)
    ((ended, said),) = attempts(whole, [-1])
    assert (ended, said[-1]["type"]) == (0, "done")
    results = attempts(killed, [1, 3, 5, -1])
    assert [how for how, _ in results] == [signal.SIGKILL] * 3 + [0]
    resumed = [m["epoch"] for _, heard in results for m in heard if m["type"] == "resumed"]
    assert resumed == [1, 3, 5]
    last = results[-1][1]
    assert last[-1]["metrics"] == said[-1]["metrics"]  # The evaluation's result.
    steps = [m["progress"]["step"] for m in last if m["type"] == "step"]
    assert steps == list(range(2 * resumed[-1] + 1, 17))
    one, other = (load_file(folder / WEIGHTS) for folder in (whole, killed))
    assert one.keys() == other.keys()
    assert max(float((one[name] - other[name]).abs().max()) for name in one) == 0.0


def test_an_attempt_keeps_the_precision_of_the_one_before(tmp_path: Path) -> None:
    backbone = make_tiny_backbone(tmp_path / "tiny")
    job = write_job(tmp_path / "job", backbone, epochs=4, checkpoint_seconds=0)
    keep_speed(backbone, tmp_path / "cache", {"precision": "fp32"})
    attempts(job, [1], "bf16")
    keep_speed(backbone, tmp_path / "cache", {"precision": "bf16"})  # as on another machine
    ((_, heard),) = attempts(job, [-1], "bf16")
    kinds = [message["type"] for message in heard]
    assert kinds[-1] == "done"
    assert "resumed" in kinds
    assert "warning" not in kinds
    assert read_manifest((job / MANIFEST).read_bytes()).config["precision"] == "fp32"


def run(folder: Path, warm_trainer: WarmTrainer | None) -> tuple[list[Message], Done]:
    heard: list[Message] = []
    result = run_trainer(
        folder,
        on_message=heard.append,
        should_stop=lambda: False,
        deadline_seconds=PATIENCE,
        stall_seconds=PATIENCE,
        warm_trainer=warm_trainer,
    )
    return heard, result


def phases(heard: list[Message]) -> list[str]:
    return [message.phase for message in heard if isinstance(message, PhaseBegun)]


def test_warm_and_cold_give_the_same(warm_trainer: WarmTrainer, tmp_path: Path) -> None:
    backbone = make_tiny_backbone(tmp_path / "tiny")
    waiting = warm_trainer.pid
    warm = run(write_job(tmp_path / "warm", backbone), warm_trainer)
    assert waiting is not None
    assert warm_trainer.pid is None
    cold = run(write_job(tmp_path / "cold", backbone), None)
    assert warm[1].metrics == cold[1].metrics
    assert warm[1].metrics["trained_classes"]
    assert phases(warm[0]) == phases(cold[0])
    losses = [
        [m.progress.loss["total"] for m in heard if isinstance(m, Step)] for heard in (warm[0], cold[0])
    ]
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]
    files = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("warm", "cold")]
    assert files[0] == files[1]
    digests = {
        hashlib.sha256((tmp_path / name / WEIGHTS).read_bytes()).hexdigest() for name in ("warm", "cold")
    }
    assert len(digests) == 1


def test_no_large_module_is_imported_after_the_job_arrives(tmp_path: Path) -> None:
    """The starter's text tower comes from transformers, which imports modules lazily."""
    from core.settings import Settings

    folder = write_job(tmp_path / "job", "starter", epochs=1, image_size=64)
    script = f"""
import io, json, sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from worker.trainer.__main__ import IMPORTS, TASK_JSON, Channel, train

for module in IMPORTS:
    import_module(module)
import torch

assert not torch.cuda.is_initialized()
before = set(sys.modules)
folder = Path({str(folder)!r})
task = TASK_JSON.validate_json((folder / "task.json").read_bytes())
train(folder, replace(task, cache={str(Settings().cache.absolute())!r}), Channel(io.StringIO()))
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    late = json.loads(done.stdout)
    assert len(late) < 10, late


@pytest.mark.parametrize(
    ("moment", "signum"),
    [("importing", signal.SIGKILL), ("waiting", signal.SIGTERM)],
)
def test_the_trainer_ends_with_its_worker(tmp_path: Path, moment: str, signum: signal.Signals) -> None:
    migrate.upgrade(f"sqlite:///{tmp_path / 'clipcite.db'}")
    environment = {**os.environ, "CLIPCITE_DATA": str(tmp_path), "CLIPCITE_ADMIN_KEY": "hunter2"}
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker"], env=environment, stderr=log, start_new_session=True
        )
    try:
        waiting = wait_for(lambda: running_module(worker.pid, "worker.trainer"))
        assert "hunter2" not in str(waiting.environ())
        if moment == "waiting":
            _until_idle(waiting)
        worker.send_signal(signum)
        worker.wait(PATIENCE)
        if signum == signal.SIGTERM:
            assert not waiting.is_running()  # The worker ended its trainer before its own end.
        psutil.wait_procs([waiting], timeout=PATIENCE)
        assert not waiting.is_running()
    finally:
        worker.kill()
        worker.wait()
    said = (tmp_path / "log").read_text()
    assert "hunter2" not in said
    assert "Traceback" not in said


def _until_idle(process: psutil.Process) -> None:
    """Wait until the trainer has finished its imports and is idle."""
    until = time.monotonic() + PATIENCE
    used = -1.0
    while time.monotonic() < until:
        now = sum(process.cpu_times()[:2])
        if now > 1 and now == used:
            return
        used = now
        time.sleep(1)
    raise AssertionError("It does not come to rest")
