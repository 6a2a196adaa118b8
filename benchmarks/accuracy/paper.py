"""Accuracy in the papers' settings, on their data sets or on your own images.

    python -m benchmarks.accuracy.paper --root DATA --setting bng --backbone ViT-B-16/openai
    python -m benchmarks.accuracy.paper --data clothing cifar10 --setting bng --splits 5 --seeds 3 --methods
    all
    python -m benchmarks.accuracy.paper --root DATA --backbone ViT-B-16/openai --recipe paper --template
    "a photo of a {}" --draws 2sfs --csv paper.csv

--root is the folder of the papers' data sets in the layout of CoOp's DATASETS.md. --data names folders with
`train/CLASS/` and `test/CLASS/`. Settings: bng (base-to-new, including *mixed* with all classes as
candidates), fsl (1 to 16 shots of all classes), dg (ImageNet to its four variants), cdg (accuracy on another
data set after the adaptation).

The scores of each method and image are stored below --out. An interrupted series resumes, and a complete one
only prints. Choose another folder after a change of the code. The tables, with the papers' figures, are
printed and written as Markdown and JSON.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.accuracy.harness import Draws, Trial, run
from benchmarks.accuracy.tables import OURS as PAPER_SCORES
from benchmarks.accuracy.tables import (
    SERVED,
    STOCK,
    Runs,
    Table,
    base_to_new_tables,
    collect,
    cross_domain_table,
    csv_rows,
    few_shot_table,
    published_tables,
    rivals_table,
)
from benchmarks.accuracy.trials import (
    SHOT_COUNTS,
    base_to_new,
    cross_domain,
    domain_generalisation,
    few_shot,
    fewer_tests,
)
from benchmarks.data.dataset import DataSet
from benchmarks.data.load import load
from benchmarks.data.papers import ELEVEN, IMAGENET_VARIANTS
from benchmarks.methods.clip_cite_paper import RECIPES
from benchmarks.methods.common.registry import METHODS
from core.clip.config import resolve_config
from core.clip.models.backbone import Backbone, load_backbone
from core.settings import get_settings

PRODUCT, OURS = "clip_cite", "ours"


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = parser(__doc__, METHODS)
    command_line.add_argument(
        "--recipe",
        choices=[OURS, *RECIPES],
        default=OURS,
        help="recipe of clip_cite: the product's, the paper's, or the paper's with one change (default ours)",
    )
    command_line.add_argument("--csv", type=Path, help="also write one row per run to this file")
    options = command_line.parse_args(arguments)
    console = Console(width=160)
    backbone = load_for(options)
    trials = read_trials(options)
    functions = {
        **METHODS,
        **{f"{PRODUCT}-{recipe}": method for recipe, method in RECIPES.items()},
    }
    methods = list(METHODS) if options.methods == ["all"] else options.methods
    if options.recipe != OURS:
        methods = [f"{name}-{options.recipe}" if name == PRODUCT else name for name in methods]
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(trials) * len(methods))
        for method in methods:
            for trial in trials:
                progress.update(bar, description=f"{method}, {trial.data.name}, split {trial.split}")
                run(method, functions[method], trial, backbone, options.out)
                progress.advance(bar)
    if options.csv:
        write_csv(csv_rows(methods, trials, backbone, options.out), options.csv)
        console.print(f"Written: {options.csv}")
    if options.setting in ("bng", "mixed"):
        tables = base_to_new_tables(methods, trials, backbone, options.out)
        if PRODUCT in methods and set(methods) - {STOCK, PRODUCT}:  # with rivals

            @cache
            def collected(method: str, trials: tuple[Trial, ...]) -> list[Runs]:
                return collect([method], trials, backbone, options.out)

            by_method = dict.fromkeys(methods, tuple(trials))
            tables += [rivals_table(by_method, collected, label) for label in (SERVED, PAPER_SCORES)]
        tables += published_tables([trial.data.name for trial in trials])
    elif options.setting == "fsl":
        tables = [few_shot_table(methods, trials, backbone, options.out)]
    else:
        tables = [cross_domain_table(methods, trials, backbone, options.out)]
    write(tables, f"{options.setting}-{options.backbone.replace('/', '-')}", options.out, console)


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the rows, each with the columns of the first.

    Raises:
        SystemExit: there is no row.
    """
    if not rows:
        raise SystemExit(f"No run is stored, so {path} was not written. Name at least one method.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def load_for(options: argparse.Namespace) -> Backbone:
    """Load the backbone of the arguments, at the image size of its recipe."""
    if options.threads:
        torch.set_num_threads(options.threads)
    return load_backbone(
        options.backbone,
        cache=get_settings().cache,
        image_size=resolve_config(backbone=options.backbone).image_size,
        device=options.device,
    )


def parser(description: str | None, methods: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--setting", choices=["bng", "mixed", "fsl", "dg", "cdg"], default="bng")
    parser.add_argument(
        "--root", type=Path, help="folder of the papers' data sets, laid out as in CoOp's DATASETS.md"
    )
    parser.add_argument(
        "--datasets", nargs="+", help="data sets below --root (default: all eleven; cdg: without ImageNet)"
    )
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders with train/ and test/")
    parser.add_argument(
        "--target", help="test set of cdg: a name below --root, or a folder (default ImageNet)"
    )
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--methods", nargs="+", default=["stock", "clip_cite"], choices=[*methods, "all"])
    parser.add_argument("--template", default="", help='prompt of all sets, such as "a photo of a {}"')
    parser.add_argument(
        "--draws",
        choices=get_args(Draws),
        default="hash",
        help="shots: drawn here, or the published ones of 2SFS (default hash)",
    )
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument(
        "--shot-counts", type=int, nargs="+", default=SHOT_COUNTS, help="numbers of shots of fsl"
    )
    parser.add_argument("--classes", type=int, help="number of trained classes of bng (default: half)")
    parser.add_argument(
        "--splits", type=int, default=1, help="number of class splits, the papers' split first (default 1)"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--first-split",
        type=int,
        help="number of the first class split; each split then runs once, with its number as the seed",
    )
    parser.add_argument("--tests", type=int, help="maximum test images per class (default: all)")
    parser.add_argument(
        "--first-test", type=int, default=1, help="number of the first test image per class (default 1)"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--threads", type=int, help="number of CPU threads, to run several processes side by side"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    return parser


def read_sets(options: argparse.Namespace) -> list[DataSet]:
    """Read the data sets of the arguments.

    Raises:
        SystemExit: the arguments name no data set.
    """
    sources = [_shortened(load(folder), options) for folder in options.data]
    if options.root:
        default = [name for name in ELEVEN if options.setting != "cdg" or name != "ImageNet"]
        sources += [_shortened(load(options.root, name), options) for name in options.datasets or default]
    if not sources:
        raise SystemExit(
            "No data set is given. Add --root FOLDER for the papers' data sets, or --data FOLDER."
        )
    return sources


def read_trials(options: argparse.Namespace) -> list[Trial]:
    """Return the trials of the arguments, in the order in which they run."""
    trials = _trials(options)
    return [replace(trial, template=options.template, draws=options.draws) for trial in trials]


def _trials(options: argparse.Namespace) -> list[Trial]:
    seeds, splits = range(options.seeds), range(options.splits)
    if options.first_split is not None:
        splits = seeds = range(options.first_split, options.first_split + options.splits)
    if options.setting == "dg":
        variants = [load(options.root, name) for name in IMAGENET_VARIANTS]
        return domain_generalisation(
            load(options.root, "ImageNet"), variants, shots=options.shots, seeds=seeds
        )
    sources = read_sets(options)
    if options.setting == "cdg":
        is_folder = options.target and Path(options.target).is_dir()
        target = load(Path(options.target)) if is_folder else load(options.root, options.target or "ImageNet")
        target = _shortened(target, options)
        return [
            trial
            for data in sources
            for trial in cross_domain(data, target, shots=options.shots, splits=splits, seeds=seeds)
        ]
    if options.setting == "fsl":
        return [t for data in sources for t in few_shot(data, shots=options.shot_counts, seeds=seeds)]
    trials = [
        trial
        for data in sources
        for trial in base_to_new(data, shots=options.shots, splits=splits, seeds=seeds, count=options.classes)
    ]
    return trials if options.first_split is None else [t for t in trials if t.seed == t.split]


def _shortened(data: DataSet, options: argparse.Namespace) -> DataSet:
    return fewer_tests(data, options.tests, options.first_test)


def write(tables: Sequence[Table], name: str, out: Path, console: Console) -> None:
    """Print the tables, and write them as Markdown and JSON to the output folder."""
    out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(table.markdown() for table in tables)
    console.print(text, markup=False, soft_wrap=True)
    (out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    content = [vars(table) for table in tables]
    (out / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    console.print(f"\nWritten: {out / name}.md and .json")


if __name__ == "__main__":
    main()
