"""CLIPModel files of `transformers`, converted to open_clip's layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from core.clip.errors import BackboneUnavailable

VOCABULARY = 49_408
"""Size of CLIP's vocabulary. Its tokenizer comes with open_clip."""
INTERPOLATION = {2: "bilinear", 3: "bicubic"}
"""Names of Pillow's resampling filters."""
# Defaults of transformers' CLIPConfig. A config.json leaves them out.
VISION = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
VISION |= {"image_size": 224, "patch_size": 32}
TEXT = {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048}
TEXT |= {"max_position_embeddings": 77, "vocab_size": VOCABULARY}
# Names of open_clip and of transformers.
TOWERS = (
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("transformer.resblocks.", "text_model.encoder.layers."),
)
INSIDE = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
INSIDE |= {"attn.out_proj": "self_attn.out_proj"}
TRANSPOSED = {"visual.proj", "text_projection"}


def read_clip_model(
    config: Path, preprocessor: Path, weights: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return open_clip's configuration and weights of a CLIPModel.

    Args:
        preprocessor: file of the preprocessing, which may be missing.

    Raises:
        BackboneUnavailable: the model is not a CLIPModel, or a file is damaged.
    """
    try:
        model = json.loads(config.read_text(encoding="utf-8"))
        preprocess = json.loads(preprocessor.read_text(encoding="utf-8")) if preprocessor.is_file() else {}
        content = {"model_cfg": _model_config(model), "preprocess_cfg": _preprocess_config(preprocess)}
        return content, _from_transformers(load_file(weights))
    except (ValueError, KeyError, TypeError, SafetensorError, RecursionError) as error:
        raise BackboneUnavailable(
            f"The folder is not a CLIPModel that open_clip can hold ({type(error).__name__}: {error}). A "
            f"CLIPModel has {config.name} with model_type clip, {weights.name}, and CLIP's vocabulary of "
            f"{VOCABULARY:,} tokens. Choose another backbone."
        ) from error


def _model_config(config: dict[str, Any]) -> dict[str, Any]:
    if config.get("model_type") != "clip":
        raise ValueError(f"model_type is {config.get('model_type')!r}")
    vision, text = {**VISION, **config["vision_config"]}, {**TEXT, **config["text_config"]}
    activations = {part.get("hidden_act", "quick_gelu") for part in (vision, text)}
    if activations not in ({"quick_gelu"}, {"gelu"}):
        raise ValueError(f"the activations are {sorted(activations)}")
    if text["vocab_size"] != VOCABULARY:
        raise ValueError(f"the vocabulary has {text['vocab_size']} tokens")
    return {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": activations == {"quick_gelu"},
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "width": vision["hidden_size"],
            "layers": vision["num_hidden_layers"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
    }


def _preprocess_config(preprocessor: dict[str, Any]) -> dict[str, Any]:
    """Return open_clip's preprocessing. Missing fields get CLIP's values."""
    names = {"mean": "image_mean", "std": "image_std"}
    given = {ours: preprocessor[theirs] for ours, theirs in names.items() if theirs in preprocessor}
    interpolation = INTERPOLATION[preprocessor.get("resample", 3)]
    return {"resize_mode": "shortest", **given, "interpolation": interpolation}


def tensor_names(state: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Map open_clip's tensor names to transformers' names. Query, key and value have three names.

    Args:
        state: state of either library. It determines the layers.
    """
    names: dict[str, tuple[str, ...]] = {
        "logit_scale": ("logit_scale",),
        "visual.class_embedding": ("vision_model.embeddings.class_embedding",),
        "visual.conv1.weight": ("vision_model.embeddings.patch_embedding.weight",),
        "visual.positional_embedding": ("vision_model.embeddings.position_embedding.weight",),
        "visual.proj": ("visual_projection.weight",),
        "token_embedding.weight": ("text_model.embeddings.token_embedding.weight",),
        "positional_embedding": ("text_model.embeddings.position_embedding.weight",),
        "text_projection": ("text_projection.weight",),
    }
    modules = {
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        "ln_final": "text_model.final_layer_norm",
    }
    for pair in TOWERS:
        found = {name.removeprefix(start) for start in pair for name in state if name.startswith(start)}
        for layer in {name.partition(".")[0] for name in found}:
            ours, theirs = (f"{start}{layer}." for start in pair)
            modules |= {ours + inner: theirs + other for inner, other in INSIDE.items()}
            for kind in ("weight", "bias"):
                query_key_value = tuple(f"{theirs}self_attn.{part}_proj.{kind}" for part in "qkv")
                names[f"{ours}attn.in_proj_{kind}"] = query_key_value
    for kind in ("weight", "bias"):
        names |= {f"{ours}.{kind}": (f"{theirs}.{kind}",) for ours, theirs in modules.items()}
    return names


def _from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for ours, theirs in tensor_names(state).items():
        tensor = torch.cat([state[name] for name in theirs]) if len(theirs) > 1 else state[theirs[0]]
        renamed[ours] = (tensor.T if ours in TRANSPOSED else tensor).contiguous()
    return renamed
