"""Finished jobs with stored images, a model and a report, made without a training."""

import hashlib
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from sqlalchemy import insert, update

from core.clip.evaluation.accuracy import job_metrics
from core.clip.evaluation.label_issues import LabelIssue
from core.clip.evaluation.verdict import judge
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.prompts import Candidates
from core.clip.weights.delta import encode
from core.clip.weights.support_set import encode_support_set
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.ids import new_id
from core.store.db.tables import Job, JobImage
from core.store.registry import models
from tests.api.service import Service
from tests.api.serving.adapted import moved, publish_model
from tests.api.web.window import shot
from tests.core.clip.reports import held_out, report_fields
from tests.core.store import samples

CLASSES = ("red", "green", "yellow")
NAMES = (*CLASSES, "oak", "elm")
LOGIT_SCALE = 40.0
Running = tuple[Service, str]
"""A service and its URL."""


@dataclass(frozen=True)
class Finished:
    job: str
    model: str


def finish_job(
    service: Service,
    backbone: Backbone,
    *,
    name: str | None = "colours",
    stock: float = 0.5,
    adapted: float = 0.9,
    images: int = 30,
    test: bool = True,
    label_issues: tuple[LabelIssue, ...] = (),
    label_accuracy: float = 0.9,
    evaluated: bool = True,
    **config: Any,
) -> Finished:
    """Store a job of 3 classes and its model.

    Args:
        stock: share of the images that the pre-trained model classifies correctly.
        adapted: share of the images that the model classifies correctly.
        images: number of evaluated images. Each is a test image, or a training image.
        test: evaluate on test images. There are 12 training images before them.
    """
    train = 12 if test else 0
    held = replace(
        held_out(stock, adapted, images),
        candidates=Candidates.of(NAMES, CLASSES, ["{}"]),
        positions=np.arange(train, train + images),
        fold_models=0 if test else 2,
    )
    source = "test" if test else "cross_validation"
    verdict = judge(held, LOGIT_SCALE).verdict if evaluated else "not_evaluated"
    made = job_metrics(
        held if evaluated else None, verdict, source=source, trained_images=train or images
    ).model_dump(mode="json")
    delta = encode(tower_parameters(backbone.model), moved(backbone), "full")
    labels = [n % len(CLASSES) for n in range(train or images)]
    drawn = [Image.open(io.BytesIO(shot(CLASSES[label], n, size=96))) for n, label in enumerate(labels)]
    shots = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in drawn]
    model_id = publish_model(
        service.database,
        service.blobs,
        backbone,
        delta=delta,
        shots=encode_support_set(backbone, delta, shots, labels),
        classes=CLASSES,
        name=name,
        metrics=made,
        **config,
    )
    with service.database.read() as session:
        job_id = models.get(session, model_id, owner=DEFAULT_OWNER).job_id
    assert job_id is not None
    _store_images(service, job_id, train, images)
    if evaluated:
        written = report_fields(
            held, source=source, label_issues=list(label_issues), label_accuracy=label_accuracy
        )
        samples.store_report(service.database, service.blobs, job_id, written, made)
    return Finished(job_id, model_id)


def _store_images(service: Service, job_id: str, train: int, evaluated: int) -> None:
    rows = []
    for position in range(train + evaluated):
        class_name = CLASSES[position % len(CLASSES)]
        content = shot(class_name, position, size=96)
        key = f"jobs/{job_id}/{position:05d}"
        service.blobs.put(key, content)
        rows.append(
            {
                "id": new_id("pic"),
                "job_id": job_id,
                "position": position,
                "split": "train" if position < train or not train else "test",
                "class_name": class_name,
                "file_name": f"{class_name} {position}.png",
                "blob_key": key,
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
            }
        )
    with service.database.write() as session:
        session.execute(insert(JobImage), rows)
        counts = [
            {
                "name": name,
                "images": sum(r["class_name"] == name and r["split"] == "train" for r in rows),
                "test_images": sum(r["class_name"] == name and r["split"] == "test" for r in rows),
            }
            for name in CLASSES
        ]
        session.execute(update(Job).where(Job.id == job_id).values(classes=counts))
