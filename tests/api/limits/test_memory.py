"""Memory of closed applications."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from core.clip.models.backbone import Backbone

pytestmark = pytest.mark.slow

APPLICATIONS = 50
MAX_GROWTH = 20_000_000


def test_closed_applications_cost_no_memory(tmp_path: Path, migrated: Path, backbone: Backbone) -> None:
    """Each application loads the model, records it and answers; the first ones also fill process-wide caches.

    The test counts the bytes that malloc has handed out. Resident memory is unsuitable: the heap keeps freed
    pages or not by chance, by more than the limit.
    """
    script = f"""
        import ctypes, gc, shutil, sys
        from pathlib import Path
        from tests.api.service import service
        from core.serving.engine import Engine
        from tests.api import crafted

        Engine.wait_seconds = 600

        def use(number):
            data = folder / str(number)
            data.mkdir()
            shutil.copy(migrated, data / "clipcite.db")
            with service(data, backbone) as opened:
                files = {{"images": ("a.jpg", crafted.jpeg(1))}}
                form = {{"class_names": ["red fox", "badger"]}}
                answer = opened.client.post("/classify", files=files, data=form)
                assert answer.status_code == 200, answer.text
                assert opened.client.get("/metrics").status_code == 200
                assert opened.client.get("/").status_code == 200

        class Mallinfo(ctypes.Structure):
            _fields_ = [(name, ctypes.c_size_t) for name in (
                "arena", "ordblks", "smblks", "hblks", "hblkhd",
                "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
            )]

        mallinfo2 = ctypes.CDLL(None).mallinfo2
        mallinfo2.restype = Mallinfo

        def in_use():
            gc.collect()
            found = mallinfo2()
            return found.uordblks + found.hblkhd

        folder, migrated, backbone = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
        for number in range(10):
            use(number)
        before = in_use()
        for number in range({APPLICATIONS}):
            use(10 + number)
        print(in_use() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(migrated), backbone.name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MAX_GROWTH, done.stdout
