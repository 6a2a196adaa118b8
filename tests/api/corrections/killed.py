"""Kill a request with corrections at each step: `python -m tests.api.corrections.killed correct FOLDER`."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from api.corrections import routes
from api.jobs.submission import JobSubmission
from core.settings import Settings
from core.store.db.session import Database
from core.store.storage.blobs import Blobs
from tests.core.store.samples import OWNER, stored_model
from tests.core.store.storage.test_blobs import sha256
from tests.worker import killed


def correct(settings: Settings, database: Database, blobs: Blobs, ready: Path, steps: killed.Steps) -> None:
    """Correct two images of a model, then one of them again, and delete one."""
    model_id = stored_model(database, blobs)
    shots = [
        SimpleNamespace(
            class_name="hare",
            file_name="a.jpg",
            sha256=sha256(image),
            bytes=5,
            read=lambda image=image: image,
        )
        for image in (b"one..", b"two..")
    ]
    nothing = cast(Any, None)
    submission = JobSubmission(settings, database, blobs, killed.SERVING, nothing)
    steps.begin(database)
    for images in (shots, shots[:1]):
        checked = SimpleNamespace(images=images)
        routes.checked_images = lambda *given, checked=checked: nullcontext(checked)  # type: ignore[assignment]
        rows = routes.add_feedback.__wrapped__(submission, model_id, nothing, OWNER).data
    routes.delete_feedback.__wrapped__(submission, OWNER, model_id, rows[0].id)


if __name__ == "__main__":
    killed.SCENARIOS["correct"] = correct
    killed.main(sys.argv[1], Path(sys.argv[2]))
