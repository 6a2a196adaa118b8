"""Importing a module has no side effect, and loads no package that its users lack or would wait for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys, threading
import psutil
started = []
sys.addaudithook(lambda event, args: started.append(event) if event in HOOKED else None)
import {libraries}  # they set variables of their own, and with CUDA they run ldconfig
started.clear()
before = dict(os.environ)
import {module}
after = dict(os.environ)
changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
children = [child.cmdline() for child in psutil.Process().children(recursive=True)]
python_threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps([changed, children, python_threads, started]))
""".replace(
    "HOOKED", "('subprocess.Popen', 'os.fork', 'os.posix_spawn', 'os.exec', '_thread.start_new_thread')"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "libraries"), [("api.app", "open_clip, torch._inductor"), ("worker.celery_app", "celery")]
)
def test_an_import_starts_nothing(module: str, libraries: str, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CLIPCITE_", "OMP_"))},
        "CLIPCITE_DATA": str(tmp_path),
        "CELERY_BROKER_URL": "redis://elsewhere",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(module=module, libraries=libraries)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    changed, children, threads, started = json.loads(done.stdout)
    assert changed == []
    assert (children, threads) == ([], [])
    assert started == []


LIGHT = {
    # Modules: packages and modules that they must not load.
    "clipcite, clipcite.__main__": "torch numpy PIL pydantic sqlalchemy fastapi api worker core pillow_heif "
    "clipcite.types.base",
    "clipcite.types.jobs": "httpx rich clipcite.client",
    "api.__main__": "torch open_clip torchvision",
    "api.app": "scipy.stats",
    "core.clip.evaluation.report_text": "torch numpy",
    # A worker and a dispatcher live as long as the service; the trainer alone computes.
    "worker.celery_app, worker.job_runner": "torch open_clip",
    "worker.dispatcher.__main__": "torch open_clip",
    "core.clip.config, core.clip.errors, core.clip.prompts, core.clip.weights.manifest, "
    "core.clip.training.progress": "torch open_clip numpy PIL transformers",
}


@pytest.mark.parametrize("modules", LIGHT)
def test_an_import_stays_light(modules: str) -> None:
    program = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {*LIGHT[modules].split()} & {*done.stdout.split()}
