"""GET /runtime: models in memory, waiting requests and batches."""

from clipcite.wire.runtime import (
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
from core.serving.pool.model_pool import DELTA, MAX_BACKBONES, MODEL, ModelPool
from core.serving.previews import BUDGET_BYTES
from core.serving.service import Serving
from core.serving.text_cache import TEXT_CACHE_BYTES
from core.serving.types import ResidentInfo


def read_runtime(serving: Serving, owner: str) -> Runtime:
    """Return the state of this process's caches, queue and batches. Other owners' models are only counted."""
    engine, prompts = serving.engine, serving.text_counts()
    batches, largest = engine.batcher.counts(), engine.batcher.largest
    return Runtime(
        device=Device(
            name=engine.device,
            precision=engine.precision,
            threads=engine.batcher.threads,
            decoders=serving.decoders,
        ),
        max_backbones=MAX_BACKBONES,
        backbones=[
            Backbone(name=backbone.name, image_size=backbone.image_size, users=backbone.users)
            for backbone in engine.pool.backbone_infos()
        ],
        models=_models(engine.pool, owner),
        prompts=TextFeatures(budget_bytes=TEXT_CACHE_BYTES, **vars(prompts)),
        previews=Previews(budget_bytes=BUDGET_BYTES, **vars(serving.previews.counts())),
        queue=Queue(
            max_images=serving.admission.slots.most,
            images=serving.admission.slots.held,
            refused=serving.admission.slots.refused,
            waiting_images=batches.waiting["images"],
            waiting_prompts=batches.waiting["prompts"],
        ),
        batches=Batches(
            max_batch_images=largest["images"],
            max_batch_prompts=largest["prompts"],
            batches=batches.batches.get("images", 0),
            images=batches.rows.get("images", 0),
            prompt_batches=batches.batches.get("prompts", 0),
            prompts=batches.rows.get("prompts", 0),
            sizes=batches.sizes,
            busy_seconds=round(batches.busy_seconds, 3),
        ),
    )


def _models(pool: ModelPool, owner: str) -> Models:
    return Models(
        budget_bytes=pool.warm.budget_bytes,
        bytes=pool.warm.bytes,
        models=Counts.model_validate(pool.warm.counts(MODEL)),
        deltas=Counts.model_validate(pool.warm.counts(DELTA)),
        unavailable=pool.unavailable.count(),
        resident=[_resident(resident, owner) for resident in pool.resident_infos()],
    )


def _resident(resident: ResidentInfo, owner: str) -> Resident:
    mine = sorted(model for model, whose in resident.owners.items() if whose == owner)
    return Resident(
        kind="delta" if resident.alpha is None else "model",
        models=mine,
        others=len(resident.owners) - len(mine),
        backbone=resident.weights_key.backbone,
        alpha=resident.alpha,
        bytes=resident.bytes,
        users=resident.users,
        pinned=resident.pinned,
    )
