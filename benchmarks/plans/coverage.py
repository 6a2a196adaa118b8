"""Coverage of the measured number of a pile, with the folds that are served.

PLAN, fixed before the run. Until now, photos that a group named measured the sort, too, and who doesn't remove wrong
thumbnails had .121 of 140 sorts covered after 20 groups. Now a photo measures only if a person was asked about it
alone. `Check with 20` takes the photos at the beginning of the random order that nobody was asked about alone, also
those that a group has named, and their former label is judged. A simulated person answers groups of piles of up to
240 images, then `Check with 20`. Ten sets; with a model of 5 images per class and without one; no strangers, and
20, 50 and 80 % of them, near and far; with and without unticking; after 10 and 20 groups. All calls are of the product.

1. Required: the 95 % interval covers the true share in .930 or more of all sorts, with unticking and without it
   (280 each). Reported: coverage per kind of pile and model, with its 95 % interval; width; estimate less truth with the
   worst set; the same if the person checks after 10 groups and then answers 10 more.
2. A group shows nine typical photos ("central"), or seven and two random ones ("random"). Random ones measured the sort, and no
   longer do. They go unless accuracy after 10 or 20 groups, before the check, falls by more than .005 in the mean or .020 on the
   worst set without them.

    python -m benchmarks.accuracy.encodings --data clothing cifar10 things digits living stamps clipart symbols signs
        trashnet --tests 60 --shots 5 --alphas 0.5 --unrelated imagenet --first-split 70 --out FEATURES
    python -m benchmarks.plans.coverage run --features FEATURES --out coverage.jsonl     # resumes
    python -m benchmarks.plans.coverage table --out coverage.jsonl
"""

import argparse
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.encodings import Encodings, read
from benchmarks.run_store import RunStore
from clipcite.types.piles import MIN_DRAWN
from core.clip.evaluation.accuracy import accuracy_interval
from core.clip.inference.answers import UNSAID, Answers
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.graph import Neighbours
from core.clip.inference.groups import groups
from core.clip.inference.labelled import Sorter
from core.clip.inference.obeyed import least_like
from core.clip.inference.pile import NONE
from core.clip.inference.sort import SortedPile, draw_order, share, sort_pile
from core.clip.models.starter import LOGIT_SCALE

SIZE, GROUPS, CHECK, SHOWN, DRAWN = 240, (10, 20), 20, 9, 2
PILES = [("known", 0.0), *((kind, part) for part in (0.5, 0.2, 0.8) for kind in ("near", "far"))]


@dataclass(frozen=True)
class Said:
    position: int
    said: str
    class_name: str | None
    how: str


@dataclass
class Pile:
    """A pile, the model that sorts it, and a person who knows the classes."""

    key: str
    images: torch.Tensor
    truth: np.ndarray
    """[N], class of `names`, or NONE for strangers."""
    names: list[str]
    texts: torch.Tensor
    trained: tuple[torch.Tensor, torch.Tensor] | None
    drawn: int
    """Number of random images of the nine that show a group."""
    said: list[Said] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nearest = Neighbours.among(self.images.numpy())
        self.order = draw_order(self.key, len(self.images))
        self.rank = np.argsort(self.order)

    def answers(self) -> Answers:
        return Answers.of(len(self.images), self.said)

    def sort(self) -> SortedPile | None:
        """Sort with the names that are known: all, or without a model those that were said."""
        answers = self.answers()
        if self.trained is None:
            columns = [self.names.index(name) for name in answers.names]
            classes = [NEW_CLASS] * len(columns)
            sorter = Sorter(answers.names, self.texts[columns], classes, None, LOGIT_SCALE, 0.35, "stock")
        else:
            classes = list(range(len(self.names)))
            sorter = Sorter(self.names, self.texts, classes, self.trained, LOGIT_SCALE, 0.35)
        if not len(sorter.names):
            return None
        return sort_pile(self.images, sorter, answers.columns(sorter.names), self.nearest, self.order)

    def accuracy(self, done: SortedPile, believed: bool = False) -> float:
        """Return the share in the right place. If `believed`, an image with a label is in the right place."""
        column = np.array([*(self.names.index(name) for name in done.answers.names), NONE, UNSAID])
        return float(((column[done.places] == self.truth) | (believed & done.answers.labelled)).mean())

    def word(self, at: int) -> str | None:
        return None if self.truth[at] == NONE else self.names[self.truth[at]]

    def tell(self, at: int, word: str | None, how: str) -> None:
        self.said.append(Said(int(at), "none" if word is None else "class", word, how))

    def least_like(self) -> int:
        """Answer the question about the images least like any class. Return 1 if it was asked."""
        done = self.sort()
        asked = None if done is None else least_like(self.images.numpy(), done.support, done.answers)
        if asked is None:
            return 0
        strangers = [at for at in asked.tolist() if self.truth[at] == NONE]
        self.said += [Said(at, "none", None, "group") for at in strangers]
        self.said += [Said(at, "not_class", None, "group") for at in asked.tolist() if at not in strangers]
        return 1

    def walk(self, count: int, untick: bool) -> None:
        """Answer up to `count` groups of one grouping with the most frequent class of those shown."""
        done = self.sort()
        value = None if done is None else done.apart.near_limit
        for members in groups(self.images.numpy(), value, self.answers().seen, self.nearest)[:count]:
            others = members[SHOWN - self.drawn :]
            shown = [*members[: SHOWN - self.drawn], *others[np.argsort(self.rank[others])][: self.drawn]]
            label = Counter(self.truth[shown].tolist()).most_common(1)[0][0]
            word = None if label == NONE else self.names[label]
            off = [at for at in shown if self.truth[at] != label] if untick else []
            for at in shown:
                if at not in off:
                    self.tell(at, word, "group")
            self.said += [Said(at, "not_class", word, "group") for at in off]
            for at in members.tolist():
                if at not in shown:
                    self.tell(at, word, "member")


