"""Speed runs: the shortest training that reaches the recipe's accuracy.

    python -m benchmarks.speedrun --data FOLDER
    python -m benchmarks.speedrun --data FOLDER --entries half --seeds 10 --repetitions 5
    python -m benchmarks.speedrun --table

An entry is a set of changes to the recipe, in ENTRIES. The rules:

- Both towers are fully fine-tuned, α is ½, and any class names can be asked for afterwards.
- Accuracy: base-to-new on half of the classes, 16 shots, one run per seed. As the mean over the seeds, B, N
  *and* mixed HM may be at most 0.005 below the recipe's.
- The same settings hold for all data sets. No images other than the shots are used.
- Two clocks: *training* starts with decoded images and a loaded backbone, and ends with θ(½). *Job* starts
  with files, and ends with the first prediction.
- Times are medians. Recipe and entries take turns on the same shots.

Results are added to benchmarks/results/speedrun.json, one row per machine, data set, backbone and entry.
Random weights cost the same time as real ones: with `--times-only` no accuracy is measured.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.accuracy.harness import Trial, results, run, task_of
from benchmarks.accuracy.measures import means
from benchmarks.accuracy.trials import base_to_new, fewer_tests
from benchmarks.data.few_shot import draw_shots
from benchmarks.data.load import load
from benchmarks.machine import commit, load_average, processor
from benchmarks.methods.clip_cite import Balanced, config_of, ensemble
from benchmarks.methods.common.task import Method, Predictor, Task
from core.clip.config import AdaptConfig, resolve_config
from core.clip.data.images import ImageLimits
from core.clip.data.loader import read_images
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.prompts import all_class_prompts
from core.clip.training.progress import Silent
from core.clip.training.trainer import fine_tune
from core.clip.weights.delta import full_delta
from core.clip.weights.files import Weights
from core.settings import get_settings

RESULTS = Path(__file__).parent / "results" / "speedrun.json"
ALPHA = 0.5
SHOTS = 16
TARGETS = ("B", "N", "mixed HM")
TOLERANCE = 0.005
"""Maximum loss of each target against the recipe."""
RECIPE = "recipe"
ENTRIES: Mapping[str, Callable[[AdaptConfig], Mapping[str, Any]]] = {
    RECIPE: lambda recipe: {},
    # AdamW moves by its learning rate per step: half the steps at twice the rate go equally far.
    "half": lambda recipe: {
        "epochs": recipe.epochs // 2,
        "learning_rate": 2 * recipe.learning_rate,
        "classifier_learning_rate": 2 * recipe.classifier_learning_rate,
    },
}
"""Changes to the recipe, by entry."""


def settings_of(entry: str, backbone: str) -> dict[str, Any]:
    """Return the settings that an entry changes."""
    return {**ENTRIES[entry](resolve_config(backbone=backbone)), "alpha": ALPHA}


def method_of(entry: str) -> Method:
    """Return the entry as a method, with the scores of the product."""

    def method(task: Task) -> dict[str, Predictor]:
        config = config_of(task, **settings_of(entry, task.backbone.name))
        theta_1 = fine_tune(
            task.backbone, task.tensors, task.labels, task.prompts(task.class_names), config, Silent()
        ).theta_1
        network = ensemble(task, theta_1, ALPHA)
        return {entry: Balanced(task, network, full_delta(theta_1), ALPHA, NEW_CLASS_BALANCE)}

    return method


def accuracy(entry: str, trials: Sequence[Trial], backbone: Backbone, out: Path) -> dict[str, list[float]]:
    """Return each target of each trial. Stored runs are not repeated."""
    name = f"speedrun-{entry}"
    found: dict[str, list[float]] = {target: [] for target in TARGETS}
    for trial in trials:
        run(name, method_of(entry), trial, backbone, out)
        (result,) = results(name, trial, backbone, out)
        measured = means([*result.answers.values()])
        for target in TARGETS:
            found[target].append(measured[target])
    return found


def time_training(entry: str, task: Task) -> float:
    """Return the seconds from decoded images and a loaded backbone to θ(½)."""
    config = config_of(task, **settings_of(entry, task.backbone.name))
    task.tensors  # noqa: B018, decodes them
    prompts = task.prompts(task.class_names)
    _synchronise(task.backbone.device)
    started = time.perf_counter()
    theta_1 = fine_tune(task.backbone, task.tensors, task.labels, prompts, config, Silent()).theta_1
    ensemble(task, theta_1, ALPHA)
    _synchronise(task.backbone.device)
    return time.perf_counter() - started


def time_job(entry: str, trial: Trial, options: argparse.Namespace) -> float:
    """Return the seconds from the files to the first prediction."""
    started = time.perf_counter()
    backbone = _load(options)
    config = resolve_config(backbone=backbone.name, seed=trial.seed, **settings_of(entry, backbone.name))
    shots = draw_shots(trial.data.train, trial.trained, trial.shots, trial.seed)
    label_of = {label: i for i, label in enumerate(trial.trained)}
    names = [trial.data.class_names[label] for label in trial.trained]
    prompts = all_class_prompts(names, config.templates)
    images = read_images([shot.path for shot in shots], ImageLimits(), 2 * backbone.image_size)
    labels = [label_of[shot.label] for shot in shots]
    theta_1 = fine_tune(backbone, images, labels, prompts, config, Silent()).theta_1
    with Image.open(trial.data.test[0].path) as image:
        Classifier(backbone, Weights(full_delta(theta_1)), ALPHA).classify([image.convert("RGB")], prompts)
    return time.perf_counter() - started


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the recipe and the entries in turn, then measure their accuracy. Return one row per entry."""
    data, backbone = load(options.data), _load(options)
    if options.tests:
        data = fewer_tests(data, options.tests)
    entries = [RECIPE, *(entry for entry in options.entries if entry != RECIPE)]
    trials = base_to_new(data, shots=SHOTS, splits=[0], seeds=range(options.seeds))
    everything = Trial(data, tuple(range(len(data.class_names))), SHOTS, 0, 0, (data,))
    task = task_of(everything, backbone)
    times: dict[str, dict[str, list[float]]] = {entry: {"training": [], "job": []} for entry in entries}
    for repetition in range(options.repetitions):
        for entry in entries:
            times[entry]["training"].append(time_training(entry, task))
            times[entry]["job"].append(time_job(entry, everything, options))
            print(f"{repetition + 1}/{options.repetitions} {entry}: {times[entry]}", flush=True)
    rows = []
    reached: dict[str, dict[str, list[float]]] = {}
    for entry in entries:
        reached[entry] = {} if options.times_only else accuracy(entry, trials, backbone, options.out)
        rows.append(
            {
                "entry": entry,
                "data": data.name,
                "backbone": backbone.name,
                "images": len(task.labels),
                **{f"{clock}_seconds": statistics.median(seconds) for clock, seconds in times[entry].items()},
                "repetitions": options.repetitions,
                "seeds": 0 if options.times_only else options.seeds,
                **{target: _mean_and_error(values) for target, values in reached[entry].items()},
                "valid": None if options.times_only else is_valid(reached[entry], reached[RECIPE]),
                "machine": _machine(backbone.device),
                "load": round(load_average(), 1),
                "commit": commit(),
                "command": f"python -m benchmarks.speedrun {' '.join(sys.argv[1:])}",
                "versions": {"python": platform.python_version(), "torch": torch.__version__},
            }
        )
    return rows


