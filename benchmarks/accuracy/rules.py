"""The served rules of requests with trained and other names, scored on stored features.

    python -m benchmarks.accuracy.rules --out benchmarks/results

`benchmarks.accuracy.encodings` made the runs below --out. Needs no images and no training.
"""

import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from benchmarks.accuracy.encodings import Encodings, read, store_of
from benchmarks.accuracy.measures import (
    Difference,
    Floats,
    harmonic_mean,
    mean_of_resampled_runs,
    resampled_images,
)
from benchmarks.accuracy.tables import Table, figure, signed
from benchmarks.run_store import runs_parser
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.inference.request_rule import request_rule

ALPHA = 0.5
MEASURES = ("B", "N", "mixed B", "mixed N", "mixed HM", "all", "one new", "unrelated", "beside trained")


@dataclass(frozen=True)
class Request:
    """Images [N, D] and names [C, D] of a request, by α, and the trained class of each name."""

    images: Mapping[float, Tensor]
    texts: Mapping[float, Tensor]
    classes: Sequence[int]


Rule = Callable[[Encodings, Request], Tensor]
"""Scores [N, C]."""


def stock(run: Encodings, request: Request) -> Tensor:
    return request.images[0.0] @ request.texts[0.0].T


def paper(run: Encodings, request: Request) -> Tensor:
    return request.images[ALPHA] @ request.texts[ALPHA].T


def served(run: Encodings, request: Request) -> Tensor:
    rule = request_rule((run.shots[ALPHA], run.shot_labels), request.texts[ALPHA], request.classes)
    return rule.scores(request.images[ALPHA])


def preview(run: Encodings, request: Request) -> Tensor:
    rule = PrototypeClassifier(run.shots[0.0], run.shot_labels).rule(request.texts[0.0], request.classes)
    return rule.scores(request.images[0.0])


RULES: Mapping[str, Rule] = {"stock": stock, "paper": paper, "served": served, "preview": preview}


def outcomes(rule: Rule, run: Encodings) -> dict[str, Floats]:
    """Return the correctness [N] of the images by measure, NaN for images that do not count.

    "one new" is [N, new classes].
    """
    classes, alphas = run.classes, sorted(run.texts)
    is_new = torch.tensor([c == NEW_CLASS for c in classes])

    def correct(names: Tensor, counts: Tensor) -> Floats:
        """Answer with the classes `names` [C] as candidates."""
        chosen = names.nonzero()[:, 0]
        request = Request(
            run.images,
            {alpha: run.texts[alpha][chosen] for alpha in alphas},
            [classes[i] for i in chosen.tolist()],
        )
        hit = chosen[rule(run, request).argmax(dim=1)] == run.truth
        return np.where(counts.numpy(), hit.double().numpy(), np.nan)

    of_new = is_new[run.truth]
    found = {
        "B": correct(~is_new, ~of_new),
        "N": correct(is_new, of_new),
        "all": correct(torch.ones_like(is_new), torch.ones_like(of_new)),
    }
    found["mixed B"] = np.where(~of_new.numpy(), found["all"], np.nan)
    found["mixed N"] = np.where(of_new.numpy(), found["all"], np.nan)
    one = F.one_hot(is_new.nonzero()[:, 0], len(classes)).bool()
    found["one new"] = np.stack([correct(~is_new | name, ~of_new | name[run.truth]) for name in one], axis=1)
    trained = {alpha: run.texts[alpha][~is_new] for alpha in alphas}
    for measure, listed in (("unrelated", 0), ("beside trained", len(run.trained))):
        texts = {a: torch.cat([trained[a][:listed], run.unrelated_texts[a]]) for a in alphas}
        names = [c for c in classes if c != NEW_CLASS][:listed] + [NEW_CLASS] * len(run.unrelated_truth)
        answers = rule(run, Request(run.unrelated_images, texts, names)).argmax(dim=1) - listed
        found[measure] = (answers == run.unrelated_truth).double().numpy()
    return found


def resampled(found: Mapping[str, Floats], name: str) -> dict[str, Floats]:
    """Return each measure [1 + R]: as it is, and for each bootstrap resample of the images."""
    values = {}
    for measure, correct in found.items():
        # The unrelated images are the same for all data sets.
        seed = 0 if measure in ("unrelated", "beside trained") else zlib.crc32(name.encode())
        weights = np.concatenate([np.ones((1, len(correct))), resampled_images(len(correct), seed)])
        counts = weights @ np.isfinite(correct)
        hits = weights @ np.nan_to_num(correct)
        shares = hits / np.maximum(counts, 1)
        values[measure] = shares.mean(axis=1) if shares.ndim == 2 else shares
    values["mixed HM"] = harmonic_mean(values["mixed B"], values["mixed N"])
    return values


