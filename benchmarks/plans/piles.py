"""Runs of the plan piles.md, on stored features.

python -m benchmarks.accuracy.encodings --data clothing cifar10 … --tests 60 --shots 5 --alphas 0.5
--unrelated imagenet --first-split 70 --out FOLDER
python -m benchmarks.plans.piles run --features FOLDER --out runs.jsonl     # resumes
python -m benchmarks.plans.piles table --out runs.jsonl
"""

import argparse
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.encodings import Encodings, read
from benchmarks.run_store import RunStore
from core.clip.inference import pile
from core.clip.inference.answers import UNSAID, Answers
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.graph import Neighbours
from core.clip.inference.groups import groups, shown_of
from core.clip.inference.labelled import Shots, Sorter, self_training_or_reason
from core.clip.inference.obeyed import least_like
from core.clip.inference.pile import NONE
from core.clip.inference.sort import PileSort, draw_order, share, sort_pile
from core.clip.models.starter import LOGIT_SCALE

SIZE, KEYS, CHECK = 240, (10, 20, 30), 20
PILES = [
    ("known", 0.0),
    *((kind, part) for part in (0.5, 0.2, 0.8) for kind in ("near", "far")),
]


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
    said: list[Said] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nearest = Neighbours.among(self.images.numpy())
        self.order = draw_order(self.key, len(self.images))
        self.rank = np.argsort(self.order)

    def answers(self) -> Answers:
        return Answers.of(len(self.images), self.said)

    def sorter(self, answers: Answers) -> Sorter:
        """Return the model with the names that are known: all, or without a model those that were said."""
        if self.trained is None:
            columns = [self.names.index(name) for name in answers.names]
            texts, classes, alone = self.texts[columns], [NEW_CLASS] * len(columns), "stock"
            return Sorter(answers.names, texts, classes, None, LOGIT_SCALE, 0.35, alone)
        classes = list(range(len(self.names)))
        return Sorter(self.names, self.texts, classes, self.trained, LOGIT_SCALE, 0.35)

    def sort(self) -> PileSort | None:
        answers = self.answers()
        sorter = self.sorter(answers)
        if not len(sorter.names):
            return None
        return sort_pile(self.images, sorter, answers.columns(sorter.names), self.nearest, self.order)

    def accuracy(self, places: np.ndarray, names: Sequence[str]) -> float:
        column = np.array([self.names.index(name) for name in names] + [NONE])  # NONE is -2, so it is last
        column = np.append(column[:-1], [NONE, UNSAID])
        return float((column[places] == self.truth).mean())

    def today(self, reject: bool, limited: int | None = None) -> tuple[float, pile.Judgement | None, float]:
        """Return accuracy, judgement and share of strangers let in, by the sort of a collection.

        The five first ticked images of a group are labels, and single ones.

        Args:
            limited: without a model, only the first answers set the limit.
        """
        answers = self.answers()
        sorter = self.sorter(answers)
        if not len(sorter.names):
            return 0.0, None, 1.0
        answers = answers.columns(sorter.names)
        used = answers.examples | answers.drawn
        labels = np.where(used, answers.labels, UNSAID)
        shots = Shots.of(sorter, self.images, labels)
        support = shots.support()
        if limited is not None and self.trained is None:
            before = Answers.of(len(labels), self.said[:limited]).labels != UNSAID
            known = np.flatnonzero(labels >= 0)
            known = known[np.argsort(~before[known], kind="stable")]
            rows = np.concatenate([known, np.flatnonzero(labels == NONE)])
            classes = np.array([*shots.classes, NONE, UNSAID])[labels[rows]]
            count = int(before[known].sum())
            support = pile.Support.of(self.images.numpy()[rows], classes, count)
        rejects = reject and (self.trained is not None or (labels == NONE).any()) and len(support.classes) > 0
        judged = pile.something_else(support, self.images.numpy(), nearest=self.nearest)
        rule = shots.rule(sorter)
        known = np.ones(len(labels), bool)
        if rejects:
            new = np.array([c == NEW_CLASS for c in shots.classes])
            known = judged.known | new[rule.scores(self.images).argmax(dim=1).numpy()]
        free = torch.from_numpy(known & (labels == UNSAID))
        grown = self_training_or_reason(self.images[free], sorter, shots, rule)
        scores = (rule if isinstance(grown, str) else grown).scores(self.images)
        places = np.where(known, scores.argmax(dim=1).numpy(), NONE)
        places = np.where(labels == UNSAID, places, labels)
        strangers = self.truth == NONE
        let = float((places[strangers] != NONE).mean()) if strangers.any() else 0.0
        return self.accuracy(places, sorter.names), judged, let

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

    def walk(self, keys: int, drawn: int, untick: bool, value: Callable[[], Any]) -> int:
        """Answer up to `keys` groups of one grouping. Return how many there were."""
        answers = self.answers()
        found = groups(self.images.numpy(), value(), answers.seen, self.nearest)[:keys]
        for members in found:
            central, others = shown_of(members, self.rank, drawn)
            shown = [*central.tolist(), *others.tolist()]
            name = Counter(self.truth[shown].tolist()).most_common(1)[0][0]
            word = None if name == NONE else self.names[name]
            said = "none" if word is None else "class"
            off = [i for i in shown if self.truth[i] != name] if untick else []
            for at in central.tolist():
                if at not in off:
                    self.said.append(Said(at, said, word, "group"))
            for at in others.tolist():
                if at not in off:
                    self.said.append(Said(at, said, word, "drawn"))
            self.said += [Said(at, "not_class", word, "group") for at in off]
            self.said += [Said(at, said, word, "member") for at in members.tolist() if at not in shown]
        return len(found)

    def tell(self, rows: Sequence[int], how: str) -> None:
        """Give the true labels of some images."""
        for at in rows:
            word = None if self.truth[at] == NONE else self.names[self.truth[at]]
            self.said.append(Said(int(at), "none" if word is None else "class", word, how))


