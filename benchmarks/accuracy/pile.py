"""Piles: something else, groups, labels that count at once, and the switch, on stored features.

    python -m benchmarks.accuracy.pile
    python -m benchmarks.accuracy.pile --few FOLDER --steps FOLDER --out benchmarks/results

The first command prints the tables of pile-BACKBONE.json below --out. The second measures what is missing.
`benchmarks.accuracy.encodings` made the 16-shot runs below --out and the 5-shot runs below --few:

    DATA="clothing cifar10 trashnet stamps signs digits clipart symbols living things"
    python -m benchmarks.accuracy.encodings --data $DATA --tests 60 --alphas 0.5 --unrelated imagenet
    --first-split 56 --splits 2 --shots 5 --out FOLDER

benchmarks/pages/pile.md has the results.
"""

import argparse
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.accuracy.encodings import Encodings, read, store_of
from benchmarks.accuracy.rules import ALPHA, Request, outcomes, served, stored_series
from benchmarks.accuracy.tables import Table, figure
from benchmarks.run_store import runs_parser
from core.clip.inference.pile import (
    NONE,
    REST,
    Foreign,
    Judgement,
    Support,
    alone,
    doubt_of,
    groups,
    something_else,
)
from core.clip.inference.request_rule import request_rule, without_prior
from core.clip.inference.self_training import self_trained
from core.clip.inference.which_next import which_next
from core.clip.models.starter import LOGIT_SCALE

CHOSEN = ("clothing", "stamps", "signs", "clipart", "living")
CHECK = ("cifar10", "trashnet", "digits", "symbols", "things")
PILES = ("none", "near", "far", "both", "only strangers", "small")
KNOWN_ONLY = ("5 per class", "unequal", "half of the classes")
UNSURE, FAR = 0.5, NONE
KEYS, SHOWN, SEEDS = (0, 10, 20, 30), 9, 5
Floats = np.ndarray[Any, Any]
Ints = np.ndarray[Any, Any]
Key = tuple[str, int]
Measured = dict[str, float]


