"""Responses of models."""

from collections.abc import Sequence

from clipcite.types.models import Model
from clipcite.types.report import Metrics
from core.clip.evaluation.report_text import verdict_sentences
from core.store.db import tables
from core.store.registry import models


def to_model(row: tables.Model, aliases: Sequence[str] = ()) -> Model:
    """Return the response for a model."""
    measured = models.measured(row)
    metrics = None if measured is None else Metrics.model_validate(measured)
    if metrics is not None:
        metrics.sentences = verdict_sentences(metrics)
    return Model(
        id=row.id,
        name=row.name,
        version=row.version,
        aliases=list(aliases),
        job_id=row.job_id,
        backbone=row.backbone,
        trained_classes=row.classes,
        alpha=row.alpha,
        templates=row.templates,
        prompts=row.prompts,
        bytes=row.bytes,
        delta_format=row.delta_format,
        created_at=row.created_at,
        created_by=row.created_by,
        metrics=metrics,
        evaluated=models.evaluation_key(row) is not None,
        promoted=row.promoted,
        not_promoted=models.not_promoted(row),
    )
