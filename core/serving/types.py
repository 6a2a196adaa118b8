"""Plain data: requests and results of POST /classify, and what crosses the seam of the engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from core.clip.errors import BadImage
from core.clip.inference.calibration import Calibration
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.errors import ClipCiteError
from core.serving.pool.cache_stats import CacheStats
from core.store.db.tables import Model


class ClassName(NamedTuple):
    """A tuple, since lists of a thousand of them are hashed for every request."""

    name: str
    prompts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ClassifyRequest:
    """About every image, whatever the model."""

    class_names: tuple[ClassName, ...]
    alpha: float | None = None
    """As likewise `templates`: None is the model's."""
    templates: tuple[str, ...] | None = None
    new_class_balance: float = NEW_CLASS_BALANCE
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
    """It comes from the images of a job that has no model."""
    preview_lacks: int
    """Images of those that are still being looked at, and will be in a later answer."""
    backbone: str
    alpha: float
    kinds: dict[str, str]
    offsets: dict[str, float]
    """What was taken off the cosines of each name before the softmax."""
    results: list[list[Prediction] | BadImage]
    """For each image its best classes, best first, or why it can't be read."""
    calibration: Calibration | None
    """With it the probabilities are calibrated; None where nothing is known."""
    sets: list[list[str]]
    """With confidence, for each image that can be read: the names among which the true one is as often as
    was asked for, best first."""
    in_distribution_score: list[float]
    """Likewise: how much it looks like the nearest of the names."""
    rejected: list[bool]
    """Likewise: whether it looks like none of the names."""
    timing_ms: dict[str, float]


class NoReadableImage(ClipCiteError):
    """Every image of a request is bad; `problems` has the reason of each."""

    code = "bad_images"
    status = 422

    def __init__(self, problems: Sequence[BadImage]) -> None:
        super().__init__("None of the images can be read; see errors.")
        self.problems = list(problems)


# --- the seam of the engine ---


@dataclass(frozen=True)
class WeightsSource:
    """The stored files of a model, by blob key."""

    model_id: str
    owner: str
    weights: str
    manifest: str
    bytes: int


@dataclass(frozen=True)
class WeightsKey:
    """Content of a model, whatever the model is called: two models with equal keys are one in memory."""

    backbone: str
    image_size: int | None = None
    """None is the backbone's own."""
    sha256: str = ""
    """Of the stored change of the backbone; empty for the backbone as it is."""
    source: WeightsSource | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, row: Model) -> "WeightsKey":
        source = WeightsSource(row.id, row.owner, row.weights_key, row.manifest_key, row.bytes)
        return cls(row.backbone, row.image_size, row.sha256, source)

    @property
    def key(self) -> str:
        return f"{self.sha256}/{self.backbone}/{self.image_size}"

    def at(self, alpha: float) -> str:
        """The key of the model at α."""
        return f"{self.key}@{alpha!r}"


@dataclass(frozen=True)
class Handle:
    """A model in memory at one α, for as long as its context lasts."""

    id: int
    """Of this acquisition."""
    key: str
    """Of content and α: handles with equal keys give equal features."""
    wait_seconds: float | None
    """Maximum wait of a call for its turn; None waits for ever."""
    backbone: str
    image_size: int
    preprocess: str
    """Settings of the image transform, as `core.clip.models.backbone.image_transform` reads them."""
    logit_scale: float
    """1/τ, the factor of the cosines."""
    shots: tuple[Tensor, Tensor] | None
    """Support set: float32 [N, D], normalised, and labels int64 [N]."""
    max_images: int
    """Images of one batch; a call may bring more."""


@dataclass(frozen=True)
class BackboneInfo:
    """A pre-trained model in memory."""

    name: str
    image_size: int
    own_size: bool
    """The image size is the backbone's own."""
    precision: str
    users: int
    """Handles and warm models."""


@dataclass(frozen=True)
class ResidentInfo:
    """A model at one α, or its stored change of the backbone."""

    weights_key: WeightsKey
    alpha: float | None
    """None for the stored change."""
    bytes: int
    users: int
    pinned: bool
    owners: Mapping[str, str]
    """Owner by model id, of the models that have this content and were asked for."""


@dataclass(frozen=True)
class BatchCounts:
    """Work of the batcher since its start."""

    waiting: dict[str, int]
    """Rows that are not being computed yet, by `images` and `prompts`."""
    batches: dict[str, int]
    rows: dict[str, int]
    """Rows of those batches."""
    sizes: dict[int, int]
    """Batches of images by size: at most the key, more than half of it."""
    busy_seconds: float
    """Of all threads together."""
    seconds_to_wait: float
    """Estimate for the rows that wait now."""


@dataclass(frozen=True)
class EngineStats:
    """Memory and work of an engine now."""

    device: str
    threads: int
    """Of torch, for a batch that is alone."""
    max_rows: Mapping[str, int]
    """Rows of one batch, by `images` and `prompts`."""
    batches: BatchCounts
    max_backbones: int
    backbones: Sequence[BackboneInfo]
    budget_bytes: int
    bytes: int
    models: CacheStats
    deltas: CacheStats
    resident: Sequence[ResidentInfo]
    unavailable: int
    """Models whose files are missing or damaged."""
