"""Open event streams when their process ends."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.store.db.session import Database
from tests.api.streams import connect
from tests.core.store import samples
from tests.servers import free_port
from tests.service.running import PATIENCE, is_ready, wait_for


@pytest.mark.slow
def test_fifty_open_streams_are_ended_properly_at_sigterm(
    environment: dict[str, str], migrated: Path, tmp_path: Path
) -> None:
    """The process's log has one JSON object per line until then."""
    shutil.copy(migrated, tmp_path / "clipcite.db")
    database = Database(f"sqlite:///{tmp_path / 'clipcite.db'}")
    job_id = samples.new_job(database, images=[])  # the storage has no file
    database.close()
    port = free_port()
    given = {"CLIPCITE_DATA": str(tmp_path), "CLIPCITE_PORT": str(port), "CLIPCITE_LOG": "json"}
    process = subprocess.Popen(
        [sys.executable, "-m", "api"], env={**os.environ, **environment, **given}, stderr=subprocess.PIPE
    )

    async def follow() -> list[bytes]:
        streams = await asyncio.gather(*(connect(port, job_id) for _ in range(50)))
        for reader, _ in streams:
            await asyncio.wait_for(reader.readuntil(b"event: log"), PATIENCE)
        process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in streams)), PATIENCE)

    try:
        wait_for(lambda: is_ready(f"http://127.0.0.1:{port}"))
        rest = asyncio.run(follow())
        said = process.communicate(timeout=PATIENCE)[1].decode()
        assert "Traceback" not in said, said
    finally:
        process.kill()
    assert all(chunk.endswith(b"0\r\n\r\n") for chunk in rest)  # The streams end in order, and are not cut.
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"timestamp", "level", "logger", "process", "message"} == set(lines[0])
    assert any("Shutting down" in line["message"] for line in lines)
