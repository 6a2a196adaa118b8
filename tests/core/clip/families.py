"""Repositories of a model hub with random weights, in the layout of open_clip and of `transformers`."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

CLIP = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
SIGLIP = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
MOBILE = {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"}
VISION = {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 32, "layers": 2}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
SIGLIP_TEXT = {
    **TEXT,
    "context_length": 64,
    "vocab_size": 300,
    "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}
# Each with the special features of its family, and few weights.
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "clip": ({"embed_dim": 32, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}, CLIP),
    "siglip2": (
        {
            "embed_dim": 64,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": {
                "image_size": 160,  # the size of test_vit2
                "timm_model_name": "test_vit2",
                "timm_model_pretrained": False,
                "timm_pool": "map",
                "timm_proj": "none",
            },
            "text_cfg": SIGLIP_TEXT,
        },
        SIGLIP,
    ),
    "mobileclip": (
        {
            "embed_dim": 32,
            "custom_text": True,
            "vision_cfg": {
                "image_size": 64,
                "timm_model_name": "fastvit_t8",
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": None,
                "timm_drop": 0.0,
                "timm_drop_path": 0.0,
            },
            "text_cfg": {**TEXT, "no_causal_mask": True},
        },
        MOBILE,
    ),
}


def write_repository(
    folder: Path, model: dict[str, Any], preprocess: dict[str, Any], *, seed: int = 0
) -> Path:
    """Write configuration, random weights and, if the text tower has its own, a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"model_cfg": model, "preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(content)
    if "hf_tokenizer_name" in model["text_cfg"]:
        write_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        _scatter(network)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer with one token per byte, which ends each text with <eos>."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*special, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokens = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, **tokens).save_pretrained(folder)


def write_transformers_repository(folder: Path, **config: Any) -> Any:
    """Write a small CLIPModel with random weights, and return it."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "hidden_size": 32, "vocab_size": 49408, "eos_token_id": 49407, **config}
    vision = {**sizes, "image_size": 32, "patch_size": 8, **config}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    model.save_pretrained(folder)
    preprocessor = {"image_mean": CLIP["mean"], "image_std": CLIP["std"], "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model.eval()


def _scatter(network: torch.nn.Module) -> None:
    """Fill parameters that start as zeros, so that each of them matters to the features."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() and name not in {"logit_scale", "logit_bias"} and not parameter.any():
                parameter.normal_(std=0.02)
