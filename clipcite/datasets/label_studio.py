"""Reader of Label Studio exports: JSON and JSON-MIN with one choice per image."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from clipcite.datasets.dataset import Dataset, count_noun
from clipcite.datasets.image import IMAGE_ENDINGS
from clipcite.datasets.manifests import FILE_COLUMNS
from clipcite.datasets.rows import Row, dataset_of_rows
from clipcite.errors import InvalidImages

KIND = "Label Studio export"


def read_label_studio(path: Path) -> Dataset | None:
    """Read an export. Return None for a file of another kind.

    The most frequent choice of several annotators becomes the label. Ties and annotations with several
    choices are ignored. Model predictions are not labels.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError):
        return None
    if not isinstance(tasks, list) or not tasks or not all(_is_task(task) for task in tasks):
        return None
    rows, tied, multiple = [], 0, 0
    for task in tasks:
        file = _file(task)
        if file is None:
            raise InvalidImages(f"A task in {path.name} names no image. Export image classification tasks.")
        votes, several = _votes(task)
        multiple += several
        ranked = Counter(votes).most_common(2)
        tie = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
        tied += tie
        if tie or (several and not votes):
            continue
        rows.append(Row(file, ranked[0][0] if ranked else None))
    notes = [
        *([f"ignored {count_noun(tied, 'image')} with conflicting annotations"] if tied else []),
        *([f"ignored {count_noun(multiple, 'annotation')} with several choices"] if multiple else []),
    ]
    return dataset_of_rows(KIND, rows, path.parent, notes)


def _is_task(task: Any) -> bool:
    if not isinstance(task, dict):
        return False
    full = isinstance(task.get("data"), dict) and isinstance(task.get("annotations"), list)
    return full or ("annotation_id" in task and "choice" in task) or ("annotator" in task and "id" in task)


def _file(task: dict[str, Any]) -> str | None:
    data: dict[str, Any] = task.get("data") if isinstance(task.get("data"), dict) else task  # type: ignore[assignment]
    named = [data[name] for name in FILE_COLUMNS if isinstance(data.get(name), str)]
    if named:
        return str(named[0])
    endings = tuple(IMAGE_ENDINGS)
    return next((v for v in data.values() if isinstance(v, str) and v.lower().endswith(endings)), None)


def _votes(task: dict[str, Any]) -> tuple[list[str], int]:
    """Return the choices of all annotators, and the number of annotations with several choices."""
    if "annotations" not in task:  # JSON-MIN
        choice = task.get("choice")
        if isinstance(choice, dict):
            return [], 1
        return ([choice] if isinstance(choice, str) and choice else []), 0
    votes: list[str] = []
    several = 0
    for annotation in task["annotations"]:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result") or []:
            if isinstance(result, dict) and result.get("type") == "choices":
                chosen = (result.get("value") or {}).get("choices") or []
                if len(chosen) == 1:
                    votes.append(str(chosen[0]))
                elif chosen:
                    several += 1
    return votes, several
