"""Worker for test_queue.py in a process of its own: writes the job ids that it receives, one per line.

`job_held` ends once the file `released` is beside the notes.
"""

import sys
import time
from pathlib import Path

from core.settings import Settings
from core.store.jobs.queue import ADAPT_TASK, QUEUE, make_celery

notes = Path(sys.argv[1])
app = make_celery(Settings())


@app.task(name=ADAPT_TASK)
def adapt(job_id: str) -> None:
    with notes.open("a") as file:
        file.write(f"{job_id}\n")
    while job_id == "job_held" and not notes.with_name("released").exists():
        time.sleep(0.05)


app.worker_main(["worker", "--without-gossip", "--without-mingle", "-Q", QUEUE, "-l", "WARNING"])
