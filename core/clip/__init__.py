"""The CLIP-CITE method (arXiv 2407.04003): `pipeline` fine-tunes CLIP, `inference` classifies.

The names below are imported on first use, so that `core.clip.config` does not need torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.clip.config import AdaptConfig
    from core.clip.inference.classifier import Classifier
    from core.clip.models.backbone import load_backbone
    from core.clip.pipeline import adapt

__all__ = ["AdaptConfig", "Classifier", "adapt", "load_backbone"]
_MODULES = {
    "AdaptConfig": "config",
    "Classifier": "inference.classifier",
    "adapt": "pipeline",
    "load_backbone": "models.backbone",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
