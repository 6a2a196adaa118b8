"""Answers of the service and of its exports to the same images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clipcite import Client
from core.clip.prompts import DEFAULT_TEMPLATES, all_class_prompts

CLASSES = tuple(f"class {letter}" for letter in "abcdefghij")


def served(client: Client, images: Sequence[Path], model: str) -> np.ndarray[Any, Any]:
    """Return the service's answers [2, N, C]: probabilities, without class offsets, and cosines."""
    answer = client.classify(images, CLASSES, model=model, new_class_balance=0)
    rows = [{each.class_name: each for each in image.predictions} for image in answer.results]
    return np.array(
        [
            [[row[name].probability for name in CLASSES] for row in rows],
            [[row[name].similarity for name in CLASSES] for row in rows],
        ]
    )


@torch.no_grad()
def from_open_clip(folder: Path, images: Sequence[Path]) -> np.ndarray[Any, Any]:
    """Return the answers of open_clip to the exported folder, without clipcite."""
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    pixels = torch.stack([preprocess(Image.open(path).convert("RGB")) for path in images])
    image = F.normalize(model.eval().encode_image(pixels), dim=-1)
    text = F.normalize(model.encode_text(tokenizer(sentences())), dim=-1)
    return answers(image @ text.T, model.logit_scale.exp().item())


def from_onnx(folder: Path, exported: Path, images: Sequence[Path]) -> np.ndarray[Any, Any]:
    """Return the answers of the ONNX graphs, with open_clip's preprocessing and tokenizer."""
    config = json.loads((exported / "open_clip_config.json").read_text())
    transform = image_transform_v2(PreprocessCfg(**config["preprocess_cfg"]), is_train=False)
    pixels = torch.stack([transform(Image.open(path).convert("RGB")) for path in images]).numpy()
    tokens = open_clip.get_tokenizer(f"local-dir:{exported}")(sentences()).numpy()
    features = []
    for graph, given in (("image", {"pixels": pixels}), ("text", {"tokens": tokens})):
        session = onnxruntime.InferenceSession(folder / f"{graph}.onnx")
        features.append(F.normalize(torch.from_numpy(session.run(None, given)[0]), dim=-1))
    scale = json.loads((folder / "onnx.json").read_text())["logit_scale"]
    return answers(features[0] @ features[1].T, scale)


def answers(cosines: torch.Tensor, scale: float) -> np.ndarray[Any, Any]:
    """Return probabilities and cosines [2, N, C]."""
    return np.asarray(torch.stack([(scale * cosines).softmax(dim=-1), cosines]).numpy())


def sentences() -> list[str]:
    return [prompts[0] for prompts in all_class_prompts(CLASSES, DEFAULT_TEMPLATES)]


def difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(np.abs(one - other).max())
