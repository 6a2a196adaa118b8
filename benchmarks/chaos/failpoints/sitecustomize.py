"""Trainers that misbehave, without a line in the product: Python imports this file at its start where its
folder is on PYTHONPATH, and a backbone of a certain name then is the trainer's end.

And trainers that start sooner: see forks.py. And trainers that hold at a step, so that a test need not
guess how long a training takes.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

HOLD = "PYTHON_HOLD"
"""The variable that names a file: while it exists, no step after the one whose number it holds is told."""


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not str(arguments[0]).endswith("/open_clip_config.json"):
        return
    name = os.path.basename(os.path.dirname(str(arguments[0])))  # noqa: PTH119, PTH120
    if name == "aborts":
        os.abort()
    if name == "spins":  # for ever, in C, with the interpreter's lock held
        re.match(r"(a+)+$", "a" * 64 + "b")


def _hold(path: Path) -> None:
    """A trainer tells its steps as JSON, and goes on when it has told one."""
    dumps = json.dumps

    def dumps_later(value: Any, **options: Any) -> str:
        while isinstance(value, dict) and value.get("type") == "step":
            try:
                last = path.read_text()
            except FileNotFoundError:
                break
            if last and value["step"] <= int(last):  # empty: it is being written
                break
            time.sleep(0.02)
        return dumps(value, **options)

    json.dumps = dumps_later  # type: ignore[assignment]


if "worker.trainer" in sys.orig_argv and HOLD in os.environ:
    _hold(Path(os.environ[HOLD]))

if "worker.trainer" in sys.orig_argv or "forks.py" in "".join(sys.orig_argv):
    sys.addaudithook(_audit)
    # As if it were not installed: the tiny networks do without, and its import takes longer than they train.
    sys.modules["transformers"] = None  # type: ignore[assignment]
if "worker.trainer" in sys.orig_argv and (forks := os.environ.get("PYTHON_CHAOS_FORKS")):
    from benchmarks.chaos.failpoints.forks import stand_in

    stand_in(forks)
