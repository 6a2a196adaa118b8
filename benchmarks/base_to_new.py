"""Base-to-new: adapt on half of the classes, test on both halves, over several class splits.

    python -m benchmarks.base_to_new --data FOLDER --splits 5 --seeds 1

FOLDER holds `train/` and `test/` with one folder per class. B and N: only the names of that half may
be answered. Mixed: all names may, which is how people use a model. `all` is the accuracy over all
pictures with mixed names, OwAUC the OpenworldAUC of evaluate.py. The intervals are 95 % paired
bootstraps over the pictures, the same resample for all splits.
"""

import argparse
import json
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from core.clip.adapt import Shot, adapt
from core.clip.backbone import Backbone, load_backbone, tower_parameters, with_parameters
from core.clip.config import AdaptConfig, resolve_config
from core.clip.ensemble import interpolate
from core.clip.evaluate import answers, harmonic_mean, openworld_auc
from core.clip.images import open_picture
from core.clip.prompts import class_texts
from core.clip.zero_shot import image_features, text_head
from core.settings import get_settings

ALPHAS = (0.0, 0.5, 1.0)
RESAMPLES = 5_000
MEASURES = ("B", "N", "HM", "mixed B", "mixed N", "mixed HM", "all", "OwAUC")


@dataclass(frozen=True)
class DataSet:
    class_names: list[str]
    train: list[list[Path]]
    """For each class its pictures."""
    test_files: list[Path]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """One adaptation: for every α and picture whether the answer was right."""

    split: int
    seed: int
    base: list[int]
    seconds: float
    half: dict[float, NDArray[np.bool_]]
    """[N]: the names of the picture's half may be answered."""
    mixed: dict[float, NDArray[np.bool_]]
    openworld: dict[float, float]


def read(folder: Path) -> DataSet:
    names = sorted(p.name for p in (folder / "train").iterdir() if p.is_dir())
    tests = [(p, c) for c, name in enumerate(names) for p in sorted((folder / "test" / name).iterdir())]
    return DataSet(
        names,
        [sorted((folder / "train" / name).iterdir()) for name in names],
        [path for path, _ in tests],
        np.array([c for _, c in tests]),
    )


