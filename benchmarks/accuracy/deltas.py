"""Accuracy and size of an adapted model that is stored in fewer bits.

    python -m benchmarks.accuracy.deltas --data clothing cifar10 stamps --splits 5 --seeds 1 --tests 60

Each training is done once and stored at each precision. The predictions at α = 0.5 with the default balance
are compared with those of full precision on the same images.

Sizes are given for the starter and CLIP's networks. The seconds from a packed model in memory to θ(α) are
measured on random weights of the same shapes; --time selects the networks, and larger ones need gigabytes.
Options are those of benchmarks.accuracy.paper.
"""

import gc
import time
from collections.abc import Mapping, Sequence

import numpy as np
import open_clip
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy.ablations import train
from benchmarks.accuracy.harness import run
from benchmarks.accuracy.measures import MEASURES, means
from benchmarks.accuracy.paper import load_for, parser, read_trials, write
from benchmarks.accuracy.scores import BestScores
from benchmarks.accuracy.tables import OVER, Runs, Table, collect, compared, figure, signed
from benchmarks.methods.clip_cite import Balanced, config_of
from benchmarks.methods.common.answerers import TwoTowers
from benchmarks.methods.common.task import Predictor, Task
from core.clip.config import DeltaFormat
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.weights.delta import Delta, encode, tensor_layout
from core.clip.weights.support_set import MAX_SUPPORT_SHOTS, SUPPORT_ALPHAS

METHOD = "deltas"
KINDS: tuple[DeltaFormat, ...] = ("full", "4bit", "1bit")
CLIP = ("ViT-B-16", "ViT-L-14")
REPEATS = 7


def every_precision(task: Task) -> dict[str, Predictor]:
    """Return one training at each precision."""
    config = config_of(task)
    theta_0, theta_1 = tower_parameters(task.backbone.model), train(task).theta_1
    predictors: dict[str, Predictor] = {}
    for kind in KINDS:
        delta = encode(theta_0, theta_1, kind)
        network = with_parameters(task.backbone, delta.theta(theta_0, config.alpha))
        predictors[kind] = Balanced(task, TwoTowers(task, network), delta, config.alpha, NEW_CLASS_BALANCE)
    return predictors


def loss_table(runs: Sequence[Runs], name: str) -> Table:
    """Return each measure on one data set, or of the mean, with the difference to full precision."""
    table = Table(
        name,
        ["weights", *MEASURES, "HM, worst split"],
        note=f"Below: the difference to full precision, with its paired 95% interval over {OVER}.",
    )
    full = runs[0]
    for one in runs:
        values, against = one.means()[name], compared(one, full)[name]
        cells = [
            figure(values[m]) + (f"<br>{signed(against[m])}" if one is not full and m in against else "")
            for m in MEASURES
        ]
        worst = "" if one is full else f"{min(splits(one, full, name)):+.3f}".replace("-", "−")
        table.rows.append([one.label, *cells, worst])
    return table


def splits(one: Runs, full: Runs, name: str) -> list[float]:
    """Return the difference in HM of each run."""
    names = list(full.answers) if name == "mean" else [name]
    pairs: list[tuple[BestScores, BestScores]] = [
        pair for n in names for pair in zip(one.answers[n], full.answers[n], strict=True)
    ]
    return [means([ours])["HM"] - means([theirs])["HM"] for ours, theirs in pairs]


def shapes_of(architecture: str) -> dict[str, Tensor]:
    """Return the tower parameters of an open_clip architecture, on the meta device.

    Raises:
        SystemExit: open_clip does not know the architecture.
    """
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise SystemExit(f"open_clip has no architecture {architecture!r}.")
    with torch.device("meta"):
        return dict(tower_parameters(open_clip.CLIP(**config)))


def size_table(networks: Mapping[str, Mapping[str, Tensor]], timed: Sequence[str]) -> Table:
    table = Table(
        "Bytes of an adapted model, and seconds to its θ(α)",
        ["network", "parameters", *KINDS, *(f"seconds, {kind}" for kind in KINDS)],
        note=f"Seconds: median of {REPEATS}, {torch.get_num_threads()} threads, α = 0.5, the packed model "
        f"in memory. A support set adds {len(SUPPORT_ALPHAS)} fp16 features per shot, of at most "
        f"{MAX_SUPPORT_SHOTS} shots.",
    )
    for name, theta_0 in networks.items():
        parameters = sum(tensor.numel() for tensor in theta_0.values())
        sizes = [
            sum(
                dtype.itemsize * int(np.prod(shape)) for dtype, shape in tensor_layout(theta_0, kind).values()
            )
            for kind in KINDS
        ]
        taken = [f"{seconds(theta_0, kind):.3f}" if name in timed else "–" for kind in KINDS]
        table.rows.append([name, f"{parameters:,}", *(f"{size:,}" for size in sizes), *taken])
    return table


def seconds(theta_0: Mapping[str, Tensor], kind: DeltaFormat) -> float:
    """Return the median seconds from a delta to θ(0.5), without a warm-up."""
    before = {name: torch.randn(tensor.shape) for name, tensor in theta_0.items()}
    delta: Delta = encode(before, {name: t + 1e-3 * torch.randn_like(t) for name, t in before.items()}, kind)
    taken = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        theta = delta.theta(before, 0.5)
        taken.append(time.perf_counter() - started)
        del theta
    gc.collect()
    return float(np.median(taken[1:]))


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, [METHOD])
    command_line.add_argument(
        "--time",
        nargs="*",
        default=["starter", "ViT-B-16"],
        help="networks to time (default: starter ViT-B-16)",
    )
    command_line.set_defaults(splits=5, seeds=1, tests=60, methods=[METHOD])
    options = command_line.parse_args(arguments)
    backbone = load_for(options)
    starter = tower_parameters(backbone.model)
    tables = [size_table({options.backbone: starter, **{n: shapes_of(n) for n in CLIP}}, options.time)]
    if options.data or options.root:
        trials = read_trials(options)
        for trial in trials:
            run(METHOD, every_precision, trial, backbone, options.out)
        runs = collect([METHOD], trials, backbone, options.out)
        names = list(dict.fromkeys(trial.data.name for trial in trials))
        tables += [loss_table(runs, name) for name in [*names, *(["mean"] if len(names) > 1 else [])]]
    write(tables, f"deltas-{options.backbone.replace('/', '-')}", options.out, Console(width=160))


if __name__ == "__main__":
    main()
