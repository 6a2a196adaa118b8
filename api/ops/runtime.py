"""GET /runtime: what is in memory, what waits, and how the networks were kept busy."""

from api.ops.schemas import (
    Backbone,
    Batches,
    Counts,
    Device,
    Models,
    Previews,
    Queue,
    Resident,
    Runtime,
    TextFeatures,
)
from core.serving.pool.cache_stats import Held
from core.serving.pool.model_pool import BACKBONES, DELTA, NETWORK, WeightsKey
from core.serving.previews import BUDGET_BYTES
from core.serving.service import Serving


def read_runtime(serving: Serving, owner: str) -> Runtime:
    """The state of this process's caches, queue and batches. Models of other owners are only counted."""
    batches = serving.batcher.counts()
    texts = serving.texts.counts()
    return Runtime(
        device=Device(
            name=serving.device,
            precision=serving.precision,
            threads=serving.batcher.threads,
            decoders=serving.decoders,
        ),
        most_backbones=BACKBONES,
        backbones=[
            Backbone(name=stock.backbone.name, image_size=stock.backbone.image_size, users=users)
            for stock, users in serving.networks.warm_backbones()
        ],
        models=_models(serving, owner),
        texts=TextFeatures(budget_bytes=serving.texts.budget_bytes, **vars(texts)),
        previews=Previews(budget_bytes=BUDGET_BYTES, **vars(serving.previews.counts())),
        queue=Queue(
            most_pictures=serving.gate.most,
            pictures=serving.gate.pictures,
            refused=serving.gate.refused,
            waiting_pictures=batches.waiting["images"],
            waiting_texts=batches.waiting["texts"],
        ),
        batches=Batches(
            largest_pictures=serving.batcher.largest["images"],
            largest_texts=serving.batcher.largest["texts"],
            batches=batches.batches.get("images", 0),
            pictures=batches.rows.get("images", 0),
            text_batches=batches.batches.get("texts", 0),
            texts=batches.rows.get("texts", 0),
            sizes=batches.sizes,
            busy_seconds=round(batches.busy_seconds, 3),
        ),
    )


def _models(serving: Serving, owner: str) -> Models:
    warm = serving.networks.warm
    return Models(
        budget_bytes=warm.budget_bytes,
        bytes=warm.bytes,
        networks=Counts.of(warm.counts(NETWORK)),
        deltas=Counts.of(warm.counts(DELTA)),
        unavailable=serving.networks.unavailable.count(),
        resident=[_resident(serving, held, owner) for held in warm.held()],
    )


def _resident(serving: Serving, held: Held, owner: str) -> Resident:
    kind, content, *alpha = held.key
    assert isinstance(content, WeightsKey)
    owners = serving.networks.models_of(content)
    mine = sorted(model for model, whose in owners.items() if whose == owner)
    return Resident(
        kind=kind,
        models=mine,
        others=len(owners) - len(mine),
        backbone=content.backbone,
        alpha=alpha[0] if alpha else None,
        bytes=held.bytes,
        users=held.users,
        pinned=held.pinned,
    )
