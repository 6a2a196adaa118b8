"""Tables of base-to-new on the results pages, from stored runs and without images.

    python -m benchmarks.accuracy.report --check

`benchmarks.accuracy.paper --setting bng` made the runs below --out. The tables are written into the
pages, each between its markers `<!-- NAME -->` and `<!-- /NAME -->`. A method with fewer seeds than the stock
model is shown with the seeds that it has.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from benchmarks.accuracy.harness import Trial, results, store_of
from benchmarks.accuracy.measures import MEASURES
from benchmarks.accuracy.tables import (
    OURS,
    OVER,
    SERVED,
    STOCK,
    ByMethod,
    Collected,
    Runs,
    Table,
    base_to_new_tables,
    collect,
    compared,
    cross_domain_table,
    few_shot_table,
    figure,
    published_elsewhere,
    published_tables,
    rivals_table,
    signed,
)
from benchmarks.data.dataset import DataSet
from benchmarks.methods.common.registry import METHODS
from core.clip.models.backbone import Backbone

CLIP_CITE = "clip_cite"
PAGES, RESULTS = (Path(__file__).parents[1] / name for name in ("pages", "results"))
Stored = Callable[[str, Trial], bool]


def complete(method: str, trials: Sequence[Trial], stored: Stored) -> list[Trial]:
    """Return the trials of the seeds for which a method has all data sets and splits."""
    seeds = sorted({trial.seed for trial in trials})
    whole = [seed for seed in seeds if all(stored(method, t) for t in trials if t.seed == seed)]
    return [trial for trial in trials if trial.seed in whole]


def base_to_new_table(by_method: ByMethod, collected: Collected, names: Sequence[str]) -> Table:
    """Return the means over the data sets, HM and mixed HM of each, and differences to stock."""
    shown = ("HM", "mixed HM", "all")
    table = Table(
        "Base-to-new and mixed: means over data sets",
        ["method", "runs", *MEASURES, "HM by data set", "mixed HM by data set"],
        note="Below HM, mixed HM and all: the difference to stock with its paired 95% interval over "
        f"{OVER}. Data sets in this order: {', '.join(names)}.",
    )
    for method, trials in by_method.items():
        stock = collected(STOCK, trials)[0]
        for runs in collected(method, trials):
            values = runs.means()
            against = compared(runs, stock)["mean"] if runs.label != STOCK else {}
            cells = [
                figure(values["mean"][m]) + (f"<br>{signed(against[m])}" if m in shown and against else "")
                for m in MEASURES
            ]
            by_data = [" / ".join(figure(values[n][m]) for n in names) for m in ("HM", "mixed HM")]
            count = sum(len(answers) for answers in runs.answers.values())
            table.rows.append([runs.label, str(count), *cells, *by_data])
    return table


def with_tables(text: str, tables: dict[str, Table]) -> str:
    """Return the page with these tables between their markers.

    Raises:
        SystemExit: the page has no markers for a table.
    """
    for name, table in tables.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not block.search(text):
            raise SystemExit(
                f"The page has no <!-- {name} --> … <!-- /{name} -->. Add these markers to the page."
            )
        text = block.sub(lambda found, t=table: f"{found[1]}\n{t.markdown()}\n\n{found[2]}", text)  # type: ignore[misc]
    return text


def tables_of(
    setting: str, methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path
) -> list[Table]:
    """Return the tables of a setting, with the published figures."""
    names = list(dict.fromkeys(trial.data.name for trial in trials))
    by_set = [[trial for trial in trials if trial.data.name == name] for name in names]
    if setting == "fsl":
        groups = [*by_set, list(trials)] if len(names) > 1 else [list(trials)]
        return [few_shot_table(methods, group, backbone, out) for group in groups]
    if setting in ("dg", "cdg"):
        tables = [cross_domain_table(methods, group, backbone, out) for group in by_set]
        return [*tables, published_elsewhere(setting)]
    tables = base_to_new_tables(methods, trials, backbone, out)
    if CLIP_CITE in methods and set(methods) - {STOCK, CLIP_CITE}:  # with rivals

        @cache
        def collected(method: str, trials: tuple[Trial, ...]) -> list[Runs]:
            return collect([method], trials, backbone, out)

        by_method = dict.fromkeys(methods, tuple(trials))
        tables += [rivals_table(by_method, collected, label) for label in (SERVED, OURS)]
    return tables + published_tables(names)


def page_of(name: str, pages: Sequence[Path]) -> Path:
    """Return the page with the markers of a table, the first page if none has them."""
    marker = f"<!-- {name} -->"
    return next((page for page in pages if marker in page.read_text(encoding="utf-8")), pages[0])


def stored_trials(backbone: Backbone, out: Path) -> list[Trial]:
    """Return the base-to-new trials of the stored runs, without their images.

    Raises:
        SystemExit: there are no stored runs.
    """
    pattern = re.compile(r"([^/]+)/split(\d+)-seed(\d+)-(\d+)shots-(\d+)classes(?:-(\d+)tests)?/stock")
    trials = []
    for key in store_of(STOCK, backbone, out).names():
        if found := pattern.fullmatch(key):
            data = DataSet(found[1], (), (), (), ())
            split, seed, shots, classes = map(int, found.groups()[1:5])
            tests = int(found[6]) if found[6] else None
            trained = tuple(range(classes))
            trials.append(Trial(data, trained, shots, split, seed, (data,), tests_per_class=tests))
    if not trials:
        raise SystemExit(
            f"{out} has no runs of {STOCK}. Run benchmarks.accuracy.paper with this --out first."
        )
    return trials


def base_to_new_page(trials: Sequence[Trial], backbone: Backbone, out: Path) -> dict[str, Table]:
    """Return the tables of base-to-new runs by their name on the page."""

    def stored(method: str, trial: Trial) -> bool:
        return any(True for _ in results(method, trial, backbone, out))

    names = list(dict.fromkeys(trial.data.name for trial in trials))
    by_method = {m: tuple(complete(m, trials, stored)) for m in METHODS}
    by_method = {m: kept for m, kept in by_method.items() if kept}

    @cache
    def collected(method: str, trials: tuple[Trial, ...]) -> list[Runs]:
        return collect([method], trials, backbone, out)

    return {
        "bng": base_to_new_table(by_method, collected, names),
        "rivals": rivals_table(by_method, collected, SERVED),
        "published": published_tables([])[0],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    command_line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command_line.add_argument("--backbone", default="starter")
    command_line.add_argument("--out", type=Path, default=RESULTS, help="folder of the stored runs")
    command_line.add_argument(
        "--page", type=Path, nargs="+", default=sorted(PAGES.glob("*.md")), help="pages with the markers"
    )
    command_line.add_argument(
        "--check", action="store_true", help="write nothing, and fail if a table differs"
    )
    options = command_line.parse_args(arguments)
    # Stored runs are found by the name of the backbone alone.
    backbone = cast(Backbone, SimpleNamespace(name=options.backbone))
    changed = []
    for name, table in base_to_new_page(stored_trials(backbone, options.out), backbone, options.out).items():
        page = page_of(name, options.page)
        before = page.read_text(encoding="utf-8")
        after = with_tables(before, {name: table})
        if after != before:
            changed.append(name)
            if not options.check:
                page.write_text(after, encoding="utf-8")
    if options.check and changed:
        raise SystemExit(f"The pages differ from the stored runs in: {', '.join(changed)}.")


if __name__ == "__main__":
    main()
