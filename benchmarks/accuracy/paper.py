"""The papers' settings, on their data sets or on your own images.

    python -m benchmarks.accuracy.paper --root DATA --setting bng --backbone ViT-B-16/openai
    python -m benchmarks.accuracy.paper --data clothing cifar10 --setting bng --splits 5 --seeds 3 --methods
    all

--root is the folder of the papers' data sets as CoOp's DATASETS.md lays them out, --data folders with
`train/CLASS/` and `test/CLASS/`. Settings: bng (base-to-new; *mixed*, with all names as candidates, comes
with it), fsl (1 to 16 shots of all classes), dg (ImageNet to its four variants), cdg (what is left of
another data set's names after the adaptation). What every method answered to every image is kept
below --out; a run that was stopped goes on where it was, and a second one only prints. Remove the
folder, or name another, after a change of the code. The tables are printed, and written as Markdown and
JSON next to the answers, beside what the papers report.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.accuracy.harness import Trial, run
from benchmarks.accuracy.tables import (
    Table,
    base_to_new_tables,
    cross_domain_table,
    few_shot_table,
    published_tables,
)
from benchmarks.accuracy.trials import (
    FEW_SHOTS,
    base_to_new,
    cross_domain,
    domain_generalisation,
    few_shot,
    fewer_tests,
)
from benchmarks.data.dataset import DataSet
from benchmarks.data.load import load
from benchmarks.data.papers import ELEVEN, IMAGENET_VARIANTS
from benchmarks.methods.common.registry import METHODS
from core.clip.config import resolve_config
from core.clip.models.backbone import Backbone, load_backbone
from core.settings import get_settings


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser(__doc__, METHODS).parse_args(arguments)
    console = Console(width=160)
    backbone = load_for(given)
    trials = read_trials(given)
    methods = list(METHODS) if given.methods == ["all"] else given.methods
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(trials) * len(methods))
        for method in methods:
            for trial in trials:
                progress.update(bar, description=f"{method}, {trial.data.name}, split {trial.split}")
                run(method, METHODS[method], trial, backbone, given.out)
                progress.advance(bar)
    if given.setting in ("bng", "mixed"):
        tables = base_to_new_tables(methods, trials, backbone, given.out)
        tables += published_tables([trial.data.name for trial in trials])
    elif given.setting == "fsl":
        tables = [few_shot_table(methods, trials, backbone, given.out)]
    else:
        tables = [cross_domain_table(methods, trials, backbone, given.out)]
    write(tables, f"{given.setting}-{given.backbone.replace('/', '-')}", given.out, console)


def load_for(given: argparse.Namespace) -> Backbone:
    """The backbone that the arguments name, at its recipe's size."""
    if given.threads:
        torch.set_num_threads(given.threads)
    return load_backbone(
        given.backbone,
        cache=get_settings().cache,
        image_size=resolve_config(backbone=given.backbone).image_size,
        device=given.device,
    )


def parser(description: str | None, methods: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--setting", choices=["bng", "mixed", "fsl", "dg", "cdg"], default="bng")
    parser.add_argument("--root", type=Path, help="folder of the papers' data sets")
    parser.add_argument("--datasets", nargs="+", help="of --root; default: the eleven (cdg: ten of them)")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders with train/ and test/")
    parser.add_argument("--target", help="cdg: a name below --root, or a folder; default: ImageNet")
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--methods", nargs="+", default=["stock", "clip_cite"], choices=[*methods, "all"])
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--splits", type=int, default=1, help="the papers' split, then others")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tests", type=int, help="at most so many test images a class")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="for several runs side by side")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    return parser


def read_sets(given: argparse.Namespace) -> list[DataSet]:
    """The data sets that the arguments name."""
    sources = [_shortened(load(folder), given.tests) for folder in given.data]
    if given.root:
        default = [name for name in ELEVEN if given.setting != "cdg" or name != "ImageNet"]
        sources += [_shortened(load(given.root, name), given.tests) for name in given.datasets or default]
    if not sources:
        raise SystemExit("Say what to run on: --root FOLDER for the papers' data sets, or --data FOLDER.")
    return sources


def read_trials(given: argparse.Namespace) -> list[Trial]:
    """What the arguments ask for, in the order in which it is run."""
    seeds, splits = range(given.seeds), range(given.splits)
    if given.setting == "dg":
        variants = [load(given.root, name) for name in IMAGENET_VARIANTS]
        return domain_generalisation(load(given.root, "ImageNet"), variants, shots=given.shots, seeds=seeds)
    sources = read_sets(given)
    if given.setting == "cdg":
        is_folder = given.target and Path(given.target).is_dir()
        target = load(Path(given.target)) if is_folder else load(given.root, given.target or "ImageNet")
        target = _shortened(target, given.tests)
        return [
            trial
            for data in sources
            for trial in cross_domain(data, target, shots=given.shots, splits=splits, seeds=seeds)
        ]
    if given.setting == "fsl":
        return [t for data in sources for t in few_shot(data, shots=FEW_SHOTS, seeds=seeds)]
    return [
        trial
        for data in sources
        for trial in base_to_new(data, shots=given.shots, splits=splits, seeds=seeds)
    ]


def _shortened(data: DataSet, tests: int | None) -> DataSet:
    return data if tests is None else fewer_tests(data, tests)


def write(tables: Sequence[Table], name: str, out: Path, console: Console) -> None:
    """Print them, and leave them as Markdown and JSON in the output folder."""
    out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(table.markdown() for table in tables)
    console.print(text, markup=False, soft_wrap=True)
    (out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    content = [vars(table) for table in tables]
    (out / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    console.print(f"\nWritten: {out / name}.md and .json")


if __name__ == "__main__":
    main()
