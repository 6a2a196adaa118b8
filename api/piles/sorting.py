"""Sort of a pile by the features of its images and by what persons said about them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from api.classify.collection import Collection, classify_collection, grouped
from api.piles.features import Rows
from api.serving.service import Serving, Subject
from clipcite.types.classify import Options
from core.admission import Take
from core.clip.errors import BadImage
from core.store import piles
from core.store.db.tables import PileAnswer


def sort(
    serving: Serving,
    rows: Rows,
    answers: Sequence[PileAnswer],
    options: Options,
    model: Subject,
    *,
    owner: str,
    take: Take,
    seed: str,
    groups: int = 0,
    ask: int = 0,
    draw: int = 0,
) -> dict[str, Any]:
    """Return the fields of a `PileSort`."""
    labels = {
        at: label.answer.class_name if label.answer.said == "class" else None
        for at, label in piles.labels(answers).items()
        if label.answer is not None and label.answer.said in ("class", "none")
    }
    names: list[Any] = list(options.class_names or ([] if isinstance(model, str) else model.classes))
    names += [name for name in dict.fromkeys(labels.values()) if name is not None and name not in names]
    collection = Collection(rows, suggest=ask + draw, groups=groups, labels=labels)
    if not names:
        features = F.normalize(torch.from_numpy(rows.astype("float32")), dim=-1)
        return {
            "images": [
                {"position": at, "class_name": None, "probability": None, "something_else": False}
                for at in range(len(rows))
            ],
            "groups": [_group(group) for group in grouped(features, collection)],
        }
    asked = options.model_copy(update={"class_names": names, "reject": None in labels.values()})
    result = classify_collection(serving, collection, asked, model, owner=owner, take=take)
    images = []
    for at, scores in enumerate(result.results):
        assert not isinstance(scores, BadImage)
        best = scores.predictions[0]
        other = labels[at] is None if at in labels else bool(scores.rejected)
        images.append(
            {
                "position": at,
                "class_name": None if other else labels.get(at, best.class_name),
                "probability": None if at in labels or other else best.probability,
                "something_else": other,
            }
        )
    return {
        "model": result.model,
        "alpha": result.alpha,
        "class_names": result.class_names,
        "method": result.collection["method"],
        "reason": result.collection["reason"],
        "calibration": result.calibration,
        "images": images,
        "groups": [_group(group) for group in result.collection["groups"]],
        "ask": [{"position": at, "drawn": False} for at in result.collection["suggested"]],
        "warnings": result.warnings,
    }


def _group(members: Sequence[int]) -> dict[str, Any]:
    return {
        "kind": "alike",
        "shown": [{"position": at, "drawn": False} for at in members[:9]],
        "members": list(members),
    }
