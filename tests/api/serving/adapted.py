"""Adapted models without a training: slightly perturbed weights of a backbone, published like a worker's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from core.clip.config import resolve_config
from core.clip.inference.calibration import FittedCalibration
from core.clip.models.backbone import Backbone, tower_parameters
from core.clip.weights.delta import Delta, encode
from core.clip.weights.files import Weights, save_weights
from core.clip.weights.manifest import MANIFEST, WEIGHTS
from core.clip.weights.support_set import SupportSet
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.jobs import lifecycle
from core.store.storage import deletions
from core.store.storage.blobs import Blobs
from tests.core.store.samples import create_job

CLASSES = ("red fox", "Badger")
KNOWN = FittedCalibration(
    alpha=0.5,
    images=40,
    temperature=2.0,
    nonconformity=tuple((i + 0.5) / 40 for i in range(40)),
)
"""A calibration whose thresholds are easily computed."""


def moved(backbone: Backbone, seed: int = 1, size: float = 0.05) -> dict[str, Tensor]:
    """Return θ_1: every tower parameter with enough noise to change the predictions."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (p.detach() + size * torch.randn(p.shape, generator=generator)).contiguous()
        for name, p in tower_parameters(backbone.model).items()
    }


def publish_model(
    database: Database,
    blobs: Blobs,
    backbone: Backbone,
    *,
    theta_1: Mapping[str, Tensor] | None = None,
    delta: Delta | None = None,
    shots: SupportSet | None = None,
    classes: Sequence[str] = CLASSES,
    name: str | None = None,
    owner: str = DEFAULT_OWNER,
    metrics: dict[str, Any] | None = None,
    **config: Any,
) -> str:
    """Publish a model of a succeeded job and return its id. Weights are stored in full unless `delta_format`
    or `delta` is passed.
    """
    kind = "full" if delta is None else delta.kind
    resolved = resolve_config(backbone=backbone.name, **{"delta_format": kind, **config})
    if delta is None:
        theta_1 = moved(backbone) if theta_1 is None else theta_1
        delta = encode(tower_parameters(backbone.model), theta_1, resolved.delta_format)
    model_id, job_id = new_id("mdl"), new_id("job")
    with TemporaryDirectory() as folder:
        manifest = save_weights(
            Path(folder),
            Weights(delta, shots),
            backbone=backbone,
            class_names=tuple(classes),
            config=resolved.model_dump(),
        )
        for file in (WEIGHTS, MANIFEST):
            blobs.put(f"models/{model_id}/{file}", Path(folder) / file)
    counts = [{"name": name, "images": 4, "test_images": 0} for name in classes]
    with database.write() as session:
        create_job(
            session,
            id=job_id,
            owner=owner,
            name=name,
            config=resolved.model_dump(),
            classes=counts,
            warnings=[],
            images=[],
        )
        claim = lifecycle.claim(session, job_id, worker="a test", lease_seconds=60)
        assert claim is not None
        deletions.announce(session, f"models/{model_id}")
        assert lifecycle.publish(session, claim, model_id, manifest, metrics)
    return model_id
