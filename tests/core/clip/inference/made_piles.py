"""A made-up pile of trained classes and strangers, and answers about its images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.clip.inference.answers import Answers
from core.clip.inference.graph import unit
from core.clip.inference.pile import Support

CLASSES, SHOTS, SIDE = 4, 5, 64
CENTRES = np.linalg.qr(np.random.default_rng(1).normal(size=(SIDE, SIDE)))[0][:8].astype(np.float32)
"""Classes 0 to 3 are trained; 4 to 7 are strangers."""


def around(truth: np.ndarray, seed: int, spread: float = 0.7) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(len(truth), SIDE)) * spread / np.sqrt(SIDE)
    rows = CENTRES[truth] + noise
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


SHOT_LABELS = np.repeat(np.arange(CLASSES), SHOTS)
SUPPORT = Support(around(SHOT_LABELS, seed=2), SHOT_LABELS)
TRUTH = np.arange(400) % 8
IMAGES = around(TRUTH, seed=3)
NAMES = [*"abcdefgh"]


def blurred(truth: np.ndarray, seed: int) -> np.ndarray:
    """Return images of classes that touch: each image has a part of another class."""
    generator = np.random.default_rng(seed)
    other = CENTRES[generator.integers(8, size=len(truth))]
    noise = generator.normal(size=(len(truth), SIDE)) * 1.4 / np.sqrt(SIDE)
    rows: np.ndarray = unit(CENTRES[truth] + generator.random((len(truth), 1)) * other + noise)
    return rows.astype(np.float32)


Rows = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Said:
    position: int
    said: str
    class_name: str | None
    how: str


def say(rows: Rows, name: str | None, how: str = "group", said: str = "") -> list[Said]:
    """Return an answer about each image; without a name "none of these"."""
    return [Said(int(at), said or ("class" if name else "none"), name, how) for at in rows]


def answered(*given: list[Said], count: int = len(IMAGES), names: Sequence[str] = NAMES) -> Answers:
    return Answers.of(count, [each for act in given for each in act]).columns(names)
