"""Tables of the judged runs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.tables import Table

Runs = Sequence[dict[str, Any]]
ERRORS = ("error_before", "error_after", "mixed_before", "mixed_after")


def tables(records: Runs) -> list[Table]:
    sets = list(dict.fromkeys(record["data"] for record in records))
    makers: list[Callable[[Runs, Sequence[str]], Table]] = [
        *(_reports, _verdicts, _labels, _confidences, _costs)
    ]
    made = [make(records, sets) for make in makers]
    return [table for table in made if table.rows]


def _of(records: Runs, kind: str, data: str | None = None) -> Runs:
    return [r for r in records if r["kind"] == kind and data in {None, r["data"]}]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _reports(records: Runs, sets: Sequence[str]) -> Table:
    table = Table(
        "Report against the large test set",
        [
            *("images", "runs", "held out", "reported accuracy", "on the test set", "interval contains it"),
            *("mean width", "reported gain", "on the test set", "interval contains the gain"),
        ],
        note="Means. Accuracy of the adapted model with the trained classes as candidates.",
    )
    groups = [(data, _of(records, "real", data)) for data in sets]
    for data, runs in [*groups, ("all", _of(records, "real"))]:
        if not runs:
            continue
        accuracies = [r["trained_classes"]["adapted"] for r in runs]
        gains = [r["trained_classes"]["adapted_against_stock"] for r in runs]
        holds = sum(_inside(s, r["true"]) for s, r in zip(accuracies, runs, strict=True))
        gain_holds = sum(_inside(g, r["true_gain"]) for g, r in zip(gains, runs, strict=True))
        table.rows.append(
            [
                data,
                str(len(runs)),
                f"{_mean([r['measured_on']['images'] for r in runs]):.0f}",
                f"{_mean([s['value'] for s in accuracies]):.3f}",
                f"{_mean([r['true'] for r in runs]):.3f}",
                f"{holds} of {len(runs)}",
                f"{_mean([s['high'] - s['low'] for s in accuracies]):.2f}",
                f"{_mean([g['value'] for g in gains]):+.3f}",
                f"{_mean([r['true_gain'] for r in runs]):+.3f}",
                f"{gain_holds} of {len(runs)}",
            ]
        )
    return table


def _inside(interval: dict[str, float], value: float) -> bool:
    return bool(interval["low"] - 1e-9 <= value <= interval["high"] + 1e-9)


def _verdicts(records: Runs, sets: Sequence[str]) -> Table:
    found = {record["verdict"] for record in records}
    always = (
        "better",
        "no_clear_gain",
        "worse",
        "not_evaluated",
    )  # stored runs may be older than the other two
    order = ("better", "probably_better", "no_clear_gain", "probably_worse", "worse", "not_evaluated")
    words = [word for word in order if word in {*always, *found}]
    table = Table("Verdicts", ["images", "labels", "runs", *words])
    for kind in ("real", "shuffled"):
        for data in sets:
            runs = _of(records, kind, data)
            if runs:
                counts = [str(sum(r["verdict"] == word for r in runs)) for word in words]
                table.rows.append([data, kind, str(len(runs)), *counts])
    return table


def _labels(records: Runs, sets: Sequence[str]) -> Table:
    table = Table(
        "Label issues: one training image in ten has the label of another class",
        ["images", "runs", "planted", "reported", "found", "precision", "recall"],
    )
    for data in sets:
        runs = _of(records, "planted", data)
        if runs:
            planted, hits, reported = (
                sum(r[key] for r in runs) for key in ("planted", "found", "label_issues")
            )
            precision = f"{hits / reported:.2f}" if reported else "–"
            recall = f"{hits / planted:.2f}"
            table.rows.append(
                [data, str(len(runs)), str(planted), str(reported), str(hits), precision, recall]
            )
    return table


def _confidences(records: Runs, sets: Sequence[str]) -> Table:
    table = Table(
        "Calibration on the large test set, trained classes as candidates; mixed: with the new ones",
        [
            *("images", "runs", "ECE before", "ECE after", "mixed ECE before", "mixed ECE after"),
            *("temperature", "90% sets contain the true class", "classes per set"),
        ],
    )
    for data in sets:
        runs = [r["confident"] for r in _of(records, "real", data) if "confident" in r]
        if runs:
            mean = {key: _mean([r[key] for r in runs]) for key in runs[0]}
            table.rows.append(
                [
                    data,
                    str(len(runs)),
                    *(f"{mean[key]:.3f}" for key in ERRORS),
                    f"{mean['temperature']:.2f}",
                    f"{mean['covered']:.3f}",
                    f"{mean['set_size']:.2f} of {mean['classes']:.0f}",
                ]
            )
    return table


def _costs(records: Runs, sets: Sequence[str]) -> Table:
    table = Table(
        "Cost of the report", ["images", "labels", "runs", "training, s", "report, s", "report / training"]
    )
    for kind in ("cost", "real", "shuffled", "planted"):
        for data in sets:
            runs = _of(records, kind, data)
            if runs:
                training, report = (
                    _mean([r[f"{part}_seconds"] for r in runs]) for part in ("training", "report")
                )
                ratio = np.median([r["report_seconds"] / r["training_seconds"] for r in runs])
                what = "real, all classes" if kind == "cost" else kind
                table.rows.append(
                    [data, what, str(len(runs)), f"{training:.0f}", f"{report:.0f}", f"{ratio:.2f}"]
                )
    return table
