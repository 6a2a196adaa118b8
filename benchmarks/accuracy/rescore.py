"""Rules of inference compared on stored features, in minutes and without a training.

    python -m benchmarks.accuracy.rescore --data clothing cifar10 stamps trashnet signs digits --tests 60
    --first-split 5 --splits 2 --few-shot-seeds 1 --unrelated imagenet --page benchmarks/pages/requests.md

The options are those of `benchmarks.accuracy.encodings`, which stored the features below --out. For each
kind of request the rule is chosen by leave-one-set-out: for each set the best rule on all others. The plan is
benchmarks/plans/three-kinds-of-request.md.
"""

import argparse
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy import encodings, rules
from benchmarks.accuracy.encodings import Encodings
from benchmarks.accuracy.measures import (
    Difference,
    Floats,
    harmonic_mean,
    mean_of_resampled_runs,
    resampled_images,
)
from benchmarks.accuracy.paper import load_for, read_sets, read_trials, write
from benchmarks.accuracy.report import write_page
from benchmarks.accuracy.rules import Rule, Support
from benchmarks.accuracy.tables import Table, figure, signed
from benchmarks.accuracy.trials import few_shot
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.models.backbone import Backbone
from core.clip.prompts import class_indices

Candidate = Hashable
"""A Rule, the threshold of the gate, or what another module compares."""
Outcomes = NDArray[np.int8]
"""[N] of all test images: 1 for a correct prediction, 0 for a wrong one, -1 for an image left out."""
Correct = dict[str, Outcomes]
"""Outcomes by measure."""
COUNTS = (1, 16)
THRESHOLDS = tuple(round(-0.3 + 0.02 * i, 2) for i in range(21))
SCORES = {
    "closed": ("B", "16 shots"),
    "mixed": ("mixed HM", "all", "mixed retention"),
    "foreign": ("N", "retention"),
    "strength": ("mixed HM", "all", "retention"),
}
"""The measures whose mean is the score of a rule."""


@dataclass
class Runs:
    """The stored runs of one data set."""

    half: list[Encodings] = field(default_factory=list)
    """Half of the classes trained."""
    by_shots: dict[int, list[Encodings]] = field(default_factory=dict)
    """All classes trained."""


def closed(run: Encodings, rule: Rule) -> Outcomes:
    """Predict the test images of trained classes among the trained classes."""
    trained = list(run.trained)
    return _within(run, rule, trained, range(len(trained)))


def mixed(run: Encodings, rule: Rule) -> Correct:
    """Predict all test images among all classes, and unrelated ones among unrelated and trained classes.

    `one new` has the images of the trained classes and of one new class, among these classes.
    """
    support = Support.of(run.shots, run.shot_labels)
    predicted = rules.scores(rule, run.images, run.texts, support, run.classes).argmax(dim=1)
    outcomes = (predicted == run.truth).numpy().astype(np.int8)
    is_trained = np.isin(run.truth.numpy(), run.trained)
    correct = {
        "mixed B": np.where(is_trained, outcomes, np.int8(-1)),
        "mixed N": np.where(is_trained, np.int8(-1), outcomes),
        "all": outcomes,
    }
    trained = list(run.trained)
    new = [label for label in range(len(run.class_names)) if label not in run.trained]
    one = new[sum(trained) % len(new)]
    correct["one new"] = _within(run, rule, [*trained, one], [*range(len(trained)), NEW_CLASS])
    if run.unrelated_names:
        names = [run.class_names[label] for label in trained]
        texts = {
            alpha: torch.cat([features, run.texts[alpha][trained]])
            for alpha, features in run.unrelated_texts.items()
        }
        classes = [*class_indices(run.unrelated_names, names), *range(len(names))]
        correct["mixed retention"] = _unrelated(run, rule, texts, classes, names)
    return correct


def foreign(run: Encodings, rule: Rule, measures: Sequence[str] = ("N", "retention")) -> Correct:
    """Predict the test images of new classes among those, and unrelated images among unrelated names."""
    correct: Correct = {}
    if "N" in measures:
        new = [label for label in range(len(run.class_names)) if label not in run.trained]
        correct["N"] = _within(run, rule, new, [NEW_CLASS] * len(new))
    if "retention" in measures and run.unrelated_names:
        classes = [NEW_CLASS] * len(run.unrelated_names)
        correct["retention"] = _unrelated(run, rule, run.unrelated_texts, classes, [])
    return correct


