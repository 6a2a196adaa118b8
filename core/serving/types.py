"""Plain data: requests and results of POST /classify, keys of weights, and counters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from core.clip.errors import BadImage
from core.clip.inference.calibration import Calibration
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.inference.request_rule import RequestKind
from core.errors import ClipCiteError
from core.store.db.tables import Model

MAX_IMAGES = 256
"""Maximum number of images of all requests in progress, once per model."""


class ClassName(NamedTuple):
    """A class name with its prompts: a tuple, because each request hashes up to 1,000 of them."""

    name: str
    prompts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ClassifyRequest:
    """Class names and options, for all images and models of a request."""

    class_names: tuple[ClassName, ...]
    alpha: float | None = None
    """None is the model's α; likewise for `templates`."""
    templates: tuple[str, ...] | None = None
    new_class_balance: float = NEW_CLASS_BALANCE
    top_k: int | None = None
    coverage: float | None = None
    reject: bool = False
    features: bool = False


@dataclass(frozen=True)
class Prediction:
    """A class with its probability for one image."""

    class_name: str
    kind: str
    """`trained` or `new`, for this model."""
    probability: float
    similarity: float


@dataclass(frozen=True)
class ClassifyResult:
    """Predictions of one model for all images of a request."""

    model: str
    preview: bool
    """The result comes from the instant preview of a job without a model."""
    preview_lacks: int
    """Images of the preview that are not encoded yet."""
    backbone: str
    alpha: float
    kinds: dict[str, str]
    rule: RequestKind
    """The rule that was used (`core.clip.inference.request_rule`)."""
    offsets: dict[str, float]
    """Offset per class, subtracted from the cosines before the softmax."""
    results: list[list[Prediction] | BadImage]
    """Per image the most likely classes, best first, or the reason why the image can't be read."""
    temperature: float | None
    """Temperature of the probabilities; None for a model without one."""
    calibration: Calibration | None
    """The calibration of the probabilities; None if no calibration is valid for such a request."""
    sets: list[list[str]]
    """With a calibration, per readable image: its prediction set, the most likely class first."""
    in_distribution_score: list[float]
    """With a calibration, per readable image: similarity to the nearest trained class."""
    rejected: list[bool]
    """With a calibration, per readable image: whether the image resembles none of the classes."""
    features: list[str]
    """If requested, per readable image: features [D] as base64 of little-endian float16."""
    collection: dict[str, Any]
    """`method`, `reason` and `suggested` of a collection; empty for images."""
    timing_ms: dict[str, float]


class NoReadableImage(ClipCiteError):
    """A request without a readable image; `problems` holds one reason per image."""

    code = "bad_images"
    status = 422

    def __init__(self, problems: Sequence[BadImage]) -> None:
        super().__init__("None of the images can be read. See errors for the reason of each.")
        self.problems = list(problems)


# --- models in memory ---


@dataclass(frozen=True)
class WeightsKey:
    """Identity of a model's weights, and their stored files."""

    backbone: str
    image_size: int | None = None
    """None is the backbone's own image size."""
    model_id: str = ""
    """Empty for the pre-trained model, which has no stored files."""
    weights: str = field(default="", compare=False)
    manifest: str = field(default="", compare=False)
    """Blob keys of the two files."""
    sha256: str = field(default="", compare=False)
    """Hash of the weights."""
    bytes: int = field(default=0, compare=False)
    """Size of the weights."""

    @classmethod
    def of(cls, row: Model) -> "WeightsKey":
        files = row.weights_key, row.manifest_key, row.sha256, row.bytes
        return cls(row.backbone, row.image_size, row.id, *files)

    @property
    def key(self) -> str:
        """The key as text."""
        return f"{self.model_id}/{self.backbone}/{self.image_size}"

    def at(self, alpha: float) -> str:
        """Return the key of the model at α."""
        return f"{self.key}@{alpha!r}"


@dataclass(frozen=True)
class BatchCounts:
    """Counters of the batcher since its start."""

    waiting: dict[str, int]
    """Rows that wait now, by `images` and `prompts`."""
    batches: dict[str, int]
    rows: dict[str, int]
    """Rows of those batches."""
    busy_seconds: float
    """Sum over all threads."""
    seconds_to_wait: float
    """Estimated duration of the rows that wait now."""


@dataclass(frozen=True)
class Preparing:
    """Current step of the preparation of the default backbone."""

    what: str
    """The step, for a person: "Downloading ViT-B-16/openai"."""
    done_bytes: int | None = None
    total_bytes: int | None = None
    """Progress of a download; None for other steps, and until the size is known."""
