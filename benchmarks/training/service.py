"""Seconds from POST /adapt to the end of a job, by stage, on a running service."""

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from clipcite import Client
from clipcite import Job as ServedJob
from clipcite.datasets.image import ImageLike
from clipcite.types.images import Image
from core.clip.config import STARTER
from demo.service import running_service


def time_service(shots: Sequence[Image], jobs: int, console: Console) -> list[tuple[str, dict[str, float]]]:
    """Return (`evaluate`, seconds by stage) of jobs without and with a report, in turn, `jobs` of each.

    The first stage is the upload. The stages sum to the time from POST /adapt to the end.
    """
    images: dict[str, list[ImageLike]] = defaultdict(list)
    for shot in shots:
        images[shot.class_name].append(shot.read())
    taken: list[tuple[str, dict[str, float]]] = []
    with (
        running_service() as service,
        Client(service.url, service.key) as client,
    ):
        service.wait_until_ready(seconds=90, backbone_seconds=180)
        for evaluate in ("none", "auto") * jobs:
            stages: dict[str, float] = defaultdict(float)
            at = [("upload", time.monotonic())]
            config = {"backbone": STARTER, "evaluate": evaluate}
            job = client.adapt(images, name=f"train_speed {len(taken) + 1}", config=config)
            changed = partial(_note_stage, stages, at)
            changed(job)
            changed(job.wait(on_change=changed))
            taken.append((evaluate, dict(stages)))
            console.print(f"  evaluate {evaluate}: {sum(stages.values()):.1f} s", highlight=False)
    return taken


def _note_stage(stages: dict[str, float], at: list[tuple[str, float]], job: ServedJob) -> None:
    """Add the time since the last change to its stage. `at` holds that stage and its start."""
    (stage, since), now = at[0], time.monotonic()
    stages[stage] += now - since
    at[0] = (job.progress.stage if job.progress else job.status, now)
