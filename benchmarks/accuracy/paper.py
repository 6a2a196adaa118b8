"""Accuracy in the papers' settings, on their data sets or on your own images.

    python -m benchmarks.accuracy.paper --root DATA --setting bng --backbone ViT-B-16/openai
    python -m benchmarks.accuracy.paper --data clothing cifar10 --setting bng --splits 5 --seeds 3 --methods
    all
    python -m benchmarks.accuracy.paper --root DATA --setting all --backbone ViT-B-16/openai --recipe paper
    --template "a photo of a {}" --draws 2sfs --exact-pixels --csv paper.csv

--root is the folder of the papers' data sets in the layout of CoOp's DATASETS.md. --data names folders with
`train/CLASS/` and `test/CLASS/`. Settings: bng (base-to-new, including *mixed* with all classes as
candidates), fsl (1 to 16 shots of all classes), dg (ImageNet to its four variants), cdg (accuracy on another
data set after the adaptation), all (these four: the paper's tables).

Before the first training, the command names everything that is missing, and the time that it will take.

The scores of each method and image are stored below --out. An interrupted series resumes, and a complete one
only prints. Choose another folder after a change of the code. The tables, with the papers' figures, are
printed and written as Markdown and JSON.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.accuracy.forecast import forecast
from benchmarks.accuracy.harness import Draws, Trial, run, shots_of
from benchmarks.accuracy.report import tables_of
from benchmarks.accuracy.tables import Table, csv_rows
from benchmarks.accuracy.trials import (
    SHOT_COUNTS,
    base_to_new,
    cross_domain,
    domain_generalisation,
    few_shot,
    fewer_tests,
)
from benchmarks.data.dataset import BadDataSet, DataSet
from benchmarks.data.load import load
from benchmarks.data.papers import A_PHOTO, ELEVEN, IMAGENET_VARIANTS
from benchmarks.methods.clip_cite_paper import RECIPES
from benchmarks.methods.common.registry import METHODS
from core.clip.config import resolve_config
from core.clip.models.backbone import Backbone, load_backbone
from core.settings import get_settings

PRODUCT, OURS = "clip_cite", "ours"
SETTINGS = ("bng", "fsl", "dg", "cdg")


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
    settings = SETTINGS if options.setting == "all" else (options.setting,)
    plans = read_plans(options, settings)
    everything = [trial for trials in plans.values() for trial in trials]
    backbone = load_for(options)
    functions = {**METHODS, **{f"{PRODUCT}-{recipe}": method for recipe, method in RECIPES.items()}}
    methods = list(METHODS) if options.methods == ["all"] else options.methods
    if options.recipe != OURS:
        methods = [f"{name}-{options.recipe}" if name == PRODUCT else name for name in methods]
    trained = [method for method in methods if method.startswith(PRODUCT)]
    if options.setting == "all" and trained:
        console.print(forecast(trained, everything, backbone, options.out))
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(everything) * len(methods))
        for method in methods:
            for trial in everything:
                progress.update(bar, description=f"{method}, {trial.data.name}, split {trial.split}")
                run(method, functions[method], trial, backbone, options.out)
                progress.advance(bar)
    if options.csv:
        write_csv(csv_rows(methods, everything, backbone, options.out), options.csv)
        console.print(f"Written: {options.csv}")
    for setting, trials in plans.items():
        found = tables_of(setting, methods, trials, backbone, options.out)
        write(found, f"{setting}-{options.backbone.replace('/', '-')}", options.out, console)


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
    parser.add_argument("--setting", choices=[*SETTINGS, "mixed", "all"], default="bng")
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
    parser.add_argument(
        "--template",
        default="",
        help=f'prompt of all sets, such as "a photo of a {{}}" (default: by set; cdg: "{A_PHOTO}")',
    )
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
        "--exact-pixels", action="store_true", help="do not reduce or turn images before the test transform"
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
    sources = [fewer_tests(load(folder), options.tests) for folder in options.data]
    if options.root:
        default = [name for name in ELEVEN if options.setting != "cdg" or name != "ImageNet"]
        names = options.datasets or default
        sources += [fewer_tests(load(options.root, name), options.tests) for name in names]
    if not sources:
        raise SystemExit(
            "No data set is given. Add --root FOLDER for the papers' data sets, or --data FOLDER."
        )
    return sources


def read_trials(options: argparse.Namespace) -> list[Trial]:
    """Return the trials of the arguments, in the order in which they run."""
    # Names of other data sets make no sense in the template of the source.
    template = options.template or (A_PHOTO if options.setting == "cdg" else "")
    fields = {
        "template": template,
        "draws": options.draws,
        "tests_per_class": options.tests,
        "exact_pixels": options.exact_pixels,
    }
    return [replace(trial, **fields) for trial in _trials(options)]


def read_plans(options: argparse.Namespace, settings: Sequence[str]) -> dict[str, list[Trial]]:
    """Return the trials by setting.

    Raises:
        SystemExit: data sets or shots are missing; the message names all of them.
    """
    plans: dict[str, list[Trial]] = {}
    problems: list[str] = []
    for setting in settings:
        try:
            plans[setting] = read_trials(argparse.Namespace(**{**vars(options), "setting": setting}))
        except BadDataSet as problem:
            problems.append(str(problem))
    for trial in (trial for trials in plans.values() for trial in trials):
        try:
            shots_of(trial)
        except BadDataSet as problem:
            problems.append(str(problem))
    if problems:
        raise SystemExit("\n".join(dict.fromkeys(problems)))
    return plans


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
        target = fewer_tests(target, options.tests)
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


def write(
    tables: Sequence[Table], name: str, out: Path, console: Console, more: Mapping[str, Any] | None = None
) -> None:
    """Print the tables, and write them to the output folder: as Markdown, and with `more` as JSON."""
    out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(table.markdown() for table in tables)
    console.print(text, markup=False, soft_wrap=True)
    (out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    shown = [vars(table) for table in tables]
    content = shown if more is None else {**more, "tables": shown}
    (out / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    console.print(f"\nWritten: {out / name}.md and .json")


if __name__ == "__main__":
    main()
