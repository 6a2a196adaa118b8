"""Worker for test_queue.py in a process of its own: writes the job ids that it receives, one per line."""

import sys
from pathlib import Path

from core.settings import Settings
from core.store.jobs.queue import ADAPT_TASK, QUEUE, make_celery

notes = Path(sys.argv[1])
app = make_celery(Settings())


@app.task(name=ADAPT_TASK)
def adapt(job_id: str) -> None:
    with notes.open("a") as file:
        file.write(f"{job_id}\n")


app.worker_main(["worker", "--without-gossip", "--without-mingle", "-Q", QUEUE, "-l", "WARNING"])
