"""Export of an adapted model at one α as a folder that open_clip loads without this software."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file
from torch import nn

from core.clip.export.model_card import (
    LOAD_PLAINLY,
    LOAD_WITH_PATH,
    ModelInfo,
    licence_of,
    model_card,
)
from core.clip.models.backbone import Backbone

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
CARD, ABOUT = "README.md", "clipcite.json"
FOLDER_FORMAT = 1


def write_open_clip_folder(folder: Path, backbone: Backbone, network: nn.Module, about: ModelInfo) -> None:
    """Write the open_clip export into an existing folder.

    Args:
        network: the backbone's network with θ(α).

    Raises:
        OSError: a file can't be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / CONFIG, relocated(backbone.open_clip_config))
    save_tokenizer(folder, backbone)
    hugging_face = "hf_model_name" in backbone.open_clip_config["model_cfg"]["text_cfg"]
    if hugging_face:
        # open_clip queries a hub for the shape of the text tower, unless the configuration has its absolute
        # path. That path is unknown until the folder is in its final place.
        cast(Any, network).text.config.save_pretrained(folder)
    describe(folder, about, LOAD_WITH_PATH if hugging_face else LOAD_PLAINLY)


def describe(folder: Path, about: ModelInfo, loading: str) -> None:
    """Write README.md for people, and `clipcite.json` for programs and imports.

    Args:
        loading: instructions that load the other files of the folder.

    Raises:
        OSError: a file can't be written.
    """
    (folder / CARD).write_text(model_card(about, loading), encoding="utf-8")
    content = {"format": FOLDER_FORMAT, **asdict(about), "licence": licence_of(about.backbone)}
    write_json(folder / ABOUT, content)


def save_tokenizer(folder: Path, backbone: Backbone) -> None:
    """Save the files of the tokenizer, unless they come with open_clip."""
    if "hf_tokenizer_name" in backbone.open_clip_config["model_cfg"]["text_cfg"]:
        backbone.tokenizer.tokenizer.save_pretrained(folder)


def relocated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration without local paths and references to pre-trained parts."""
    model = {**config["model_cfg"]}
    model["vision_cfg"] = {**model["vision_cfg"]}
    model["text_cfg"] = {**model["text_cfg"]}
    if "timm_model_name" in model["vision_cfg"]:
        model["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in model["text_cfg"]:
        model["text_cfg"].update(hf_model_name=".", hf_model_pretrained=False)
    if "hf_tokenizer_name" in model["text_cfg"]:
        model["text_cfg"]["hf_tokenizer_name"] = "."
    return {"model_cfg": model, "preprocess_cfg": dict(config["preprocess_cfg"])}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
