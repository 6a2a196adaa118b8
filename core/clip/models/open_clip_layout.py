"""Files of a backbone: open_clip's layout, and the conversion of others to it."""

import json
from pathlib import Path
from typing import Any

from core.clip.errors import BackboneUnavailable, UnknownBackbone

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
TOWER_CONFIG = "config.json"
"""Shape of a Hugging Face text tower, or of a whole model in the layout of `transformers`."""
CLIP_MODEL_WEIGHTS = "model.safetensors"
CLIP_MODEL_FILES = (TOWER_CONFIG, "preprocessor_config.json", CLIP_MODEL_WEIGHTS)
"""Files of a CLIPModel of `transformers`."""
TOKENIZER_FILES = frozenset(
    (
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
        *("vocab.txt", "vocab.json", "merges.txt"),
        *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    )
)
TOKENIZER_OPTIONS = {"clean", "strip_sep_token", "language", "tokenizer_mode"}
"""Options that a folder may set. Other options, such as trust_remote_code, could run code of the folder."""


def convert_clip_model(folder: Path, into: Path) -> None:
    """Write a CLIPModel of `transformers` in open_clip's layout."""
    # Both import torch, which commands on installed backbones do not need.
    from safetensors.torch import save_file

    from core.clip.models.transformers_clip import read_clip_model

    config, weights = read_clip_model(*(folder / file for file in CLIP_MODEL_FILES))
    save_file(weights, into / WEIGHTS, metadata={"format": "pt"})
    (into / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of open_clip_config.json. Check that nothing in it runs code of the folder.

    Every loaded backbone passes this check, regardless of its source.

    Args:
        name: name of the backbone, for messages.

    Raises:
        UnknownBackbone: the folder lacks open_clip's weights or configuration.
        BackboneUnavailable: the configuration is invalid or unsafe.
    """
    for required in (CONFIG, WEIGHTS):
        if not (folder / required).is_file():
            raise UnknownBackbone(
                f"The folder of {name} lacks {required}. It must hold {CONFIG} and {WEIGHTS} (open_clip), or "
                f"{TOWER_CONFIG} and {CLIP_MODEL_WEIGHTS} (a CLIPModel of transformers)."
            )
    try:
        content: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        towers = content["model_cfg"]["vision_cfg"], content["model_cfg"]["text_cfg"]
        if not all(isinstance(tower, dict) for tower in towers):
            raise TypeError("a tower is not an object")
        if not {*towers[1].get("tokenizer_kwargs", {})} <= TOKENIZER_OPTIONS:
            raise ValueError("an unknown option of the tokenizer")
        tower = folder / TOWER_CONFIG
        # Without this check, transformers asks at the terminal whether it may run the code.
        if (
            "hf_model_name" in towers[1]
            and tower.is_file()
            and "auto_map" in json.loads(tower.read_text("utf-8"))
        ):
            raise ValueError("the text tower needs code of its own")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackboneUnavailable(
            f"{CONFIG} of {name} is not a configuration of open_clip, or it would run code of its folder. "
            "Choose another backbone."
        ) from error
    return content