def base_classes(split: int, classes: int) -> list[int]:
    """The first half, the second half, then random halves."""
    order = np.arange(classes)
    if split == 1:
        order = order[::-1]
    elif split > 1:
        order = np.random.default_rng(split).permutation(classes)
    return sorted(order[: classes // 2].tolist())


def run(
    backbone: Backbone,
    data: DataSet,
    pixels: torch.Tensor,
    stock: NDArray[np.float32],
    config: AdaptConfig,
    split: int,
    seed: int,
    shots: int,
) -> Run:
    base = base_classes(split, len(data.class_names))
    new = [c for c in range(len(data.class_names)) if c not in base]
    generator = np.random.default_rng(1_000 * split + seed)
    chosen = [
        Shot(data.train[c][i], data.class_names[c])
        for c in base
        for i in generator.permutation(len(data.train[c]))[:shots]
    ]
    started = time.monotonic()
    adapted = adapt(backbone, chosen, replace(config, seed=seed))
    seconds = time.monotonic() - started

    is_base = np.isin(data.test_labels, base)
    half, mixed, openworld = {}, {}, {}
    for alpha in ALPHAS:
        cosines = (
            stock if alpha == 0 else similarities(backbone, data, pixels, config, adapted.theta_1, alpha)
        )
        among_base, among_new = (answers(cosines, data.test_labels, names) for names in (base, new))
        half[alpha] = np.where(is_base, among_base, among_new)
        mixed[alpha] = answers(cosines, data.test_labels, range(len(data.class_names)))
        openworld[alpha] = openworld_auc(cosines, data.test_labels, base)
    return Run(split, seed, base, seconds, half, mixed, openworld)


def similarities(
    backbone: Backbone,
    data: DataSet,
    pixels: torch.Tensor,
    config: AdaptConfig,
    theta_1: dict[str, torch.Tensor],
    alpha: float,
) -> NDArray[np.float32]:
    """Cosines [N, C] of the test pictures with all class names at θ(α)."""
    model = backbone.model
    if alpha > 0:
        model = with_parameters(backbone, interpolate(tower_parameters(model), theta_1, alpha))
    texts = [class_texts(name, config.templates) for name in data.class_names]
    head = text_head(model, backbone.tokenize, texts)
    cosines: NDArray[np.float32] = (image_features(model, pixels) @ head.T).cpu().numpy()
    return cosines


def measure(one: Run, labels: NDArray[np.int64], alpha: float, weights: NDArray[np.int64]) -> dict[str, Any]:
    """The measures of a run; `weights` [R, N] says how often each picture counts, for R resamples."""
    is_base = np.isin(labels, one.base)

    def accuracy(right: NDArray[np.bool_], among: NDArray[np.bool_]) -> NDArray[np.float64]:
        share: NDArray[np.float64] = weights @ (right & among) / (weights @ among)
        return share

    everything = np.ones_like(is_base)
    b, n = accuracy(one.half[alpha], is_base), accuracy(one.half[alpha], ~is_base)
    mb, mn = accuracy(one.mixed[alpha], is_base), accuracy(one.mixed[alpha], ~is_base)
    hm, mixed_hm = (np.vectorize(harmonic_mean)(x, y) for x, y in ((b, n), (mb, mn)))
    values = (b, n, hm, mb, mn, mixed_hm, accuracy(one.mixed[alpha], everything))
    return dict(zip(MEASURES, values, strict=False))


def summarise(runs: list[Run], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Means over the runs per α, and the differences to stock with their intervals."""
    n = len(labels)
    once = np.ones((1, n), dtype=np.int64)
    resampled = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    table: dict[str, Any] = {}
    for alpha in ALPHAS:
        row: dict[str, Any] = {}
        for name in MEASURES[:-1]:
            values = np.mean([measure(r, labels, alpha, once)[name] for r in runs])
            row[name] = {"mean": float(values)}
        if alpha > 0:
            drawn = {a: [measure(r, labels, a, resampled) for r in runs] for a in (0.0, alpha)}
            for name in MEASURES[:-1]:
                gain = np.mean(
                    [x[name] - y[name] for x, y in zip(drawn[alpha], drawn[0.0], strict=True)], axis=0
                )
                low, high = np.percentile(gain, [2.5, 97.5])
                difference = row[name]["mean"] - table["0.0"][name]["mean"]
                row[name]["difference"] = {"value": difference, "low": float(low), "high": float(high)}
        row["OwAUC"] = {"mean": float(np.mean([r.openworld[alpha] for r in runs]))}
        table[str(alpha)] = row
    return table


def show(title: str, table: dict[str, Any], console: Console) -> None:
    grid = Table(title=title)
    grid.add_column("α")
    for name in MEASURES:
        grid.add_column(name, justify="right")
    for alpha, row in table.items():
        grid.add_row("stock" if alpha == "0.0" else alpha, *(f"{row[name]['mean']:.3f}" for name in MEASURES))
        differences = [row[name].get("difference") for name in MEASURES]
        if any(differences):
            cells = [
                f"{d['value']:+.3f}\n[{d['low']:+.3f}, {d['high']:+.3f}]" if d else "" for d in differences
            ]
            grid.add_row("  − stock", *cells, style="dim")
    console.print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=JSON", help="a setting, repeatable"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    arguments = parser.parse_args()
    console = Console(width=150)
    given = {k: json.loads(v) for k, _, v in (pair.partition("=") for pair in arguments.set)}
    config = resolve_config(backbone=arguments.backbone, **given)
    backbone = load_backbone(
        config.backbone,
        cache=get_settings().cache,
        image_size=config.image_size,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    data = read(arguments.data)
    pixels = torch.stack(
        [backbone.preprocess(open_picture(p, shortest_side=2 * backbone.image_size)) for p in data.test_files]
    )
    stock = similarities(backbone, data, pixels, config, {}, 0.0)

    runs = []
    for split in range(arguments.splits):
        for seed in range(arguments.seeds):
            runs.append(run(backbone, data, pixels, stock, config, split, seed, arguments.shots))
            last = runs[-1]
            base = ", ".join(data.class_names[c] for c in last.base)
            console.print(f"split {split}, seed {seed}: adapted in {last.seconds:.0f} s on {base}")
            show(f"split {split}, seed {seed}", summarise([last], data.test_labels), console)
    table = summarise(runs, data.test_labels)
    title = (
        f"{arguments.data.name}: {len(data.test_files)} test pictures, {len(data.class_names)} classes, "
        f"{arguments.shots} shots, {config.backbone}; mean of {len(runs)} runs"
    )
    show(title, table, console)
    seconds = [r.seconds for r in runs]
    console.print(f"One adaptation took {np.median(seconds):.0f} s (median), {max(seconds):.0f} s at most.")

    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"base_to_new-{arguments.data.name}-{arguments.backbone.replace('/', '-')}.json"
    result = {
        "command": vars(arguments) | {"data": str(arguments.data), "out": str(arguments.out)},
        "machine": {
            "cpu": platform.processor(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        "config": config.to_dict(),
        "summary": table,
        "classes": data.class_names,
        "test_pictures": [f"{p.parent.name}/{p.name}" for p in data.test_files],
        "runs": [
            {
                "split": r.split,
                "seed": r.seed,
                "base": r.base,
                "seconds": r.seconds,
                "right_half": {str(a): x.astype(int).tolist() for a, x in r.half.items()},
                "right_mixed": {str(a): x.astype(int).tolist() for a, x in r.mixed.items()},
            }
            for r in runs
        ],
    }
    path.write_text(json.dumps(result))
    console.print(f"Written: {path}")


if __name__ == "__main__":
    main()