@dataclass(frozen=True)
class Job:
    """A trained model: its shots and prompts, and images to draw piles from, at α ½."""

    run: Encodings
    split: int

    @cached_property
    def support(self) -> Support:
        return Support.of(self.run.shots[ALPHA].numpy(), self.run.shot_labels.numpy())

    @property
    def shots(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.run.shots[ALPHA], self.run.shot_labels

    @property
    def texts(self) -> torch.Tensor:
        return self.run.texts[ALPHA][list(self.run.trained)]

    @property
    def order(self) -> list[int]:
        """Labels of the set: the trained classes first."""
        return [*self.run.trained, *sorted(set(range(len(self.run.class_names))) - set(self.run.trained))]

    @property
    def all_texts(self) -> torch.Tensor:
        return self.run.texts[ALPHA][self.order]

    @property
    def classes(self) -> tuple[int, ...]:
        return tuple(range(len(self.run.trained)))


@dataclass(frozen=True)
class Pile:
    images: Floats
    truth: Ints
    """Trained class; further numbers for classes that were not trained; FAR for unrelated images."""
    trained: int

    @property
    def known(self) -> Floats:
        return (self.truth >= 0) & (self.truth < self.trained)


def drawn(job: Job, kind: str) -> Pile:
    """Return a pile; benchmarks/pages/pile.md describes the kinds."""
    run, generator = job.run, np.random.default_rng([job.split, zlib.crc32(kind.encode())])
    place = {label: i for i, label in enumerate(job.order)}
    truth = np.array([place[label] for label in run.truth.tolist()])
    known = generator.permutation(np.flatnonzero(truth < len(run.trained)))
    near = generator.permutation(np.flatnonzero(truth >= len(run.trained)))
    far = generator.permutation(len(run.unrelated_truth))
    n = min(len(known), len(near))
    if kind in PILES:
        counts = {
            "near": (n, n, 0),
            "far": (len(known), 0, len(known)),
            "both": (n // 2,) * 3,
            "small": (20, 20, 0),
        }
        counts |= {"none": (len(known), 0, 0), "only strangers": (0, n // 2, n // 2)}
        a, b, c = counts[kind]
        known, near, far = known[:a], near[:b], far[:c]
    else:
        near, far = near[:0], far[:0]
        by_class = [known[truth[known] == c] for c in job.classes]
        if kind == "5 per class":
            sizes = [5] * len(by_class)
        elif kind == "unequal":
            shares = generator.dirichlet(np.ones(len(by_class)))
            most = min(len(rows) / share for rows, share in zip(by_class, shares, strict=True))
            sizes = [int(most * share) for share in shares]
        else:
            present = generator.permutation(len(by_class)) >= (len(by_class) + 1) // 2
            sizes = [len(rows) * here for rows, here in zip(by_class, present, strict=True)]
        known = np.concatenate([rows[:size] for rows, size in zip(by_class, sizes, strict=True)])
    images = [
        run.images[ALPHA].numpy()[known],
        run.images[ALPHA].numpy()[near],
        run.unrelated_images[ALPHA].numpy()[far],
    ]
    return Pile(
        np.concatenate(images),
        np.concatenate([truth[known], truth[near], np.full(len(far), FAR)]),
        len(run.trained),
    )


# --- something else ---


def today(job: Job, pile: Pile, kept: Floats | slice = slice(None)) -> tuple[Ints, Floats]:
    """Return the class of each image as before this page, and its probability."""
    rule, images, classes = (
        request_rule(job.shots, job.texts, job.classes),
        torch.from_numpy(pile.images[kept]),
        job.classes,
    )
    counts = rule.scores(images).argmax(dim=1).bincount(minlength=len(classes))
    if (
        len(job.shots[1]) <= 8 * len(classes)
        and len(images) >= max(100, 20 * len(classes))
        and counts.min() >= 0.5 * len(images) / len(classes)
    ):
        rule = self_trained(job.shots, job.texts, classes, images, LOGIT_SCALE)
    scores = rule.scores(torch.from_numpy(pile.images))
    sure, best = (LOGIT_SCALE * scores).softmax(dim=1).max(dim=1)
    return best.numpy(), sure.numpy()


def answered(job: Job, support: Support, pile: Pile, how: str) -> Ints:
    """Return the class of each image by `how`, or REST by the walk, after labels."""
    answer = something_else(support, pile.images)
    if how == "walk":
        return answer.label
    rows, classes = torch.from_numpy(support.labels >= 0), support.classes.tolist()
    shots = torch.from_numpy(support.features)[rows], torch.from_numpy(support.labels)[rows]
    images, texts = torch.from_numpy(pile.images), job.all_texts[classes]
    kept = images[torch.from_numpy(answer.known)]
    rule = request_rule(shots, texts, classes)
    if how == "self-trained" and len(kept) >= 20 * len(classes) and len(job.shots[1]) <= 8 * len(job.classes):
        rule = self_trained(shots, texts, classes, kept, LOGIT_SCALE)
    best = np.array(classes)[rule.scores(images).argmax(dim=1).numpy()]
    return np.where(answer.known, best, REST)


LABEL_RULES = ("walk", "rule", "self-trained")


def labels_of(job: Job, pile: Pile, answer: Judgement) -> dict[str, Ints]:
    """Return the class of each image by arm, whether it is something else or not."""
    images = torch.from_numpy(pile.images)
    kept = images[torch.from_numpy(answer.known)]
    rule = self_trained(job.shots, job.texts, job.classes, kept, LOGIT_SCALE)
    by_image = request_rule(job.shots, job.texts, job.classes)
    counts = by_image.scores(kept).argmax(dim=1).bincount(minlength=len(job.classes))
    balanced = rule if counts.min() >= 0.5 * len(kept) / len(job.classes) else by_image
    return {
        "walk": answer.best,
        "served rule": by_image.scores(images).argmax(dim=1).numpy(),
        "self-trained": rule.scores(images).argmax(dim=1).numpy(),
        "self-trained if balanced": balanced.scores(images).argmax(dim=1).numpy(),
        "self-trained under today's conditions": today(job, pile, answer.known)[0],
    }


def measured(pile: Pile, label: Ints) -> Measured:
    known, inside = pile.known, label >= 0
    right = inside & (label == pile.truth)

    def share(of: Floats, among: Floats) -> float:
        return float(of[among].mean()) if among.any() else np.nan

    return {
        "P": share(right, inside),
        "R": share(right, known),
        "let": share(inside, ~known),
        "kept": share(inside, known),
    }


def answers(job: Job) -> Iterator[tuple[str, str, Measured]]:
    """Yield the measures of the flag at its limit with the class by the rule."""
    for kind in PILES:
        pile = drawn(job, kind)
        for how in LABEL_RULES[1:]:
            yield f"{how}, 5%", kind, measured(pile, answered(job, job.support, pile, how))


def piles(job: Job) -> Iterator[tuple[str, str, Measured]]:
    """Yield the measures by arm and kind of pile."""
    for kind in PILES:
        pile = drawn(job, kind)
        best, sure = today(job, pile)
        yield "today", kind, measured(pile, np.where(sure >= UNSURE, best, REST))
        for percent in (5, 10):
            found = measured(pile, something_else(job.support, pile.images, percent / 100).label)
            yield f"walk, {percent}%", kind, found
        if pile.known.any():  # a limit that nobody can know
            limit = np.quantile(sure[pile.known], 1 - found["kept"])
            yield (
                "probability, as many kept as 10%",
                kind,
                measured(pile, np.where(sure >= limit, best, REST)),
            )
    for kind in (*(k for k in PILES if k not in ("both", "only strangers")), *KNOWN_ONLY):
        pile = drawn(job, kind)
        for arm, label in labels_of(job, pile, something_else(job.support, pile.images)).items():
            yield f"label: {arm}", kind, {"right": float((label == pile.truth)[pile.known].mean())}
    pile = drawn(job, "both")
    images = torch.from_numpy(pile.images)
    scores = request_rule(job.shots, job.texts, job.classes).scores(images)
    score = (scores.numpy() + pile.images @ job.support.means.T).max(axis=1)
    for percent in (5, 10):
        answer = alone(job.support, pile.images, lost=percent / 100)
        found = measured(pile, answer.label)
        yield f"alone, {percent}%", "both", found
        limit = np.quantile(score[pile.known], 1 - found["kept"])
        yield (
            f"score of the evaluation, as many kept as {percent}%",
            "both",
            measured(pile, np.where(score >= limit, answer.best, REST)),
        )


# --- groups ---


def key_of(truth: Ints) -> int | None:
    """Return the person's key for the images shown of a group: a class, NONE, or None to skip it."""
    values, counts = np.unique(truth, return_counts=True)
    enough = min(5, len(truth) // 2 + 1)
    return int(values[counts.argmax()]) if counts.max() >= enough else None


def by_groups(job: Job, pile: Pile, keys: int, *, untick: bool, how: str = "walk") -> tuple[Ints, float]:
    """Return the label of each image after keys for groups, and the share of new classes found."""
    support, answer = job.support, something_else(job.support, pile.images)
    done = 0
    for rows in groups(pile.images, doubt_of(answer)):
        if done == keys:
            break
        done += 1
        if (key := key_of(pile.truth[rows[:SHOWN]])) is None:
            continue
        centre = rows[:SEEDS]
        if untick:
            centre = centre[pile.truth[centre] == key]
        support = support.add(pile.images[centre], np.full(len(centre), key))
    new = set(pile.truth[pile.truth >= pile.trained].tolist())
    return answered(job, support, pile, how), len(new & set(support.labels.tolist())) / max(1, len(new))


def by_singles(job: Job, pile: Pile, keys: int, *, chosen: bool) -> Ints:
    """Return the label of each image after keys for single ones, `which_next` or random ones."""
    generator = np.random.default_rng([job.split, 7])
    support, labelled = job.support, list[int]()
    while len(labelled) < keys:
        if chosen:
            near = torch.from_numpy(pile.images @ support.means.T)
            sure = (LOGIT_SCALE * near).softmax(dim=1)
            more = which_next(sure, torch.from_numpy(pile.images), min(10, keys - len(labelled)), labelled)
        else:
            more = [i for i in generator.permutation(len(pile.images)).tolist() if i not in labelled][
                : keys - len(labelled)
            ]
        labelled += more
        support = support.add(pile.images[more], pile.truth[more])
    label = something_else(support, pile.images).label
    label[labelled] = np.where(pile.truth[labelled] == FAR, REST, pile.truth[labelled])
    return label


def grouped(job: Job) -> Iterator[tuple[str, str, Measured]]:
    for kind in ("near", "both"):
        pile = drawn(job, kind)
        wanted = pile.truth >= 0

        def right(label: Ints, pile: Pile = pile, wanted: Floats = wanted) -> float:
            return float((label == pile.truth)[wanted].mean())

        for keys in KEYS:
            shown, found = by_groups(job, pile, keys, untick=False)
            yield f"groups, {keys} keys", kind, {"right": right(shown), "new classes": found}
            for how in LABEL_RULES[1:]:
                yield (
                    f"groups, {how}, {keys} keys",
                    kind,
                    {"right": right(by_groups(job, pile, keys, untick=False, how=how)[0])},
                )
            if keys:
                yield (
                    f"groups un-ticked, {keys} keys",
                    kind,
                    {"right": right(by_groups(job, pile, keys, untick=True)[0])},
                )
                for name, chosen in (("which next", True), ("random", False)):
                    yield (
                        f"single photos, {name}, {keys} keys",
                        kind,
                        {"right": right(by_singles(job, pile, keys, chosen=chosen))},
                    )


# --- labels at once ---


def taught(job: Job) -> Iterator[tuple[str, str, Measured]]:
    """Yield the accuracy over the whole pile, after the least sure fifth was looked at."""
    for kind in ("none", "near"):
        pile = drawn(job, kind)
        truth = np.where(pile.known, pile.truth, REST)
        first = something_else(job.support, pile.images)
        order = np.argsort(np.where(first.known, first.score, np.inf), kind="stable")
        looked = order[: len(order) // 5]
        for how in LABEL_RULES:

            def after(
                rows: Ints, pile: Pile = pile, truth: Ints = truth, looked: Ints = looked, how: str = how
            ) -> float:
                marks = np.where(truth[rows] == REST, NONE, truth[rows])
                label = answered(job, job.support.add(pile.images[rows], marks), pile, how)
                label[looked] = truth[looked]
                return float((label == truth).mean())

            before = answered(job, job.support, pile, how)
            mistakes = looked[before[looked] != truth[looked]]
            rows = {"corrected pile": looked[:0], "mistakes join": mistakes, "all join": looked}
            rows["all but marks join"] = looked[truth[looked] != REST]
            yield f"{how}: before", kind, {"right": float((before == truth).mean())}
            for arm, joined in rows.items():
                yield f"{how}: {arm}", kind, {"right": after(joined)}


# --- the switch ---


def switched(alpha: float) -> Callable[[Encodings, Request], torch.Tensor]:
    """Return the served rule with the switch on features at this α."""

    def rule(run: Encodings, request: Request) -> torch.Tensor:
        scores = served(run, request)
        if all(c == -1 for c in request.classes) or -1 not in request.classes:
            return scores
        foreign = Foreign.of(Support(run.shots[alpha].numpy(), run.shot_labels.numpy()))
        assert foreign is not None
        unlike = torch.from_numpy(foreign(request.images[alpha].numpy()))[:, None]
        return torch.where(unlike, request.images[0.0] @ request.texts[0.0].T, scores)

    return rule


def switches(job: Job) -> Iterator[tuple[str, str, Measured]]:
    shown = ("all", "one new", "N", "mixed N", "beside trained")
    arms = {
        "served": served,
        "switch, pre-trained features": switched(0.0),
        "switch, adapted features": switched(ALPHA),
    }
    for arm, rule in arms.items():
        found = outcomes(rule, job.run)
        yield arm, "mixed", {name: float(np.nanmean(found[name])) for name in shown}


# --- few beside many, and steps of small jobs ---

STRENGTHS = (0.0, 0.5, 1.0)


def unequal(job: Job) -> Iterator[tuple[str, str, Measured]]:
    """Yield closed and mixed accuracy by strength. Every second class is small, the first one included."""
    run, few = job.run, range(0, len(job.run.trained), 2)
    shots, images, texts = (run.shots[ALPHA], run.shot_labels), run.images[ALPHA], run.texts[ALPHA]
    is_trained, is_few = (
        torch.from_numpy(np.isin(run.truth.numpy(), labels))
        for labels in (run.trained, np.array(run.trained)[few])
    )
    place = {label: i for i, label in enumerate(run.trained)}
    counts = np.bincount(run.shot_labels.numpy(), minlength=len(run.trained))
    closed_truth = torch.tensor([place.get(label, -1) for label in run.truth.tolist()])
    closed = request_rule(shots, texts[list(run.trained)], range(len(run.trained)))
    mixed = request_rule(shots, texts, run.classes)
    collection = self_trained(
        shots, texts[list(run.trained)], range(len(run.trained)), images[is_trained], LOGIT_SCALE
    )
    trained_on = torch.arange(len(counts)).repeat_interleave(torch.as_tensor(counts))
    for strength in STRENGTHS:
        for kind, rule in (("closed", closed), ("collection", collection), ("mixed", mixed)):
            asked = run.classes if kind == "mixed" else range(len(run.trained))
            scores = without_prior(rule, trained_on, asked, LOGIT_SCALE, strength).scores(images)
            right = scores.argmax(dim=1) == (run.truth if kind == "mixed" else closed_truth)
            among = torch.ones_like(is_trained) if kind == "mixed" else is_trained
            yield (
                f"τ {strength:g}",
                kind,
                {"few": float(right[is_few].float().mean()), "all": float(right[among].float().mean())},
            )


def retained(job: Job) -> Iterator[tuple[str, str, Measured]]:
    found = outcomes(served, job.run)
    for m in ("B", "all", "N", "unrelated", "beside trained"):
        yield "served", m, {"accuracy": float(np.nanmean(found[m]))}


# --- measured once, and kept ---

Question = Callable[[Job], Iterator[tuple[str, str, Measured]]]
QUESTIONS: Mapping[str, Question] = {
    "piles": piles,
    "answers": answers,
    "groups": grouped,
    "labels": taught,
    "switch": switches,
    "unequal": unequal,
    "steps": retained,
}
RECIPE, STEPS = "5 shots", "5 shots, 30 steps"


def measure(options: argparse.Namespace, path: Path, kept: dict[str, Any]) -> None:
    """Answer the questions of all stored runs that `kept` has no answer for, and write it."""
    work: list[tuple[str, Key, Encodings, Sequence[str]]] = []

    def add(series: str, runs: Mapping[Key, Encodings], *questions: str) -> None:
        work.extend((series, key, run, questions) for key, run in runs.items())

    few = stored_series(options.backbone, options.few).get("half, 5 shots", {})
    steps = stored_series(options.backbone, options.steps).get("half, 5 shots", {}) if options.steps else {}
    add(RECIPE, few, "answers", "piles", "groups", "labels", "switch")
    add(RECIPE, {key: run for key, run in few.items() if key in steps}, "steps")
    add(STEPS, steps, "steps")
    for title, runs in stored_unequal(options.backbone, options.few).items():
        add(title, runs, "unequal")
    sixteen = stored_series(options.backbone, options.out)["half, 16 shots"]
    add("16 shots", sixteen, "answers", "piles", "groups", "labels", "switch")
    for series, (name, split), run, questions in work:
        for question in questions:
            key = f"{question}/{series}/{name}/{split}"
            if key not in kept:
                kept[key] = [[*row] for row in QUESTIONS[question](Job(run, split))]
                path.write_text(json.dumps(kept) + "\n", encoding="utf-8")


def stored_unequal(backbone: str, out: Path) -> dict[str, dict[Key, Encodings]]:
    """Return the stored runs with fewer shots in every second class, by shots, set and split."""
    store = store_of(backbone, out)
    pattern = re.compile(r"([^/]+)/split(\d+)-seed\2-(\d+)shots-\d+classes-\d+tests-(\d+)fewer/features")
    runs: dict[str, dict[Key, Encodings]] = {}
    for key in store.names():
        if match := pattern.fullmatch(key):
            stored = store.get(key)
            assert stored is not None
            runs.setdefault(f"{match[3]} and {match[4]} shots", {})[match[1], int(match[2])] = read(stored)
    return runs


# --- tables ---

Rows = Mapping[tuple[str, str], Mapping[str, Measured]]
"""Means over the splits, by (arm, kind), then set."""


def rows_of(kept: Mapping[str, Any], question: str, series: str) -> tuple[Rows, int]:
    """Return the means over the splits, and the number of runs."""
    found: dict[tuple[str, str], dict[str, list[Measured]]] = {}
    runs = [
        (key.split("/")[2], rows) for key, rows in kept.items() if key.startswith(f"{question}/{series}/")
    ]
    for name, rows in runs:
        for arm, kind, values in rows:
            found.setdefault((arm, kind), {}).setdefault(name, []).append(values)
    return {
        key: {
            name: {m: float(np.mean([v[m] for v in values])) for m in values[0]}
            for name, values in by_set.items()
        }
        for key, by_set in found.items()
    }, len(runs)


def over(rows: Mapping[str, Measured], measure: str, sets: Sequence[str]) -> Floats:
    return np.array([rows[name][measure] for name in sets if name in rows])


def interval(values: Floats) -> str:
    """Return the mean over sets, and its 95% interval over resampled sets."""
    sets = np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))
    low, high = np.percentile(values[sets].mean(axis=1), [2.5, 97.5])
    return f"{values.mean():+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")


def piles_table(title: str, rows: Rows, sets: Sequence[str]) -> Table:
    table = Table(title, ["arm", *PILES], note="P / R / let; *none*: R / kept, worst set's kept.")
    for arm in dict.fromkeys(arm for arm, _ in rows if not arm.startswith(("label", "alone", "score"))):
        cells = []
        for kind in PILES:
            if (arm, kind) not in rows:
                cells.append("–")
                continue
            by_set = rows[arm, kind]
            mean = {
                m: float(np.nanmean(over(by_set, m, sets)))
                for m in ("P", "R", "let", "kept")
                if not np.isnan(over(by_set, m, sets)).all()
            }
            if kind == "none":
                cells.append(
                    " / ".join(figure(mean[m]) for m in ("R", "kept"))
                    + f", {figure(over(by_set, 'kept', sets).min())}"
                )
            elif kind == "only strangers":
                cells.append(f"let {figure(mean['let'])}, {figure(over(by_set, 'let', sets).max())}")
            else:
                cells.append(" / ".join(figure(mean[m]) for m in ("P", "R", "let")))
        table.rows.append([arm, *cells])
    return table


def differences_table(rows: Rows, arm: str, sets: Sequence[str]) -> Table:
    """Return the gain of an arm over today with its interval over sets."""
    table = Table(f"{arm} less today, check sets", ["pile", "P", "R", "let", "worst let"])
    for kind in PILES[1:]:

        def gain(m: str, kind: str = kind) -> str:
            values = over(rows[arm, kind], m, sets) - over(rows["today", kind], m, sets)
            return "–" if np.isnan(values).any() else interval(values)

        table.rows.append(
            [kind, gain("P"), gain("R"), gain("let"), figure(over(rows[arm, kind], "let", sets).max())]
        )
    return table


def plain_table(
    title: str, rows: Rows, kinds: Sequence[str], measure: str, sets: Sequence[str], less: str | None = None
) -> Table:
    """Return the mean over sets per arm and kind, or the difference to the arm `less` with its interval."""
    table = Table(title, ["arm", *kinds])
    for arm in dict.fromkeys(arm for arm, _ in rows):
        cells = []
        for kind in kinds:
            if (arm, kind) not in rows:
                cells.append("–")
                continue
            values = over(rows[arm, kind], measure, sets)
            cell = f"{figure(float(values.mean()))} (worst {figure(float(values.min()))})"
            if less is not None and arm != less:
                gain = values - over(rows[less, kind], measure, sets)
                cell = f"{interval(gain)}, worst {gain.min():+.3f}".replace("-", "−")
            cells.append(cell)
        table.rows.append([arm, *cells])
    return table


def tables_of(kept: Mapping[str, Any]) -> Iterator[Table]:
    for series in dict.fromkeys(key.split("/")[1] for key in kept):
        for question in QUESTIONS:
            rows, runs = rows_of(kept, question, series)
            if not rows:
                continue
            sets = list(dict.fromkeys(name for by_set in rows.values() for name in by_set))
            chosen, check = ([s for s in half if s in sets] for half in (CHOSEN, CHECK))
            title = f"{series}, {runs} runs"
            if question == "piles":
                rows = {**rows, **rows_of(kept, "answers", series)[0]}
                yield piles_table(f"{title}: chosen", rows, chosen)
                yield piles_table(f"{title}: check", rows, check)
                for arm in ("walk, 5%", "self-trained, 5%"):
                    yield differences_table(rows, arm, check)
                labels = {key: v for key, v in rows.items() if key[0].startswith("label")}
                kinds = list(dict.fromkeys(kind for _, kind in labels))
                yield plain_table(f"{title}: class of known images", labels, kinds, "right", sets)
                singles = {key: v for key, v in rows.items() if key[0].startswith(("alone", "score"))}
                for m in ("kept", "let"):
                    yield plain_table(f"{title}: one image at a time, {m}", singles, ["both"], m, sets)
            elif question == "groups":
                for half, names in (("chosen", chosen), ("check", check)):
                    yield plain_table(f"{title}: groups, {half}", rows, ["near", "both"], "right", names)
            elif question == "labels":
                for how in LABEL_RULES:
                    of_rule = {key: v for key, v in rows.items() if key[0].startswith(how)}
                    less = f"{how}: corrected pile"
                    yield plain_table(f"{title}: labels", of_rule, ["none", "near"], "right", sets, less)
            elif question == "switch":
                for m in ("beside trained", "all", "one new", "mixed N"):
                    yield plain_table(f"{title}: switch, {m}", rows, ["mixed"], m, sets, "served")
            elif question == "unequal":
                for names in (chosen, check):
                    for m in ("few", "all"):
                        what = f"{title}: {m}, {', '.join(names)}"
                        yield plain_table(what, rows, ["closed", "collection", "mixed"], m, names, "τ 0")
            elif question == "steps" and series == RECIPE:
                longer, _ = rows_of(kept, question, STEPS)
                both = {("recipe", m): v for (_, m), v in rows.items()}
                both |= {("30 steps", m): v for (_, m), v in longer.items()}
                kinds = [m for _, m in rows]
                yield plain_table(f"{title}: steps", both, kinds, "accuracy", sets, "recipe")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = runs_parser(__doc__)
    parser.add_argument("--few", type=Path, help="folder of the runs with 5 shots; omit it to print only")
    parser.add_argument("--steps", type=Path, help="folder of the runs with at least 30 steps")
    options = parser.parse_args(arguments)
    path = options.out / f"pile-{options.backbone}.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if options.few is not None:
        measure(options, path, kept)
    for table in tables_of(kept):
        Console(width=200).print(table.markdown() + "\n", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