def pile_of(run: Encodings, name: str, model: bool, kind: str, part: float) -> Pile:
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
    return Pile(
        key,
        images[mixed],
        labels[mixed],
        [run.class_names[label] for label in run.trained],
        run.texts[alpha][list(run.trained)],
        (run.shots[alpha], run.shot_labels) if model else None,
    )


def doubt_of(judgement: pile.Judgement) -> Any:
    """Return [N], the value of labelling each image, as served before piles. Something else counts twice."""
    above = np.maximum(judgement.score - (judgement.limit if np.isfinite(judgement.limit) else 0), 0)
    return np.exp(-above) * np.where(judgement.known, 1, 2)


def doubt(made: Pile) -> Callable[[], Any]:
    """Return the order of today: `doubt_of` once there are labels."""

    def value() -> Any:
        judged = made.today(True)[1] if made.said else None
        return None if judged is None else doubt_of(judged)

    return value


def limit(made: Pile) -> Callable[[], Any]:
    def value() -> Any:
        done = made.sort()
        return None if done is None else done.apart.near_limit

    return value


def measure(run: Encodings, name: str, model: bool, kind: str, part: float) -> Iterator[dict[str, Any]]:
    what = {"set": name, "model": model, "kind": kind, "part": part}
    for untick in (False, True):
        for drawn, own in ((0, False), (0, True), (2, True)):
            made = pile_of(run, name, model, kind, part)
            value = (limit if own else doubt)(made)
            asked = made.least_like() if model else 0
            for keys in KEYS:
                if keys > KEYS[0]:
                    asked += made.least_like()
                asked += made.walk(keys - asked, drawn, untick, value)
                done = made.sort()
                assert done is not None or not made.answers().names
                places = None if done is None else done.places
                right = 0.0
                if done is not None and places is not None:
                    names = done.answers.names
                    right = made.accuracy(places, names)
                row = {
                    "part_of": "a", **what, "untick": untick, "drawn": drawn, "own": own, "keys": keys,
                    "answered": asked, "images": len(made.truth), "rule": right,
                }  # fmt: skip
                if not own:
                    row |= {"today": made.today(True)[0], "labels": made.today(False)[0]}
                yield row
                if drawn and untick and keys < 30 and done is not None:
                    checked = pile_of(run, name, model, kind, part)
                    checked.said = list(made.said)
                    yield {**what, "part_of": "b", "drawn": drawn, "keys": keys, **check(checked)}
    for untick in (False, True):
        yield {**what, "part_of": "c", "untick": untick, **twenty(run, name, model, kind, part, untick)}


