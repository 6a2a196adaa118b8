"""Log of a sort, from which it continues and is undone: answers, labels and actions as lines of JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

Ranked = Sequence[tuple[str, float]]
"""Most likely classes of an image with their probabilities, best first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of the service for one image."""

    ranked: Ranked = ()
    error: str | None = None
    """Reason why the image can't be read."""
    features: str | None = None
    calibrated: bool = False
    """True if the probabilities have the temperature of held-out images."""
    in_collection: bool = False
    """True if the answer considers the other images of the folder."""


class Log:
    """Records of one folder, model and list of classes (`subject`), in memory and in a file.

    Answers and labels have the key of an image, which changes with the file. Actions are in their order.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. A line that was cut off, by a full disk for example, is ignored."""
        self.path = path
        self.subject: dict[str, Any] = {}
        self.answers: dict[str, Answer] = {}
        self.labels: dict[str, str] = {}
        self.folders: list[str] = []
        self.actions: list[dict[str, str]] = []
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    self._take(json.loads(line))
                except (KeyError, TypeError, ValueError):
                    continue

    def write(self, *records: dict[str, Any]) -> None:
        """Append records, and wait until the disk has them."""
        with self.path.open("ab") as file:
            file.write("".join(f"\n{json.dumps(record)}" for record in records).encode())
            file.flush()
            os.fsync(file.fileno())
        for record in records:
            self._take(record)

    def _take(self, record: Any) -> None:
        match record:
            case {"subject": subject}:
                self.subject = subject
            case {"image": key, "answer": answer}:
                self.answers[key] = Answer(**answer)
            case {"image": key, "collection": ranked, "calibrated": calibrated}:
                answer = self.answers[key]
                self.answers[key] = replace(answer, ranked=ranked, calibrated=calibrated, in_collection=True)
            case {"image": key, "label": name}:
                self.labels[key] = name
            case {"folder": folder}:
                self.folders.append(folder)
            case {"do": _}:
                self.actions.append(record)


def open_log(into: Path, subject: dict[str, Any]) -> tuple[Log, list[Log]]:
    """Return the log of this subject, and the other logs of its folder, whose labels it gets.

    Args:
        into: folder of the logs, which is created.
        subject: `folder`, `model` and `classes`.
    """
    into.mkdir(parents=True, exist_ok=True)
    found = [Log(path) for path in sorted(into.glob("clipcite-sort-*.jsonl"))]
    found = [log for log in found if log.subject.get("folder") == subject["folder"]]
    others = [log for log in found if log.subject != subject]
    if len(others) < len(found):
        return next(log for log in reversed(found) if log.subject == subject), others
    path = into / f"clipcite-sort-{datetime.now():%Y%m%d-%H%M%S-%f}.jsonl"
    path.touch(exist_ok=False)
    log = Log(path)
    labels = {key: name for other in others for key, name in other.labels.items()}
    log.write({"subject": subject}, *({"image": key, "label": name} for key, name in labels.items()))
    return log, others