def pile_of(run: Encodings, name: str, model: bool, kind: str, part: float, drawn: int) -> Pile:
    key = f"{name} {kind} {part}"
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    alpha = 0.5 if model else 0.0
    place = {label: i for i, label in enumerate(run.trained)}
    truth = np.array([place.get(label, NONE) for label in run.truth.tolist()])
    known = generator.permutation(np.flatnonzero(truth >= 0))
    strangers = (
        run.unrelated_images[alpha][generator.permutation(len(run.unrelated_truth))]
        if kind == "far"
        else run.images[alpha][generator.permutation(np.flatnonzero(truth < 0))]
    )
    size = min([SIZE, int(len(known) / (1 - part)), *([int(len(strangers) / part)] if part else [])])
    other = round(part * size)
    known = known[: size - other]
    images = torch.cat([run.images[alpha][known], strangers[:other]])
    labels = np.concatenate([truth[known], np.full(other, NONE)])
    mixed = generator.permutation(len(labels))
    names = [run.class_names[label] for label in run.trained]
    shots = (run.shots[alpha], run.shot_labels) if model else None
    return Pile(key, images[mixed], labels[mixed], names, run.texts[alpha][list(run.trained)], shots, drawn)


def measure(run: Encodings, name: str, model: bool, kind: str, part: float) -> Iterator[dict[str, Any]]:
    what = {"set": name, "model": model, "kind": kind, "part": part}
    for untick, drawn in ((False, 0), (True, 0), (False, DRAWN), (True, DRAWN)):
        made = pile_of(run, name, model, kind, part, drawn)
        asked, before = (made.least_like() if model else 0), 0
        this = {**what, "untick": untick, "drawn": drawn}
        for count in GROUPS:
            if before:
                asked += made.least_like()
            made.walk(count - before - asked * (before == 0), untick)
            kept, done = list(made.said), made.sort()
            this["before"] = None if done is None else made.accuracy(done)
            yield {**this, "groups": count, **check(made)}
            if not before:
                made.walk(GROUPS[1] - count, untick)
                yield {**this, "groups": 0, "before": None, **result(made)}
            before, made.said = count, kept


def check(made: Pile) -> dict[str, Any]:
    """Ask for CHECK images, and compare what is measured with the truth."""
    for at in made.order[~made.answers().alone[made.order]][:CHECK].tolist():
        made.tell(at, made.word(at), "drawn")
    return result(made)


