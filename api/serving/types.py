"""Plain data: keys of weights, and counters."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.clip.errors import BadImage
from core.errors import ExpectedError
from core.store.db.tables import Model

MAX_IN_FLIGHT = 256
"""Maximum number of images in all requests in progress."""


class NoReadableImage(ExpectedError):
    """A request without readable images. `problems` has one reason per image."""

    code = "bad_images"
    status = 422

    def __init__(self, problems: Sequence[BadImage]) -> None:
        super().__init__("None of the images can be read. See `errors` for the reasons.")
        self.problems = list(problems)


# --- models in memory ---


@dataclass(frozen=True)
class WeightsKey:
    """Identity of a model's weights, and their stored files."""

    backbone: str
    image_size: int | None = None
    """Image size. None: the backbone's."""
    model_id: str = ""
    """Id of the model. Empty for the pre-trained model, which has no stored files."""
    weights: str = field(default="", compare=False)
    manifest: str = field(default="", compare=False)
    """Blob keys of the two files."""
    sha256: str = field(default="", compare=False)
    """Hash of the weights."""
    bytes: int = field(default=0, compare=False)
    """Size of the weights."""

    @classmethod
    def of(cls, row: Model) -> "WeightsKey":
        return cls(
            row.backbone,
            row.image_size,
            row.id,
            weights=row.weights_key,
            manifest=row.manifest_key,
            sha256=row.sha256,
            bytes=row.bytes,
        )

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

    batches: dict[str, int]
    """Number of batches, of `images` and of `prompts`."""
    rows: dict[str, int]
    """Number of rows in these batches."""
    busy_seconds: float
    """Compute time, summed over all threads."""
