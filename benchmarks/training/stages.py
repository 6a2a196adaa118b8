"""Time of each stage of a training job, and the honesty of the progress that it states.

    python -m benchmarks.training.stages --backbone ViT-B-32/openai
    python -m benchmarks.training.stages --backbone starter

CLIP's weights are random: they cost the same time as real ones. The images are noise, of 10 classes. The
progress is the service's own (`worker.progress`), read five times per second. On a GPU, peak memory and
seconds per step are added to the results of `benchmarks.full_size`.
"""

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.full_size import CLASSES, make_images, store, stored, write_backbone
from benchmarks.machine import load_average, processor
from benchmarks.progress import POLL_SECONDS, Look, Measured, measure
from benchmarks.training.memory import measuring
from core.clip.config import STARTER, AdaptConfig, resolve_config
from core.clip.evaluation.cross_validation import count_steps
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.pipeline import Shot, TrainedModel, adapt
from core.clip.training.progress import Kind, Silent, StepProgress, Work
from core.clip.weights.files import save_weights
from core.settings import get_settings
from worker.progress import JobProgress

AIM = 0.05
"""Maximum time from the last step to a stored model, as a share of the steps."""


@dataclass
class Recorder(Silent):
    """A reporter that forwards all reports to a job's progress, and notes the time of the steps."""

    progress: JobProgress = field(default_factory=lambda: JobProgress(published=False))
    looks: list[Look] = field(default_factory=list)
    reported: float = 0.0
    first_step: float = 0.0
    """Start of the first step: time of the last report before its end."""
    last_step: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def plan(self, training: Work, evaluation: Work) -> None:
        self.progress.plan(dict(training), dict(evaluation))  # type: ignore[arg-type]

    def stage(self, name: str) -> None:
        self.progress.enter(name)

    def done(self, kind: Kind, units: int, *, earlier: bool = False) -> None:
        self.progress.work(kind, units, earlier=earlier)
        self.reported = self.now()

    def step(self, progress: StepProgress) -> None:
        self.progress.step(vars(progress))
        if progress.step == 1:
            self.first_step = self.reported
        if progress.step == progress.steps:
            self.last_step = self.now()

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Read the progress at regular intervals."""
        stop = threading.Event()

        def read() -> None:
            while not stop.wait(POLL_SECONDS):
                now = self.progress.fields()
                self.looks.append(
                    Look(
                        self.now(),
                        now["stage"],
                        now["fraction"],
                        now["eta_seconds"],
                        now["model_eta_seconds"],
                    )
                )

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@dataclass(frozen=True)
class Stages:
    """Seconds of each stage of one job."""

    prepare: float
    """Decoding and the classifier weights, until the first step begins."""
    steps: float
    store: float
    """From the last step to a stored model: packing, support set, file."""
    evaluate: float
    honesty: Measured

    @property
    def share(self) -> float:
        """Time from the last step to a stored model, as a share of the steps."""
        return self.store / self.steps


def run(backbone: Backbone, images: Sequence[Path], config: AdaptConfig, folder: Path) -> Stages:
    """Run one job, and return the time of its stages."""
    recorder = Recorder()
    stored = 0.0

    def store(trained: TrainedModel) -> None:
        nonlocal stored
        recorder.progress.trained()
        save_weights(folder, trained.weights, backbone=backbone, class_names=CLASSES, config=config.to_dict())
        stored = recorder.now()
        recorder.progress.publish()

    shots = [Shot(path, CLASSES[i % len(CLASSES)]) for i, path in enumerate(images)]
    with recorder.watched():
        adapt(backbone, shots, config, reporter=recorder, on_trained=store)
        end = recorder.now()
    honesty = measure(recorder.looks, config.evaluate, False, stored, end)
    return Stages(
        recorder.first_step,
        recorder.last_step - recorder.first_step,
        stored - recorder.last_step,
        end - stored,
        honesty,
    )


def main() -> None:
    options = _parser().parse_args()
    given = {"epochs": options.epochs, "batch_size": options.batch_size}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory(prefix="clipcite-stages-") as temporary:
        folder = Path(temporary)
        name = options.backbone
        if name != STARTER:
            name = f"local-dir:{write_backbone(name, folder / 'backbone')}"
        config = resolve_config(backbone=options.backbone, evaluate=options.evaluate, **settings)
        backbone = load_backbone(
            name, cache=get_settings().cache, image_size=config.image_size, device=options.device
        )
        images = make_images(len(CLASSES) * options.shots, folder / "images")
        with measuring(backbone.device) as meter:
            stages = run(backbone, images, config, folder)
    if backbone.device.type == "cuda":
        steps = count_steps(len(images), config)
        results = stored()
        results.setdefault(options.backbone, {})["gpu"] = {
            "name": torch.cuda.get_device_name(backbone.device),
            "peak_bytes": meter.peak_bytes,
            "seconds_per_step": stages.steps / steps,
        }
        store(results)
    recipe = resolve_config(backbone=options.backbone).epochs
    share = stages.share * config.epochs / recipe
    print(json.dumps({**asdict(stages), "share": share}, indent=1))
    print(
        f"{options.backbone}, {len(images)} images, {config.epochs} epochs, {processor()}, load "
        f"{load_average():.1f}: {stages.prepare:.1f} s to the first step, {stages.steps:.1f} s of steps, "
        f"{stages.store:.1f} s to a stored model ({share:.1%} of the recipe's {recipe} epochs, aim "
        f"{AIM:.0%}), {stages.evaluate:.1f} s of evaluation."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backbone", default="ViT-B-32/openai")
    parser.add_argument("--shots", type=int, default=16, help="images per class (default 16)")
    parser.add_argument(
        "--epochs", type=int, help="epochs (default: the recipe's); the share is that of the recipe"
    )
    parser.add_argument("--batch-size", type=int, help="images per step (default: the recipe's)")
    parser.add_argument("--evaluate", default="auto", choices=["auto", "none"])
    parser.add_argument("--device", default="auto")
    return parser


if __name__ == "__main__":
    main()
