"""A tiny model built like the starter: a convolutional timm image tower, a Hugging Face text tower."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertTokenizerFast

from tests.core.clip.tiny import PREPROCESS

WORDS = ["a", "photo", "image", "of", "the", "red", "green", "blue", "grey", "black"]
WORDS += ["square", "round", "thing", "x", "."]


def make_hugging_backbone(folder: Path) -> str:
    """Write an open_clip folder and return the backbone's name, `local-dir:FOLDER`."""
    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    words = folder / "vocab.txt"
    words.write_text("\n".join(vocabulary))
    BertTokenizerFast(str(words)).save_pretrained(folder)
    BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=77,
    ).save_pretrained(folder)
    config: dict[str, Any] = {
        "embed_dim": 32,
        "vision_cfg": {
            "timm_model_name": "test_efficientnet",
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": 32,
        },
        "text_cfg": {
            "hf_model_name": str(folder),
            "hf_tokenizer_name": str(folder),
            "hf_proj_type": None,
            "hf_pooler_type": "mean_pooler",
            "hf_model_pretrained": False,
        },
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CustomTextCLIP(**config)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    content = {"model_cfg": config, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return f"local-dir:{folder}"