def gated(run: Encodings, threshold: float) -> Correct:
    """Return `foreign` with the ensemble for requests near the trained classes, and stock for all others."""
    new = [label for label in range(len(run.class_names)) if label not in run.trained]
    trained = run.texts[0.0][list(run.trained)]
    asked = {"N": run.texts[0.0][new], "retention": run.unrelated_texts[0.0]}
    correct: Correct = {}
    for measure, names in asked.items():
        near = rules.nearness(names, trained) >= threshold
        correct |= foreign(run, rules.PAPER if near else rules.STOCK, [measure])
    return correct


def _within(run: Encodings, rule: Rule, labels: Sequence[int], classes: Sequence[int]) -> Outcomes:
    """Predict the test images of these classes, with these as candidates."""
    truth = run.truth.numpy()
    rows = np.isin(truth, labels)
    images = {alpha: features[torch.from_numpy(rows)] for alpha, features in run.images.items()}
    texts = {alpha: features[list(labels)] for alpha, features in run.texts.items()}
    support = Support.of(run.shots, run.shot_labels)
    predicted = rules.scores(rule, images, texts, support, classes).argmax(dim=1).numpy()
    outcomes = np.full(len(truth), -1, dtype=np.int8)
    outcomes[rows] = np.equal(np.array(labels)[predicted], truth[rows])
    return outcomes


def _unrelated(
    run: Encodings,
    rule: Rule,
    texts: Mapping[float, Tensor],
    classes: Sequence[int],
    more: Sequence[str],
) -> Outcomes:
    """Predict the unrelated images. Names are compared, since ImageNet has two of them twice."""
    support = Support.of(run.shots, run.shot_labels)
    predicted = rules.scores(rule, run.unrelated_images, texts, support, classes).argmax(dim=1).numpy()
    names = np.array([*run.unrelated_names, *more])
    outcomes: Outcomes = np.equal(names[predicted], names[run.unrelated_truth.numpy()]).astype(np.int8)
    return outcomes


# --- measures of a rule ---

Measured = Mapping[str, list[Outcomes]]
"""Outcomes of the runs of a data set, by measure."""


def measured(kind: str, rule: Candidate, runs: Runs) -> dict[str, list[Outcomes]]:
    """Apply a rule, or the gate with a threshold, to all runs of a data set."""
    if isinstance(rule, float):
        rows = [gated(run, rule) for run in runs.half]
        return {name: [row[name] for row in rows] for name in rows[0]}
    assert isinstance(rule, Rule)
    if kind == "closed":
        table = {"B": [closed(run, rule) for run in runs.half]}
        return table | {
            f"{n} shots": [closed(run, rule) for run in of_shots] for n, of_shots in runs.by_shots.items()
        }
    rows = [(mixed if kind == "mixed" else foreign)(run, rule) for run in runs.half]
    return {name: [row[name] for row in rows] for name in rows[0]}


def per_run(correct: Measured, weights: Callable[[int], Floats]) -> dict[str, Floats]:
    """Return each measure and mixed HM as [runs, R].

    Args:
        weights: [R, N] for N images: ones, or resamples.
    """
    table = {
        name: np.stack([_accuracy(run, weights(len(run))) for run in rows]) for name, rows in correct.items()
    }
    if "mixed B" in table:
        table["mixed HM"] = harmonic_mean(table["mixed B"], table["mixed N"])
    return table


def means(correct: Measured) -> dict[str, float]:
    """Return each measure as the mean over the runs."""
    return {name: float(rows.mean()) for name, rows in per_run(correct, lambda n: np.ones((1, n))).items()}


def _accuracy(outcomes: Outcomes, weights: Floats) -> Floats:
    share: Floats = weights @ (outcomes == 1) / np.maximum(weights @ (outcomes >= 0), 1)
    return share


def name_of(rule: Candidate) -> str:
    return f"gate at {rule:+.2f}" if isinstance(rule, float) else str(getattr(rule, "label", rule))


# --- the choice ---