def is_valid(entry: Mapping[str, Sequence[float]], recipe: Mapping[str, Sequence[float]]) -> bool:
    """Return True if the entry loses at most TOLERANCE of each target."""
    return all(
        statistics.mean(entry[target]) >= statistics.mean(recipe[target]) - TOLERANCE for target in TARGETS
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows in Markdown, the fastest training of each machine first."""
    lines = [
        f"| machine | data, backbone | entry | training, s | job, s | {' | '.join(TARGETS)} | valid |",
        f"|---|---|---|---:|---:|{'---:|' * len(TARGETS)}---|",
    ]
    for row in sorted(rows, key=lambda row: (row["machine"], row["training_seconds"])):
        targets = [
            f"{row[target][0]:.3f} ± {row[target][1]:.3f}" if target in row else "not measured"
            for target in TARGETS
        ]
        valid = {True: "yes", False: "no", None: "times only"}[row["valid"]]
        lines.append(
            f"| {row['machine']}, load {row['load']} | {row['data']}, {row['backbone']} | {row['entry']} "
            f"| {row['training_seconds']:.1f} | {row['job_seconds']:.1f} | {' | '.join(targets)} | {valid} |"
        )
    return "\n".join(lines)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.mean(values), error


def _load(options: argparse.Namespace) -> Backbone:
    return load_backbone(
        options.backbone,
        cache=get_settings().cache,
        image_size=resolve_config(backbone=options.backbone).image_size,
        device=options.device,
    )


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} threads"


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if not options.table:
        if options.data is None:
            raise SystemExit("No data set is given. Add --data FOLDER, with train/CLASS/ and test/CLASS/.")
        measured = measure(options)
        same = ("machine", "data", "backbone", "entry")
        replaced = {tuple(row[name] for name in same) for row in measured}
        rows = [row for row in rows if tuple(row[name] for name in same) not in replaced] + measured
        RESULTS.write_text(f"{json.dumps(rows, indent=1, ensure_ascii=False)}\n")
    print(table(rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train/ and test/")
    parser.add_argument("--entries", nargs="+", default=["half"], choices=[*ENTRIES])
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--tests", type=int, help="maximum test images per class (default: all)")
    parser.add_argument("--times-only", action="store_true", help="measure no accuracy")
    parser.add_argument("--table", action="store_true", help="print the stored results")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    return parser


if __name__ == "__main__":
    main()