def result(made: Pile) -> dict[str, Any]:
    """Compare what is measured with the truth."""
    done = made.sort()
    if done is None or len(done.measuring) < MIN_DRAWN:
        return {"count": 0 if done is None else len(done.measuring)}
    total, count, right = len(made.truth), len(done.measuring), int(done.right.sum())
    wrong = (count - right) / total
    low, high = share(right, count, total)
    answers = done.answers
    column = np.array([*(made.names.index(name) for name in answers.names), NONE, UNSAID])
    said = column[answers.labels[done.measuring]]
    return {
        "images": total, "count": count, "right": right, "had label": int(answers.had_label[done.measuring].sum()),
        "as said": made.accuracy(done, believed=True),
        "said wrongly": int((said != made.truth[done.measuring]).sum()),
        "estimate": right / count + wrong, "low": low + wrong, "high": high + wrong, "truth": made.accuracy(done),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["run", "table"])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stored = (
        [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    )
    if options.step == "table":
        table(stored)
        return
    done = {(row["set"], row["model"], row["kind"], row["part"]) for row in stored}
    store = RunStore(options.features, "features-starter")
    for kind, part in PILES:
        for key in store.names():
            stored_run = store.get(key)
            assert stored_run is not None
            name, run = key.split("/")[0], read(stored_run)
            for model in (True, False):
                if (name, model, kind, part) not in done:
                    rows = list(measure(run, name, model, kind, part))
                    with options.out.open("a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in rows)


def table(rows: Sequence[dict[str, Any]]) -> None:
    for drawn in (0, DRAWN):
        for untick in (True, False):
            print(f"\n{drawn} random thumbnails, wrong ones {'removed' if untick else 'not removed'}")
            ours = [row for row in rows if (row["untick"], row["drawn"]) == (untick, drawn)]
            few = [row for row in ours if row["count"] < MIN_DRAWN]
            ours = [row for row in ours if row["count"] >= MIN_DRAWN]
            first = [row for row in ours if row["groups"]]
            print(f"{len(few)} sorts have too few images to be measured")
            parts = [
                ("all", first),
                *((f"{n} groups", [r for r in ours if r["groups"] == n]) for n in (*GROUPS, 0)),
            ]
            for kind, part in PILES:
                for model in (True, False):
                    some = [r for r in first if (r["kind"], r["part"], r["model"]) == (kind, part, model)]
                    parts.append((f"{kind} {part} {'model' if model else 'no model'}", some))
            for name, some in parts:
                if some:
                    print(f"{name}: {line(some)}")
    key = lambda row: tuple(row[name] for name in ("set", "model", "kind", "part", "untick", "groups"))
    random = {key(row): row["before"] for row in rows if row["drawn"] and row["groups"]}
    by_set: dict[str, list[float]] = {}
    for row in rows:
        if not row["drawn"] and row["groups"] and None not in (row["before"], random.get(key(row))):
            by_set.setdefault(row["set"], []).append(row["before"] - random[key(row)])
    means = {name: float(np.mean(found)) for name, found in by_set.items()}
    draws = np.random.default_rng(0).choice([*means.values()], (2000, len(means))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    worst = min(means, key=lambda name: means[name])
    print(
        f"\ncentral - random, before the check: {np.mean([*means.values()]):+.3f} [{low:+.3f}, {high:+.3f}], "
        f"worst {worst} {means[worst]:+.3f}, {sum(map(len, by_set.values()))} sorts"
    )


def line(rows: Sequence[dict[str, Any]]) -> str:
    """Return coverage with its interval, images that measure, width, and the error with the worst set."""
    covered = sum(row["low"] - 1e-9 <= row["truth"] <= row["high"] + 1e-9 for row in rows)
    interval = accuracy_interval(np.arange(len(rows)) < covered)
    by_set: dict[str, list[float]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row["estimate"] - row["truth"])
    off = {name: float(np.mean(found)) for name, found in by_set.items()}
    worst = max(off, key=lambda name: abs(off[name]))
    return (
        f"{covered}/{len(rows)} = {covered / len(rows):.3f} [{interval.low:.3f}, {interval.high:.3f}], "
        f"{np.mean([row['count'] for row in rows]):.0f} measure, width "
        f"{np.mean([row['high'] - row['low'] for row in rows]):.3f}, estimate - truth "
        f"{np.mean(list(off.values())):+.3f}, worst {worst} {off[worst]:+.3f}, too high "
        f"{sum(row['low'] - 1e-9 > row['truth'] for row in rows)}"
    )


if __name__ == "__main__":
    main()