def check(made: Pile) -> dict[str, Any]:
    """Ask for CHECK images, and compare what is measured with the truth."""
    before = made.sort()
    assert before is not None
    answers = made.answers()
    waiting = made.order[~answers.labelled[made.order] & ~answers.skipped[made.order]]
    made.tell(waiting[:CHECK].tolist(), "drawn")
    done = made.sort()
    assert done is not None
    total, count, right = len(made.truth), len(done.measuring), int(done.right.sum())
    wrong = (count - right) / total
    low, high = share(right, count, total)
    return {
        "groups alone": len(before.measuring),
        "images": total, "count": count, "right": right, "estimate": right / count + wrong,
        "low": low + wrong, "high": high + wrong, "truth": made.accuracy(done.places, done.answers.names),
    }  # fmt: skip


def twenty(run: Encodings, name: str, model: bool, kind: str, part: float, untick: bool) -> dict[str, Any]:
    """Add true labels of 20 random images after 20 groups: all, those of classes, those of none."""
    made = pile_of(run, name, model, kind, part)
    asked = made.walk(10, 0, untick, doubt(made))
    asked += made.least_like()
    asked += made.walk(20 - asked, 0, untick, doubt(made))
    said, row = list(made.said), {}
    waiting = made.order[~made.answers().labelled[made.order]][:CHECK]
    fixed = np.ones(len(made.truth), bool)
    fixed[waiting] = False
    for words, rows in (
        ("before", waiting[:0]),
        ("classes", waiting[made.truth[waiting] >= 0]),
        ("none", waiting[made.truth[waiting] == NONE]),
        ("all", waiting),
    ):
        made.said = list(said)
        made.tell(rows.tolist(), "drawn")
        today, _, let = made.today(True)
        done = made.sort()
        right = 0.0 if done is None else made.accuracy(done.places, done.answers.names)
        strangers = made.truth == NONE
        admitted = 0.0
        if done is not None and strangers.any():
            admitted = float((done.places[strangers] != NONE).mean())
        row |= {f"today {words}": today, f"let {words}": let, f"rule {words}": right}
        row |= {f"rule let {words}": admitted}
        if words == "all":
            row["let all, limit of before"] = made.today(True, limited=len(said))[2]
            row["today all, limit of before"] = made.today(True, limited=len(said))[0]
    return row | {"images": len(made.truth), "answered": asked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["run", "table"])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.step == "table":
        table([json.loads(line) for line in options.out.read_text().splitlines()])
        return
    stored = (
        [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    )
    done = {(row["set"], row["model"], row["kind"], row["part"]) for row in stored}
    store = RunStore(options.features, "features-starter")
    for kind, part in PILES:
        for key in store.names():
            name = key.split("/")[0]
            if options.sets and name not in options.sets:
                continue
            run = read(store.get(key))
            for model in (True, False):
                if (name, model, kind, part) not in done:
                    rows = list(measure(run, name, model, kind, part))
                    with options.out.open("a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in rows)


def table(rows: Sequence[dict[str, Any]]) -> None:
    raise NotImplementedError


if __name__ == "__main__":
    main()
