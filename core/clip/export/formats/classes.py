"""Classes of an exported model, as linear functions of an image's features, and the exported model."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from core.clip.export.model_card import ModelInfo
from core.clip.export.open_clip_folder import describe
from core.clip.inference.calibration import FittedCalibration
from core.clip.inference.classifier import Classifier
from core.clip.models.backbone import Backbone, load_backbone, with_parameters
from core.clip.prompts import Candidates

CLASSES = "classes.npz"


@dataclass(frozen=True)
class ModelExport:
    """A model at one α, for a module of this folder."""

    backbone: Backbone
    network: nn.Module
    """The backbone's network with θ(α)."""
    info: ModelInfo


def write_classes(
    folder: Path,
    classifier: Classifier,
    info: ModelInfo,
    calibration: FittedCalibration | None,
    names: Sequence[str],
) -> None:
    """Write `classes.npz`: softmax(s * logit_scale / temperature) are the probabilities of the names.

    The scores s are weights @ x + biases for the image features x [D]. If there are trained and new names,
    `anchor_weights` has rows, and s[trained] is shifted so that its maximum equals that of
    anchor_weights @ x + anchor_biases. `features` [C, D] are the features of the prompts.

    Args:
        calibration: calibration of the model at this α, if any.

    Raises:
        OSError: the file can't be written.
    """
    candidates = Candidates.of(names, info.classes, info.templates, info.prompts)
    features = classifier.text_features(candidates.prompts).cpu()
    rule = classifier.scores(features[:1], features, classes=candidates.classes).rule
    weights, biases = rule.classifier_weights.clone(), -rule.offsets
    trained = torch.tensor(candidates.classes) >= 0
    mixed = trained if rule.kind == "mixed" else torch.zeros_like(trained)
    anchor_weights, anchor_biases = weights[mixed], biases[mixed]
    if rule.among_trained is not None:
        weights[rule.among_trained.columns] = rule.among_trained.weights
        biases[rule.among_trained.columns] = rule.among_trained.biases
    np.savez(
        folder / CLASSES,
        names=np.array(names),
        features=features.numpy(),
        weights=weights.numpy(),
        biases=biases.numpy(),
        trained=trained.numpy(),
        anchor_weights=anchor_weights.numpy(),
        anchor_biases=anchor_biases.numpy(),
        logit_scale=np.float32(classifier.backbone.logit_scale),
        temperature=np.float32(1 if calibration is None else calibration.temperature),
    )


def export_format(format: str, folder: Path, parameters: Path, cache: Path, info: ModelInfo) -> None:
    """Write a format of this folder beside `classes.npz`, from a backbone and a safetensors file with θ(α).

    The folder also gets README.md and `clipcite.json`.

    Raises the errors of the format's `write` and of `load_backbone`.
    """
    backbone = load_backbone(info.backbone, cache=cache, image_size=info.image_size)
    module: Any = import_module(f"core.clip.export.formats.{format}")
    export = ModelExport(backbone, with_parameters(backbone, load_file(parameters)), info)
    describe(folder, info, module.write(folder, export))