class Comparison:
    """All rules of one kind of request on all data sets."""

    def __init__(
        self,
        kind: str,
        candidates: Sequence[Candidate],
        sets: Mapping[str, Runs],
        measured: Callable[[str, Any, Runs], dict[str, list[Outcomes]]] = measured,
    ) -> None:
        self.kind = kind
        self.candidates = candidates
        self.sets = sets
        self.by_rule = {
            rule: {name: measured(kind, rule, runs) for name, runs in sets.items()} for rule in candidates
        }
        self.values = {
            rule: {name: means(correct) for name, correct in by_set.items()}
            for rule, by_set in self.by_rule.items()
        }

    def score(self, rule: Candidate, names: Iterable[str]) -> float:
        """Return the mean score of a rule on these sets: the mean over its measures, each over its sets."""
        values = self.values[rule]
        measures = [[values[n][m] for n in names if m in values[n]] for m in SCORES[self.kind]]
        return float(np.mean([np.mean(of_sets) for of_sets in measures if of_sets]))

    def best(
        self, names: Sequence[str], allowed: Callable[[Candidate], bool] = lambda rule: True
    ) -> Candidate:
        """Return the rule with the highest score on these sets, the first of equal ones."""
        return max(filter(allowed, self.candidates), key=lambda rule: self.score(rule, names))

    def left_out(self, allowed: Callable[[Candidate], bool] = lambda rule: True) -> dict[str, Candidate]:
        """Return for each set the best rule on all others."""
        names = list(self.sets)
        return {name: self.best([n for n in names if n != name], allowed) for name in names}

    def mean(self, chosen: Mapping[str, Candidate]) -> dict[str, float]:
        """Return the measures as the mean over the sets that have them, each set with its own rule."""
        rows = [self.values[rule][name] for name, rule in chosen.items()]
        measures = {m for row in rows for m in row}
        return {m: float(np.mean([row[m] for row in rows if m in row])) for m in measures}

    def interval(
        self, ours: Mapping[str, Candidate], theirs: Mapping[str, Candidate], measure: str
    ) -> tuple[float, float, float]:
        """Return the difference of a measure and its 95% interval, sets fixed."""
        names = [name for name, rule in ours.items() if measure in self.values[rule][name]]
        draws = [
            self._draws(ours[name], name)[measure] - self._draws(theirs[name], name)[measure]
            for name in names
        ]
        low, high = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
        return self.mean(ours)[measure] - self.mean(theirs)[measure], float(low), float(high)

    @cache  # noqa: B019 - one comparison per process and kind
    def _draws(self, rule: Candidate, name: str) -> dict[str, Floats]:
        seed = list(self.sets).index(name)
        values = per_run(self.by_rule[rule][name], lambda images: resampled_images(images, seed))
        return {
            measure: mean_of_resampled_runs(rows, range(len(rows)), seed) for measure, rows in values.items()
        }


def shown_measures(values: Mapping[str, float]) -> list[str]:
    shots = sorted((m for m in values if m.endswith("shots")), key=lambda m: int(m.split()[0]))
    order = ("B", *shots, "mixed B", "mixed N", "mixed HM", "all", "one new", "N")
    return [m for m in (*order, "mixed retention", "retention") if m in values]


