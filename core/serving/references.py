"""What the `model` of a request means, looked up once: stock, a model of the owner, or one of their jobs."""

from collections.abc import Sequence

from core.serving.previews import JobPreview, is_job
from core.store.db.session import Database
from core.store.db.tables import Model
from core.store.jobs import jobs
from core.store.registry import models
from core.store.registry.references import STOCK

Subject = Model | JobPreview | str
"""What can classify. Text is `stock` or `stock:<backbone>`."""


def is_stock(reference: str) -> bool:
    return reference.partition(":")[0] == STOCK


def look_up(database: Database, references: Sequence[str], *, owner: str) -> list[Subject]:
    """A job's id is its model, and as long as it has none its preview.

    Raises JobNotFound, ModelNotFound.
    """
    found: list[Subject] = list(references)
    with database.read() as session:
        for i, reference in enumerate(references):
            if is_job(reference):
                job = jobs.get(session, reference, owner=owner)
                if job.model_id is None:
                    found[i] = JobPreview.of(job)
                else:
                    found[i] = models.get(session, job.model_id, owner=owner)
            elif not is_stock(reference):
                found[i] = models.resolve(session, reference, owner=owner)
    return found
