"""A model while a request uses it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from api.serving.pool.served_model import ServedModel
from api.serving.previews import JobPreview, PreviewState
from core.clip.config import AdaptConfig, resolve_config
from core.clip.inference.calibration import FittedCalibration
from core.clip.inference.pile import Support
from core.store.db.tables import Model


@lru_cache
def recipe(backbone: str) -> AdaptConfig:
    """Return the default configuration of a backbone."""
    return resolve_config(backbone=backbone)


@dataclass(frozen=True)
class HeldModel:
    """A model that a request holds in memory, with its row or preview."""

    served: ServedModel
    preview: PreviewState | None
    row: Model | JobPreview | None
    name: str
    backbone: str
    alpha: float
    calibration: FittedCalibration | None = None
    """Calibration that was fitted at this α. Not every request can use it."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the trained classes."""
        return self.row.classes if self.row else ()

    @property
    def templates(self) -> Sequence[str]:
        return self.row.templates if self.row else recipe(self.backbone).templates

    @property
    def prompts(self) -> Mapping[str, Sequence[str]]:
        """Custom prompts by class name."""
        return self.row.prompts if self.row else {}

    @property
    def logit_scale(self) -> float:
        """Scale of the scores, at the temperature of the calibration."""
        scale = self.served.backbone.logit_scale
        return scale if self.calibration is None else scale / self.calibration.temperature

    @property
    def shots(self) -> tuple[Tensor, Tensor] | None:
        """Features [S, D] and labels [S] of the training images, or None for the pre-trained model."""
        if self.preview is not None:
            return self.preview.preview.features, self.preview.preview.labels
        return self.served.shots

    @property
    def support(self) -> Support | None:
        """The same images in the format of `pile`."""
        if self.preview is not None:
            preview = self.preview.preview
            return Support.of(preview.features.numpy(), preview.labels.numpy())
        return self.served.support
