"""What POST /classify asks for, and what it is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.clip.errors import BadImage
from core.clip.inference.calibration import Confidence
from core.clip.inference.class_offsets import NEW_NAMES_BALANCE
from core.errors import ClipCiteError


@dataclass(frozen=True)
class ClassName:
    name: str
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ClassifyRequest:
    """About every picture, whatever the model."""

    class_names: tuple[ClassName, ...]
    alpha: float | None = None
    """As likewise `templates`: None is the model's."""
    templates: tuple[str, ...] | None = None
    new_names_balance: float = NEW_NAMES_BALANCE
    top_k: int | None = None
    coverage: float | None = None
    reject: bool = False


@dataclass(frozen=True)
class Prediction:
    class_name: str
    kind: str
    """`trained` or `new`, for this model."""
    probability: float
    similarity: float


@dataclass(frozen=True)
class ClassifyResult:
    model: str
    preview: bool
    """It comes from the pictures of a job that has no model."""
    preview_lacks: int
    """Pictures of those that are still being looked at, and will be in a later answer."""
    backbone: str
    alpha: float
    kinds: dict[str, str]
    offsets: dict[str, float]
    """What was taken off the cosines of each name before the softmax."""
    results: list[list[Prediction] | BadImage]
    """For each picture its best classes, best first, or why it can't be read."""
    confidence: Confidence | None
    """With it the probabilities are calibrated; None where nothing is known."""
    sets: list[list[str]]
    """With confidence, for each picture that can be read: the names among which the true one is as often as
    was asked for, best first."""
    likeness: list[float]
    """Likewise: how much it looks like the nearest of the names."""
    rejected: list[bool]
    """Likewise: whether it looks like none of the names."""
    timing_ms: dict[str, float]


class NoReadablePicture(ClipCiteError):
    """Every picture of a request is bad; `problems` has the reason of each."""

    code = "bad_pictures"
    status = 422

    def __init__(self, problems: Sequence[BadImage]) -> None:
        super().__init__("None of the pictures can be read; see errors.")
        self.problems = list(problems)