def tables_of(comparison: Comparison) -> list[Table]:
    """Return the leave-one-set-out table, and the measures of the noted rules per set."""
    names = list(comparison.sets)
    kind = comparison.kind
    today = rules.today()
    fixed: dict[str, Candidate] = {"stock": rules.STOCK, "today": today, "the paper's": rules.PAPER}
    fixed = {label: rule for label, rule in fixed.items() if rule in comparison.values}
    fixed |= {f"**best on all sets: {name_of(r)}**": r for r in [comparison.best(names)]}
    at_half = comparison.best(names, _at_half)
    fixed |= {f"best at α 0.5: {name_of(at_half)}": at_half}
    rows = {label: dict.fromkeys(names, rule) for label, rule in fixed.items()}
    rows["leave-one-set-out"] = comparison.left_out()
    rows["leave-one-set-out at α 0.5"] = comparison.left_out(_at_half)
    shown = shown_measures(comparison.mean(rows["today"]))
    has = {m: [n for n in names if m in comparison.values[today][n]] for m in shown}
    partial = "".join(f" {m}: {', '.join(sets)} only." for m, sets in has.items() if len(sets) < len(names))
    main = Table(
        f"{kind.capitalize()} requests: mean of {len(names)} sets, and the difference to today's rule",
        ["rule", *shown, "score"],
        note="95% intervals over splits and images, sets fixed. Chosen by leave-one-set-out: "
        + "; ".join(f"{name}: {name_of(rule)}" for name, rule in rows["leave-one-set-out"].items())
        + f".{partial}",
    )
    for label, chosen in rows.items():
        values = comparison.mean(chosen)
        cells = [f"{figure(values[m])}{_against(comparison, chosen, rows['today'], m)}" for m in shown]
        score = float(np.mean([comparison.score(rule, [name]) for name, rule in chosen.items()]))
        main.rows.append([label, *cells, f"{score:.3f}"])
    per_set = Table(f"{kind.capitalize()} requests, by set", ["set", "rule", *shown])
    for name in names:
        for label in ("stock", "today", "leave-one-set-out", "leave-one-set-out at α 0.5"):
            if label in rows:
                rule = rows[label][name]
                row = comparison.values[rule][name]
                per_set.rows.append(
                    [
                        name,
                        f"{label} ({name_of(rule)})",
                        *(figure(row[m]) if m in row else "–" for m in shown),
                    ]
                )
    every = Table(f"{kind.capitalize()} requests: every rule", ["rule", *shown, "score"])
    for rule in sorted(comparison.candidates, key=lambda r: -comparison.score(r, names)):
        values = comparison.mean(dict.fromkeys(names, rule))
        score = comparison.score(rule, names)
        every.rows.append([name_of(rule), *(figure(values[m]) for m in shown), f"{score:.3f}"])
    return [main, per_set, every]


def _against(
    comparison: Comparison,
    ours: Mapping[str, Candidate],
    theirs: Mapping[str, Candidate],
    measure: str,
) -> str:
    if ours == theirs:
        return ""
    return f"<br>{signed(Difference(*comparison.interval(ours, theirs, measure)))}"


def _at_half(rule: Candidate) -> bool:
    return isinstance(rule, Rule) and rule.alpha == 0.5


def read_runs(
    options: argparse.Namespace, backbone: Backbone, counts: Sequence[int], first_seed: int | None = None
) -> dict[str, Runs]:
    """Read the stored runs by data set.

    Args:
        counts: shots per class of the runs with all classes trained; a missing one is left out.
        first_seed: first seed of these runs; None is the first split.

    Raises:
        SystemExit: there is one data set alone.
    """
    sets: dict[str, Runs] = {}
    for trial in read_trials(options):
        run = encodings.read(encodings.path_of(trial, backbone, options.out))
        sets.setdefault(trial.data.name, Runs()).half.append(run)
    first = (options.first_split or 0) if first_seed is None else first_seed
    for data in read_sets(options):
        for trial in few_shot(data, shots=counts, seeds=range(first, first + options.few_shot_seeds)):
            path = encodings.path_of(trial, backbone, options.out)
            if path.exists():
                sets[data.name].by_shots.setdefault(trial.shots, []).append(encodings.read(path))
    if len(sets) < 2:
        raise SystemExit("Leave-one-set-out needs at least two data sets. Add one to --data.")
    return sets


def command_line(description: str | None) -> argparse.ArgumentParser:
    options = encodings.command_line()
    options.description = description
    options.add_argument("--few-shot-seeds", type=int, default=0, help="seeds with all classes trained")
    options.add_argument("--page", type=Path, help="page whose tables between markers are replaced")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = command_line(__doc__).parse_args(arguments)
    backbone = load_for(options)
    sets = read_runs(options, backbone, COUNTS)
    candidates: dict[str, Sequence[Candidate]] = {
        "closed": rules.closed_rules(),
        "mixed": rules.mixed_rules(),
        "foreign": [*rules.foreign_rules(), *(THRESHOLDS if options.unrelated else ())],
    }
    tables: list[Table] = []
    for kind, rules_of_kind in candidates.items():
        of_kind = tables_of(Comparison(kind, rules_of_kind, sets))
        tables += of_kind
        if options.page:
            write_page({kind: of_kind[0]}, options.page)
    write(tables, f"rules-{options.backbone.replace('/', '-')}", options.out, Console(width=160))


if __name__ == "__main__":
    main()
