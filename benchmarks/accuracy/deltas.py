"""What storing an adapted model in fewer bits costs, and what it saves.

    python -m benchmarks.accuracy.deltas --data clothing cifar10 stamps --splits 5 --seeds 1 --tests 60

Each training is done once and kept at every precision; what each then answers at α = 0.5, with the balance
that the product ships, is compared with that of the full precision on the same images. The bytes are those
of the starter and of CLIP's networks, and so are the seconds from a packed model in memory to θ(α), on
random weights of their shapes (--time names them; the larger ones need gigabytes). Options are those of
benchmarks.accuracy.paper.
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
from benchmarks.accuracy.scores import Answers
from benchmarks.accuracy.tables import Runs, Table, collect, compared, figure, signed
from benchmarks.methods.clip_cite import Balanced, config_of
from benchmarks.methods.common.answerers import TwoTowers
from benchmarks.methods.common.task import Answerer, Task
from core.clip.config import DeltaFormat
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.weights.delta import Delta, encode, tensor_layout
from core.clip.weights.support_set import MAX_SUPPORT_SHOTS, SUPPORT_ALPHAS

METHOD = "deltas"
KINDS: tuple[DeltaFormat, ...] = ("full", "4bit", "1bit")
CLIP = ("ViT-B-16", "ViT-L-14")
REPEATS = 7


def every_precision(task: Task) -> dict[str, Answerer]:
    """One training, at each precision."""
    config = config_of(task)
    theta_0, theta_1 = tower_parameters(task.backbone.model), train(task).theta_1
    answerers: dict[str, Answerer] = {}
    for kind in KINDS:
        delta = encode(theta_0, theta_1, kind)
        network = with_parameters(task.backbone, delta.theta(theta_0, config.alpha))
        answerers[kind] = Balanced(task, TwoTowers(task, network), delta, config.alpha, NEW_CLASS_BALANCE)
    return answerers


def loss_table(runs: Sequence[Runs], name: str) -> Table:
    """Every measure of one data set, or of their mean, and the difference to full precision."""
    table = Table(
        name,
        ["weights", *MEASURES, "HM, worst split"],
        note="Below: the difference to full precision, with its paired 95 % interval over the images.",
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
    """The difference in HM of each single run."""
    names = list(full.answers) if name == "mean" else [name]
    pairs: list[tuple[Answers, Answers]] = [
        pair for n in names for pair in zip(one.answers[n], full.answers[n], strict=True)
    ]
    return [means([ours])["HM"] - means([theirs])["HM"] for ours, theirs in pairs]


def shapes_of(architecture: str) -> dict[str, Tensor]:
    """The tower parameters of one of open_clip's networks, without memory behind them."""
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise SystemExit(f"open_clip has no network {architecture!r}.")
    with torch.device("meta"):
        return dict(tower_parameters(open_clip.CLIP(**config)))


def size_table(networks: Mapping[str, Mapping[str, Tensor]], timed: Sequence[str]) -> Table:
    table = Table(
        "Bytes of an adapted model, and seconds until its θ(α) is there",
        ["network", "parameters", *KINDS, *(f"seconds, {kind}" for kind in KINDS)],
        note=f"Seconds: median of {REPEATS}, {torch.get_num_threads()} threads, α = 0.5, the packed model "
        f"lying in memory. The support set adds {len(SUPPORT_ALPHAS)} fp16 features for each of up to "
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
    """From a delta to θ(0.5), the median; a first time does not count."""
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
    options = parser(__doc__, [METHOD])
    options.add_argument("--time", nargs="*", default=["starter", "ViT-B-16"], help="networks to time")
    options.set_defaults(splits=5, seeds=1, tests=60, methods=[METHOD])
    given = options.parse_args(arguments)
    backbone = load_for(given)
    starter = tower_parameters(backbone.model)
    tables = [size_table({given.backbone: starter, **{n: shapes_of(n) for n in CLIP}}, given.time)]
    if given.data or given.root:
        trials = read_trials(given)
        for trial in trials:
            run(METHOD, every_precision, trial, backbone, given.out)
        runs = collect([METHOD], trials, backbone, given.out)
        names = list(dict.fromkeys(trial.data.name for trial in trials))
        tables += [loss_table(runs, name) for name in [*names, *(["mean"] if len(names) > 1 else [])]]
    write(tables, f"deltas-{given.backbone.replace('/', '-')}", given.out, Console(width=160))


if __name__ == "__main__":
    main()
