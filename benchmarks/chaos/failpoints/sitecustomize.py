"""Failpoints in trainers without changes to the product.

Python imports this file at its start if the folder is on PYTHONPATH. A backbone of a certain name then aborts
the trainer. Trainers can also start faster (see forks.py) or hold at a step, so that a test need not
guess the duration of a training.
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.clip.training.progress import StepProgress

HOLD = "PYTHON_HOLD"
"""Variable with a file name. While the file exists, no step after the number in it is reported."""


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not str(arguments[0]).endswith("/open_clip_config.json"):
        return
    if os.path.basename(os.path.dirname(str(arguments[0]))) == "aborts":  # noqa: PTH119, PTH120
        os.abort()


def _hold(path: Path) -> None:
    """Hold a trainer before it reports a step."""
    from worker.trainer.protocol import Step

    start = Step.__init__

    def start_later(step: "Step", *, progress: "StepProgress", **more: Any) -> None:
        while True:
            try:
                last = path.read_text()
            except FileNotFoundError:
                break
            if last and progress.step <= int(last):  # an empty file is being written
                break
            time.sleep(0.02)
        start(step, progress=progress, **more)

    Step.__init__ = start_later  # type: ignore[assignment,method-assign]


if "worker" in sys.orig_argv and (seconds := os.environ.get("PYTHON_CHECKPOINT_SECONDS")):
    from core.settings import Settings

    Settings.checkpoint_seconds = float(seconds)  # type: ignore[assignment,method-assign]
if "worker.trainer" in sys.orig_argv and HOLD in os.environ:
    _hold(Path(os.environ[HOLD]))

if "worker.trainer" in sys.orig_argv or "forks.py" in "".join(sys.orig_argv):
    sys.addaudithook(_audit)
    # Hide transformers: the tiny networks do not need it, and its import takes longer than their training.
    sys.modules["transformers"] = None  # type: ignore[assignment]
if "worker.trainer" in sys.orig_argv and (forks := os.environ.get("PYTHON_CHAOS_FORKS")):
    from benchmarks.chaos.failpoints.forks import stand_in

    stand_in(forks)
