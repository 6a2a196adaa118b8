"""Unequal and many classes, on stored features of the pre-trained model (`benchmarks.accuracy.rules`)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.encodings import Encodings
from benchmarks.accuracy.tables import Table, figure
from core.clip.inference.request_rule import request_rule

Runs = Mapping[tuple[str, int], Encodings]
SHOTS = ((2, 2), (16, 2), (16, 8), (16, 16), (4, 1), (4, 4))
"""Shots per class in one half of the classes and in the other."""
CLASSES, CAPS, DRAWS = (26, 50, 80), (256, 4_096), 5


def closed(shots: Tensor, labels: Tensor, texts: Tensor, images: Tensor, truth: Tensor) -> Tensor:
    """Return the correctness [N] in a closed request."""
    rule = request_rule((shots, labels), texts, range(len(texts)))
    return (rule.scores(images).argmax(dim=1) == truth).double()


def first_of_each(labels: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the positions of the first shots of each class."""
    return torch.cat([(labels == c).nonzero()[:n, 0] for c, n in enumerate(counts)])


def unequal_table(runs: Runs) -> Table:
    table = Table("Unequal classes, closed requests", ["shots in each half of the classes", "fewer", "all"])
    for many, few in SHOTS:
        found = []
        for run in runs.values():
            trained = torch.tensor(run.trained)
            of_trained = torch.isin(run.truth, trained)
            truth = torch.searchsorted(trained, run.truth[of_trained])
            counts = [few if c % 2 == 0 else many for c in range(len(trained))]
            chosen = first_of_each(run.shot_labels, counts)
            shots, labels = run.shots[0.0][chosen], run.shot_labels[chosen]
            hits = closed(shots, labels, run.texts[0.0][trained], run.images[0.0][of_trained], truth)
            found.append([float(hits[truth % 2 == 0].mean()), float(hits.mean())])
        table.rows.append([f"{many} / {few}", *(figure(float(x)) for x in np.mean(found, axis=0))])
    return table


def many_table(runs: Runs) -> Table:
    """Draw classes of all sets together; names that several sets share count once."""
    members: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for run in runs.values():
        for place, label in enumerate(run.trained):
            images, shots = run.images[0.0][run.truth == label], run.shots[0.0][run.shot_labels == place]
            members.setdefault(run.class_names[label], (run.texts[0.0][label], shots, images))
    columns = ["classes", *(f"at most {cap} shots" for cap in CAPS)]
    table = Table(f"Many classes: {len(members)} names of all sets", columns)
    for count in (n for n in CLASSES if n <= len(members)):
        found = []
        for draw in range(DRAWS):
            names = np.random.default_rng(draw).permutation(sorted(members))[:count]
            texts, shots_of, images_of = zip(*(members[name] for name in names), strict=True)
            labels, truth = (
                torch.repeat_interleave(torch.tensor([len(x) for x in of])) for of in (shots_of, images_of)
            )
            row = []
            for cap in CAPS:
                chosen = first_of_each(labels, [cap // count] * count)
                given = torch.cat(shots_of)[chosen], labels[chosen]
                row.append(float(closed(*given, torch.stack(texts), torch.cat(images_of), truth).mean()))
            found.append(row)
        table.rows.append([str(count), *(figure(float(x)) for x in np.mean(found, axis=0))])
    return table
