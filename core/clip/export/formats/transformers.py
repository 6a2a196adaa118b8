"""A `CLIPModel` and a `CLIPProcessor` of transformers, for example for its zero-shot pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from core.clip.export.formats.classes import CLASSES, ModelExport
from core.clip.export.formats.tokenizer import NotPlainClip, clip_tokenizer
from core.clip.models.transformers_clip import TRANSPOSED, tensor_names

LOADING = """With `pip install transformers torch pillow`, in the folder that holds this file:

```python
from transformers import pipeline

classify = pipeline("zero-shot-image-classification", model=".")
classify("photo.jpg", candidate_labels={names})
```

The cosines equal the service's. `classes.npz` has the scores of the trained classes as the service
computes them: softmax((weights @ x + biases) * logit_scale / temperature) for normalised image features x.
The service lets the pre-trained model answer images unlike the training images with new names. This export
lacks it."""
VISION_FIELDS = {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio"}
TEXT_FIELDS = {"context_length", "vocab_size", "width", "layers", "heads", "mlp_ratio"}
RESAMPLE = {"bilinear": 2, "bicubic": 3}


def write(folder: Path, export: ModelExport) -> str:
    """Write a folder for `from_pretrained`. Return a program that loads it.

    Raises:
        NotPlainClip: a tower is not a plain ViT or CLIP's text transformer.
        OSError: a file can't be written.
    """
    backbone, network = export.backbone, export.network
    model = CLIPModel(clip_config(backbone.open_clip_config["model_cfg"], backbone.image_size))
    model.load_state_dict(renamed(network.state_dict()), strict=True)
    model.save_pretrained(folder, safe_serialization=True)
    size, preprocess = backbone.image_size, backbone.open_clip_config["preprocess_cfg"]
    squash = preprocess.get("resize_mode") == "squash"
    images = CLIPImageProcessor(
        size={"height": size, "width": size} if squash else {"shortest_edge": size},
        crop_size={"height": size, "width": size},
        resample=RESAMPLE[preprocess.get("interpolation", "bicubic")],
        image_mean=list(backbone.mean),
        image_std=list(backbone.std),
    )
    processor = CLIPProcessor(images, clip_tokenizer(backbone.tokenizer))  # type: ignore[no-untyped-call]
    processor.save_pretrained(folder)
    return LOADING.format(names=np.load(folder / CLASSES)["names"].tolist())


def clip_config(config: dict[str, Any], image_size: int) -> CLIPConfig:
    """Return transformers' configuration for open_clip's. Raise NotPlainClip."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if not (set(vision) <= VISION_FIELDS and set(text) <= TEXT_FIELDS and isinstance(vision["layers"], int)):
        raise NotPlainClip(
            "This format needs a plain ViT with CLIP's text transformer, but this backbone differs. Use "
            "format=open_clip or format=onnx."
        )
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    common = {"projection_dim": config["embed_dim"], "hidden_act": activation}
    return CLIPConfig(
        projection_dim=config["embed_dim"],
        vision_config={
            **common,
            "image_size": image_size,
            "patch_size": vision["patch_size"],
            "hidden_size": vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "intermediate_size": int(vision["width"] * vision.get("mlp_ratio", 4)),
        },
        text_config={
            **common,
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
            "hidden_size": text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4)),
            "bos_token_id": text["vocab_size"] - 2,
            "eos_token_id": text["vocab_size"] - 1,
        },
    )


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return transformers' tensors: separate query, key and value, and transposed projections."""
    moved: dict[str, Tensor] = {}
    for ours, theirs in tensor_names(state).items():
        tensor = state[ours].cpu().T if ours in TRANSPOSED else state[ours].cpu()
        pieces = tensor.chunk(3) if len(theirs) == 3 else (tensor,)
        moved |= {name: torch.clone(piece).contiguous() for name, piece in zip(theirs, pieces, strict=True)}
    return moved
