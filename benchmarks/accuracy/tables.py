"""Tables of stored runs."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.harness import Trial, results, store_of
from benchmarks.accuracy.measures import (
    MEASURES,
    OPEN_WORLD,
    Difference,
    Floats,
    differences,
    harmonic_mean,
    means,
    resampled,
)
from benchmarks.accuracy.scores import BestScores
from benchmarks.data.published import (
    BASE_TO_NEW,
    CLIP_CITE_ALPHA_1,
    DOMAIN_GENERALISATION,
    EUROSAT_TO_IMAGENET,
)
from core.clip.models.backbone import Backbone

STOCK, OURS, SERVED = "stock", "CLIP-CITE", "CLIP-CITE, served"
"""Labels: the stock model, the product with the paper's scores, and with its default
(`core.clip.inference.request_rule`)."""
OVER = "splits, seeds within them, and images"
"""Sources of variation in the intervals; the data sets are fixed."""


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        head = f"| {' | '.join(self.columns)} |"
        line = f"|{'|'.join(['---'] + ['---:'] * (len(self.columns) - 1))}|"
        body = [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(
            [f"**{self.title}**", "", head, line, *body, *(["", self.note] if self.note else [])]
        )


@dataclass
class Runs:
    """All runs of one method, by data set, in the order of the trials."""

    label: str
    answers: dict[str, list[BestScores]] = field(default_factory=dict)
    splits: dict[str, list[int]] = field(default_factory=dict)
    """Class split of each of the answers."""
    seconds: list[float] = field(default_factory=list)

    def means(self) -> dict[str, dict[str, float]]:
        """Return the measures by data set, and their mean as "mean"."""
        by_data = {name: means(runs) for name, runs in self.answers.items()}
        shared = [m for m in (*MEASURES, *OPEN_WORLD) if all(m in row for row in by_data.values())]
        average = {m: float(np.mean([row[m] for row in by_data.values()])) for m in shared}
        return {**by_data, "mean": average}

    @cached_property
    def resampled(self) -> dict[str, dict[str, Floats]]:
        """Return `means` for each bootstrap resample. Each data set is resampled independently."""
        by_data = {
            name: resampled(runs, self.splits[name], zlib.crc32(name.encode()))
            for name, runs in self.answers.items()
        }
        average = {
            m: np.mean([row[m] for row in by_data.values()], axis=0) for m in next(iter(by_data.values()))
        }
        return {**by_data, "mean": average}


def csv_rows(
    methods: Iterable[str], trials: Sequence[Trial], backbone: Backbone, out: Path
) -> list[dict[str, Any]]:
    """Return one row per stored run, label and test set: settings, measures, and facts of the run."""
    rows = []
    for method in methods:
        store = store_of(method, backbone, out)
        for trial in trials:
            stored = store.get(trial.key(method))
            for result in results(method, trial, backbone, out):
                assert stored is not None
                for test, answers in result.answers.items():
                    values = means([answers])
                    rows.append(
                        {
                            "method": method,
                            "label": result.label,
                            "template": trial.template or " | ".join(trial.data.templates),
                            "draws": trial.draws,
                            "backbone": backbone.name,
                            "backbone_sha256": stored.record.get("backbone_sha256", ""),
                            "data": trial.data.name,
                            "test": test,
                            "classes": len(trial.trained),
                            "shots": trial.shots,
                            "split": trial.split,
                            "seed": trial.seed,
                            "iterations": stored.record.get("iterations", ""),
                            **{m: values.get(m, "") for m in (*MEASURES, *OPEN_WORLD)},
                            "seconds": result.seconds,
                            "peak_bytes": stored.record.get("peak_bytes", ""),
                            "device": stored.record.get("machine", {}).get("device", ""),
                            "commit": stored.record.get("commit", ""),
                        }
                    )
    return rows


ByMethod = Mapping[str, tuple[Trial, ...]]
Collected = Callable[[str, tuple[Trial, ...]], list[Runs]]
"""Stored runs of a method on trials, one Runs per label."""


def collect(methods: Iterable[str], trials: Sequence[Trial], backbone: Backbone, out: Path) -> list[Runs]:
    """Return the stored runs of these methods and trials, one Runs per label."""
    by_label: dict[str, Runs] = {}
    for method in methods:
        for trial in trials:
            for result in results(method, trial, backbone, out):
                runs = by_label.setdefault(result.label, Runs(result.label))
                runs.seconds.append(result.seconds)
                for name, answers in result.answers.items():
                    # Keyed by test set; the new classes of the trained data set have that set's name.
                    runs.answers.setdefault(name, []).append(answers)
                    runs.splits.setdefault(name, []).append(trial.split)
    return list(by_label.values())


def compared(ours: Runs, theirs: Runs) -> dict[str, dict[str, Difference]]:
    """Return the differences of means with intervals, by data set and as "mean"."""
    a, b, x, y = ours.means(), theirs.means(), ours.resampled, theirs.resampled
    return {name: differences(x[name], y[name], {m: a[name][m] - b[name][m] for m in x[name]}) for name in x}


def splits_won(ours: Runs, theirs: Runs, name: str) -> str:
    """Return in how many class splits of all data sets `ours` has the higher mean of a measure."""
    gains: dict[tuple[str, int], list[float]] = {}
    for data, runs in ours.answers.items():
        for run, other, split in zip(runs, theirs.answers[data], ours.splits[data], strict=True):
            gains.setdefault((data, split), []).append(means([run])[name] - means([other])[name])
    return f"{sum(np.mean(values) > 0 for values in gains.values())} of {len(gains)}"


def rivals_table(by_method: ByMethod, collected: Collected, ours: str) -> Table:
    """Return `ours` less each other method, on the trials of that method."""
    shown = ("HM", "mixed HM", "all")
    table = Table(
        f"{ours}, less each method",
        ["method", *shown, "splits won: HM", "mixed HM", "all"],
        note=f"95% intervals over {OVER}; the data sets are fixed.",
    )
    for method, trials in by_method.items():
        product = next(r for r in collected("clip_cite", trials) if r.label == ours)
        for runs in collected(method, trials):
            if runs.label == ours:
                continue
            gain = compared(product, runs)["mean"]
            won = [splits_won(product, runs, m) if not np.isnan(gain[m].value) else "–" for m in shown]
            table.rows.append([runs.label, *(signed(gain[m]) for m in shown), *won])
    return table


def base_to_new_tables(
    methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path
) -> list[Table]:
    """Return one table per data set, and one of their means."""
    runs = collect(methods, trials, backbone, out)
    stock = next((r for r in runs if r.label == STOCK), None)
    names = list(dict.fromkeys(trial.data.name for trial in trials))
    tables = []
    for name in [*names, *(["mean"] if len(names) > 1 else [])]:
        tests = {t.data.name: len(t.data.test) for t in trials}
        title = (
            f"Mean of {len(names)} data sets"
            if name == "mean"
            else f"{name}: {tests[name]} test images, mean of {len(runs[0].answers[name])} runs"
        )
        tables.append(_measures_table(title, runs, stock, name))
    return tables


def _measures_table(title: str, runs: Sequence[Runs], stock: Runs | None, name: str) -> Table:
    table = Table(
        title,
        ["method", *MEASURES, "HM of means", "seconds"],
        note=f"Differences are to stock, with paired 95% bootstrap intervals over {OVER}. Papers print the "
        "HM of the mean B and the mean N.",
    )
    for one in runs:
        values = one.means()[name]
        seconds = f"{np.median(one.seconds):.1f}"
        cells = [figure(values[m]) if m in values else "–" for m in MEASURES]
        if stock is not None and one is not stock:
            against = compared(one, stock)[name]
            cells = [
                f"{cell}<br>{signed(against[m])}" if m in against else cell
                for cell, m in zip(cells, MEASURES, strict=True)
            ]
        of_means = harmonic_mean(np.array(values["B"]), np.array(values["N"])) if "N" in values else np.nan
        table.rows.append([one.label, *cells, figure(float(of_means)), seconds])
    return table


def figure(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def signed(difference: Difference) -> str:
    if np.isnan(difference.value):
        return "–"
    value, low, high = (f"{x:+.3f}".replace("-", "−") for x in vars(difference).values())
    return f"{value} [{low}, {high}]"


def few_shot_table(methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path) -> Table:
    """Return the accuracy by shots, as the mean over data sets and seeds."""
    shots = sorted({trial.shots for trial in trials})
    names = list(dict.fromkeys(trial.data.name for trial in trials))
    table = Table(f"Accuracy by shots per class, mean of {', '.join(names)}", ["method", *map(str, shots)])
    by_shots = [collect(methods, [t for t in trials if t.shots == n], backbone, out) for n in shots]
    for label in dict.fromkeys(runs.label for of_shots in by_shots for runs in of_shots):
        cells = []
        for of_shots in by_shots:
            found = next((runs for runs in of_shots if runs.label == label), None)
            cells.append(f"{found.means()['mean']['B']:.3f}" if found else "–")
        table.rows.append([label, *cells])
    return table


def cross_domain_table(
    methods: Sequence[str], trials: Sequence[Trial], backbone: Backbone, out: Path
) -> Table:
    """Return the accuracy on each test set (DG, CDG), as the mean over sources, splits and seeds."""
    runs = collect(methods, trials, backbone, out)
    stock = next((r for r in runs if r.label == STOCK), None)
    tests = list(runs[0].answers)
    sources = list(dict.fromkeys(trial.data.name for trial in trials))
    table = Table(f"Trained on {', '.join(sources)}: accuracy elsewhere", ["method", *tests])
    for one in runs:
        values, against = one.means(), None if stock in (None, one) else compared(one, stock)
        cells = []
        for test in tests:
            cell = f"{values[test]['all']:.3f}"
            cells.append(f"{cell}<br>{signed(against[test]['all'])}" if against else cell)
        table.rows.append([one.label, *cells])
    return table


def published_elsewhere(setting: str) -> Table:
    """Return the papers' figures of DG or CDG."""
    if setting == "dg":
        table = Table("Published: trained on ImageNet, %", ["method", "mean of V2, Sketch, A and R"])
        table.rows = [[method, str(value)] for method, value in DOMAIN_GENERALISATION.items()]
    else:
        table = Table("Published: EuroSAT to ImageNet, %", ["method", "base classes", "new classes"])
        table.rows = [[method, *map(str, values)] for method, values in EUROSAT_TO_IMAGENET.items()]
    return table


def published_tables(names: Sequence[str]) -> list[Table]:
    """Return the papers' figures: the mean of the 11 data sets, and the figures of the data sets `names`."""
    known = [n for n in dict.fromkeys(names) if any(n in p.datasets for p in BASE_TO_NEW.values())]
    table = Table(
        "Published: ViT-B/16, OpenAI's weights, 16 shots, B / N / HM in per cent",
        ["method", "mean of 11", *known],
    )
    for label, published in BASE_TO_NEW.items():
        figures = [published.average, *(published.datasets.get(name) for name in known)]
        table.rows.append([label, *(f"{f.base} / {f.new} / {f.hm}" if f else "–" for f in figures)])
    alpha_1 = CLIP_CITE_ALPHA_1
    table.rows.append(
        ["CLIP-CITE, α = 1", f"{alpha_1.base} / {alpha_1.new} / {alpha_1.hm}", *("–" for _ in known)]
    )
    return [table]
