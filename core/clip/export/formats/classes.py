"""The classes of an exported model as linear functions of an image's features, and the model behind them."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from core.clip.export.model_card import ModelInfo
from core.clip.inference.calibration import Calibration
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone, load_backbone, with_parameters
from core.clip.prompts import all_class_prompts

CLASSES = "classes.npz"


@dataclass(frozen=True)
class ModelExport:
    """A model at one α, for a module of this folder."""

    backbone: Backbone
    network: nn.Module
    """The backbone's network with θ(α)."""
    info: ModelInfo


def write_classes(
    folder: Path, classifier: Classifier, info: ModelInfo, calibration: Calibration | None
) -> None:
    """Write `classes.npz`: softmax((weights @ x + biases) * logit_scale / temperature) are the probabilities.

    `features` [C, D] are those of the prompts. The scores are measured at the origin and along each axis of
    the image features x [D], whatever the rule behind them is.

    Args:
        calibration: that of the model at this α, if it has one.

    Raises:
        OSError: the file can't be written.
    """
    features = classifier.text_features(all_class_prompts(info.classes, info.templates, info.prompts))
    axes = torch.cat([torch.zeros(1, features.shape[1]), torch.eye(features.shape[1])])
    scores = classifier.scores(axes, features, classes=range(len(info.classes))).scores
    np.savez(
        folder / CLASSES,
        names=np.array(info.classes),
        features=features.cpu().numpy(),
        weights=(scores[1:] - scores[0]).T.numpy(),
        biases=scores[0].numpy(),
        logit_scale=np.float32(classifier.backbone.logit_scale),
        temperature=np.float32(1 if calibration is None else calibration.temperature),
    )


def export_format(format: str, folder: Path, parameters: Path, cache: Path, info: ModelInfo) -> None:
    """Write a format of this folder beside `classes.npz`, from a backbone and θ(α) in a file of safetensors.

    Raises the errors of the format's `write` and of `load_backbone`.
    """
    backbone = load_backbone(info.backbone, cache=cache, image_size=info.image_size)
    module: Any = import_module(f"core.clip.export.formats.{format}")
    module.write(folder, ModelExport(backbone, with_parameters(backbone, load_file(parameters)), info))
