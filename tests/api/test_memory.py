"""Closed applications leave nothing in memory."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from core.clip.models.backbone import Backbone

APPLICATIONS = 50
MAX_GROWTH = 20_000  # kB


def test_closed_applications_cost_no_memory(tmp_path: Path, migrated: Path, backbone: Backbone) -> None:
    """Each loads the network, records it and answers. The first ones also fill what a process keeps."""
    script = f"""
        import gc, re, shutil, sys
        from pathlib import Path
        from tests.api.service import service
        from tests.api import crafted

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

        def resident():
            gc.collect()
            return int(re.search(r"VmRSS:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

        folder, migrated, backbone = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
        for number in range(10):
            use(number)
        before = resident()
        for number in range({APPLICATIONS}):
            use(10 + number)
        print(resident() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(migrated), backbone.name]
    # As the API sets it: otherwise heaps of threads that have ended come and go.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MAX_GROWTH, done.stdout