@dataclass(frozen=True)
class Series:
    """All runs of one series: values [1 + R] by arm, set, measure and run."""

    values: Mapping[str, Mapping[str, Mapping[str, Floats]]]
    splits: Mapping[str, Sequence[int]]

    @property
    def sets(self) -> list[str]:
        return list(self.splits)

    def of_set(self, arm: str, measure: str, name: str) -> Floats:
        """Return the mean over the splits [1 + R]; resamples draw splits too."""
        values, splits = self.values[arm][name][measure], self.splits[name]
        drawn = mean_of_resampled_runs(values[:, 1:], splits, zlib.crc32(name.encode()))
        return np.concatenate([values[:, 0].mean(keepdims=True), drawn])

    def mean(self, arm: str, measure: str) -> Floats:
        found: Floats = np.mean([self.of_set(arm, measure, name) for name in self.sets], axis=0)
        return found

    def less(self, arm: str, other: str, measure: str) -> Difference:
        gain = self.mean(arm, measure) - self.mean(other, measure)
        return Difference(float(gain[0]), *map(float, np.percentile(gain[1:], [2.5, 97.5])))


def series_of(runs: Mapping[tuple[str, int], Encodings]) -> Series:
    """Score all rules on the runs by set and split."""
    names = list(dict.fromkeys(name for name, _ in runs))
    values: dict[str, dict[str, dict[str, Floats]]] = {arm: {} for arm in RULES}
    for arm, rule in RULES.items():
        for name in names:
            rows = [resampled(outcomes(rule, run), name) for (of, _), run in runs.items() if of == name]
            values[arm][name] = {measure: np.stack([row[measure] for row in rows]) for measure in MEASURES}
    return Series(values, {name: [split for of, split in runs if of == name] for name in names})


def stored_series(backbone: str, out: Path) -> dict[str, dict[tuple[str, int], Encodings]]:
    """Return the stored runs by series, set and split."""
    pattern = re.compile(r"([^/]+)/split(\d+)-seed\2-(\d+)shots-(\d+)classes(?:-\d+tests)?/features")
    store = store_of(backbone, out)
    found: dict[str, dict[tuple[str, int], Encodings]] = defaultdict(dict)
    for key in sorted(store.names()):
        if not (match := pattern.fullmatch(key)):
            continue
        stored = store.get(key)
        assert stored is not None
        run = read(stored)
        name, (split, shots, trained) = match[1], map(int, match.groups()[1:])
        if trained == (len(run.class_names) + 1) // 2:
            found[f"half, {shots} shots"][name, split] = run
        if trained in (2, 3) and shots == 16:
            found[f"{trained} classes, 16 shots"][name, split] = run
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def rules_table(title: str, series: Series) -> Table:
    counts = [len(splits) for splits in series.splits.values()]
    table = Table(
        f"{title}: mean of {len(counts)} sets, {sum(counts)} runs",
        ["rule", *MEASURES],
        note="Below each value is the difference to the served rule, with its 95% interval "
        "over splits and images, sets fixed.",
    )
    for arm in RULES:
        cells = []
        for measure in MEASURES:
            cell = figure(float(series.mean(arm, measure)[0]))
            cells.append(
                cell if arm == "served" else f"{cell}<br>{signed(series.less(arm, 'served', measure))}"
            )
        table.rows.append([arm, *cells])
    return table


def sets_table(title: str, series: Series) -> Table:
    """Return B, mixed HM and accuracy over all images by set."""
    table = Table(f"{title}: B / mixed HM / all by set", ["rule", *series.sets])
    for arm in RULES:
        cells = [
            " / ".join(figure(float(series.of_set(arm, m, name)[0])) for m in ("B", "mixed HM", "all"))
            for name in series.sets
        ]
        table.rows.append([arm, *cells])
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = runs_parser(__doc__)
    parser.add_argument("--first-split", type=int, default=0, help="leave out the splits below")
    options = parser.parse_args(arguments)
    series, stored = {}, stored_series(options.backbone, options.out)
    for title, runs in stored.items():
        kept = {key: run for key, run in runs.items() if key[1] >= options.first_split}
        if kept:
            series[title] = series_of(kept)
    tables = [rules_table(title, one) for title, one in series.items()]
    if "half, 16 shots" in series:
        tables.append(sets_table("half, 16 shots", series["half, 16 shots"]))
    for table in tables:
        Console(width=200).print(table.markdown() + "\n", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
