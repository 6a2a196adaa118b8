"""Training speed of the product, compared with a researcher's loop.

    python -m benchmarks.training --data FOLDER --loops --backbones starter
    python -m benchmarks.training --data FOLDER --memory
    python -m benchmarks.training --data FOLDER --service

FOLDER holds `train/CLASS/` and `test/CLASS/`.

- --loops runs whole jobs in turn, each in a fresh process, on the same image files:
  examples/clip_cite.py (fp32) and core.clip.training.trainer (fp32, and the precision that `auto`
  selects).
- --memory measures peak memory by micro_batch_size.
- --service measures the time from POST /adapt to the end of a job.

Without any of these flags the first two run. Results of --loops are stored below --out: an interrupted
series resumes, and a larger --repetitions extends it. Choose another folder after a change of the code.

`starter` is trained by its whole recipe. Any other backbone is an architecture of open_clip (ViT-B-32,
ViT-B-16, …) with random weights, trained for a few steps. Random weights cost the same time as trained ones.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.accuracy.paper import write
from benchmarks.accuracy.tables import Table
from benchmarks.accuracy.trials import fewer_tests
from benchmarks.data.dataset import DataSet, Example
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from benchmarks.machine import processor
from benchmarks.serving.stored import make_backbone
from benchmarks.training.loops import Job, in_fresh_trainer, run_loops, run_product, summary
from benchmarks.training.report import loops_table, memory_table, service_table
from benchmarks.training.service import time_service
from clipcite.types.images import Image
from core.clip.config import STARTER, resolve_config
from core.settings import get_settings

PARTS = ("loops", "memory", "service")
MICRO_BATCH_SIZES = (32, 16, 8, 4, 1)
MAX_STEPS = 4
"""Steps of a backbone other than the starter, because a whole recipe is too long on a CPU."""
MEMORY_STEPS = 2
"""Two steps, because AdamW's moments are in memory from the second on."""
SERVICE_JOBS, SERVICE_CLASSES = 3, 10
"""Jobs per kind, and classes of a job."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.steps is not None and options.steps < 2:
        raise SystemExit("--steps must be 2 or more, because a step is timed from the end of the one before.")
    if options.data is None:
        raise SystemExit(
            "No data set is given. Add --data FOLDER, with a folder of images per class: train/<class name>/ "
            "and test/<class name>/."
        )
    parts = [part for part in PARTS if getattr(options, part)] or ["loops", "memory"]
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.threads:
        torch.set_num_threads(options.threads)
    console, data = Console(width=160), load(options.data)
    facts = machine(options)
    options.out.mkdir(parents=True, exist_ok=True)
    console.print(f"{facts}", highlight=False, markup=False)
    tables: list[Table] = []
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="clipcite-train-speed-") as folder:
        jobs = {name: make_job(name, data, options, Path(folder)) for name in options.backbones}
        if "loops" in parts:
            for name, job in jobs.items():
                console.print(f"{name}, the loops")
                what = (
                    f"{options.data.name}-{options.device}-{torch.get_num_threads()}threads-{job.steps}steps"
                )
                kept = options.out / f"train-speed-kept-{name}-{what}.json"
                runs = run_loops(job, options.repetitions, options.workers, kept, console)
                tables.append(loops_table(_title(name, job), runs))
                measured[f"loops {name}"] = {k: [asdict(m) for m in of] for k, of in runs.items()}
        if "memory" in parts:
            name = options.memory_backbone
            job = make_job(name, data, options, Path(folder)).cut(MEMORY_STEPS)
            by_count = {}
            for count in MICRO_BATCH_SIZES:
                config = job.config.model_copy(update={"micro_batch_size": count})
                by_count[count] = in_fresh_trainer(run_product, replace(job, config=config))
                console.print(f"{name}, micro-batch of {count}: {summary(by_count[count])}", highlight=False)
            title = f"Memory of {name}, batch {job.config.batch_size}, precision {job.config.precision}"
            tables.append(memory_table(by_count, title))
            measured["memory"] = {count: asdict(m) for count, m in by_count.items()}
        if "service" in parts:
            console.print("The service")
            shots = _shots(data, list(range(len(data.class_names)))[:SERVICE_CLASSES], options.shots)
            measured["service"] = time_service(shots, SERVICE_JOBS, console)
            tables.append(service_table(measured["service"], shots))
    names = [] if len(parts) == 1 and parts != ["loops"] else options.backbones
    name = "-".join(["train-speed", *parts, *names])
    write(tables, name, options.out, console, {"machine": facts, "measured": measured})


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with train/ and test/")
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true", help=f"run the part {part!r}")
    parser.add_argument("--backbones", nargs="+", default=[STARTER, "ViT-B-32", "ViT-B-16"])
    parser.add_argument("--memory-backbone", default="ViT-B-16")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--steps",
        type=int,
        help=f"maximum steps per job, at least 2 (default: all for starter, {MAX_STEPS} for others)",
    )
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--tests", type=int, default=50, help="maximum test images per class (default 50)")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 2],
        help="DataLoader processes of the researcher's loops (default 0 2)",
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda or auto (default auto: the GPU if there is one)"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    return parser


def make_job(name: str, data: DataSet, options: argparse.Namespace, folder: Path) -> Job:
    """Return a job by the recipe of the backbone, for the starter with test images."""
    trained = sorted({example.label for example in data.train})
    backbone = name if name == STARTER else make_backbone(folder / name, name)
    job = Job(
        backbone,
        resolve_config(backbone=backbone),
        tuple(_shots(data, trained, options.shots)),
        options.device,
        options.threads,
        get_settings().cache,
        tuple(_shot(data, e) for e in fewer_tests(data, options.tests).test if e.label in trained)
        if name == STARTER
        else (),
    )
    steps = options.steps or (None if name == STARTER else MAX_STEPS)
    return job if steps is None else job.cut(steps)


def _shots(data: DataSet, classes: Sequence[int], shots: int) -> list[Image]:
    return [_shot(data, example) for example in draw_shots(data.train, classes, shots, seed=0)]


def _shot(data: DataSet, example: Example) -> Image:
    return Image(example.path, data.class_names[example.label])


def machine(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "device": options.device if options.device != "cuda" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "load before": round(os.getloadavg()[0], 2),  # figures are valid only near 0
    }


def _title(name: str, job: Job) -> str:
    weights = "" if name == STARTER else ", random weights"
    classes = len(job.class_names)
    return f"{name}{weights}: {len(job.shots)} images of {classes} classes, {job.steps} steps"


if __name__ == "__main__":
    main()
