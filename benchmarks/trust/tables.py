"""From judged runs to tables."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.tables import Table

Runs = Sequence[dict[str, Any]]


def tables(found: Runs) -> list[Table]:
    sets = list(dict.fromkeys(record["data"] for record in found))
    makers: list[Callable[[Runs, Sequence[str]], Table]] = [
        *(_reports, _verdicts, _labels, _confidences, _rejections, _costs)
    ]
    made = [make(found, sets) for make in makers]
    return [table for table in made if table.rows]


def _of(found: Runs, kind: str, data: str | None = None) -> Runs:
    return [r for r in found if r["kind"] == kind and data in {None, r["data"]}]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _reports(found: Runs, sets: Sequence[str]) -> Table:
    table = Table(
        "What the report says, and what the large test set says",
        [
            *("images", "runs", "held out", "accuracy said", "on the test set", "the interval holds it"),
            *("its mean width", "gain said", "on the test set", "the interval holds the gain"),
        ],
        note="Means. The accuracy is of the adapted network with the trained names as candidates.",
    )
    groups = [(data, _of(found, "real", data)) for data in sets]
    for data, runs in [*groups, ("all", _of(found, "real"))]:
        if not runs:
            continue
        said = [r["trained_classes"]["adapted"] for r in runs]
        gains = [r["trained_classes"]["adapted_against_stock"] for r in runs]
        holds = sum(_inside(s, r["true"]) for s, r in zip(said, runs, strict=True))
        gain_holds = sum(_inside(g, r["true_gain"]) for g, r in zip(gains, runs, strict=True))
        table.rows.append(
            [
                data,
                str(len(runs)),
                f"{_mean([r['measured_on']['images'] for r in runs]):.0f}",
                f"{_mean([s['value'] for s in said]):.3f}",
                f"{_mean([r['true'] for r in runs]):.3f}",
                f"{holds} of {len(runs)}",
                f"{_mean([s['high'] - s['low'] for s in said]):.2f}",
                f"{_mean([g['value'] for g in gains]):+.3f}",
                f"{_mean([r['true_gain'] for r in runs]):+.3f}",
                f"{gain_holds} of {len(runs)}",
            ]
        )
    return table


def _inside(interval: dict[str, float], value: float) -> bool:
    return bool(interval["low"] - 1e-9 <= value <= interval["high"] + 1e-9)


def _verdicts(found: Runs, sets: Sequence[str]) -> Table:
    words = ("better", "no_clear_gain", "worse", "not_measured")
    table = Table("Verdicts", ["images", "labels", "runs", *words])
    for kind in ("real", "shuffled"):
        for data in sets:
            runs = _of(found, kind, data)
            if runs:
                counts = [str(sum(r["verdict"] == word for r in runs)) for word in words]
                table.rows.append([data, kind, str(len(runs)), *counts])
    return table


def _labels(found: Runs, sets: Sequence[str]) -> Table:
    table = Table(
        "Wrong labels: one training image in ten has another class's",
        ["images", "runs", "planted", "named", "found", "precision", "recall"],
    )
    for data in sets:
        runs = _of(found, "planted", data)
        if runs:
            planted, hits, named = (sum(r[key] for r in runs) for key in ("planted", "found", "label_issues"))
            precision = f"{hits / named:.2f}" if named else "–"
            recall = f"{hits / planted:.2f}"
            table.rows.append([data, str(len(runs)), str(planted), str(named), str(hits), precision, recall])
    return table


def _confidences(found: Runs, sets: Sequence[str]) -> Table:
    table = Table(
        "Calibration on the large test set, trained names as candidates",
        [
            *("images", "runs", "ECE before", "ECE after", "temperature"),
            *("90 % sets hold the truth", "names in a set", "listed kept", "unlisted let through"),
            "kept if they were listed as new",
        ],
        note="Unlisted: images of the classes that are neither trained nor asked for. Listed kept and "
        "unlisted let through are what `reject` does. The last column is why it answers for trained names "
        "alone: how many of the unlisted ones, were their names listed as new, would have as high a cosine "
        "with one of these as 95 % of the held-out images have with trained names.",
    )
    for data in sets:
        runs = [r["confident"] for r in _of(found, "real", data) if "confident" in r]
        if runs:
            mean = {key: _mean([r[key] for r in runs]) for key in runs[0]}
            table.rows.append(
                [
                    data,
                    str(len(runs)),
                    *(f"{mean[key]:.3f}" for key in ("error_before", "error_after")),
                    f"{mean['temperature']:.2f}",
                    f"{mean['covered']:.3f}",
                    f"{mean['set_size']:.2f} of {mean['classes']:.0f}",
                    *(f"{mean[key]:.3f}" for key in ("kept", "let_through", "new_kept")),
                ]
            )
    return table


def _rejections(found: Runs, sets: Sequence[str]) -> Table:
    shown = [data for data in sets if _of(found, "real", data)]
    table = Table(
        "Rejection: share of unlisted images let through where 95 % of the listed ones are kept",
        ["rule", *shown, "mean"],
        note="Each at its best limit, which is found on the test images: what the rule could do.",
    )
    for rule in _of(found, "real")[0]["rejection"] if shown else ():
        shares = [_mean([r["rejection"][rule] for r in _of(found, "real", data)]) for data in shown]
        table.rows.append([rule, *(f"{share:.2f}" for share in (*shares, _mean(shares)))])
    return table


def _costs(found: Runs, sets: Sequence[str]) -> Table:
    table = Table(
        "What the report costs", ["images", "labels", "runs", "training s", "report s", "report / training"]
    )
    for kind in ("cost", "real", "shuffled", "planted"):
        for data in sets:
            runs = _of(found, kind, data)
            if runs:
                training, report = (
                    _mean([r[f"{of}_seconds"] for r in runs]) for of in ("training", "report")
                )
                ratio = np.median([r["report_seconds"] / r["training_seconds"] for r in runs])
                what = "real, all classes" if kind == "cost" else kind
                table.rows.append(
                    [data, what, str(len(runs)), f"{training:.0f}", f"{report:.0f}", f"{ratio:.2f}"]
                )
    return table
