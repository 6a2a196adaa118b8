"""Names of pre-trained models, and where their files are on the hub. Nothing here is downloaded."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.clip.config import STARTER
from core.clip.errors import UnknownBackbone
from core.clip.models.open_clip_layout import WEIGHTS

HUB, LOCAL = "hf-hub:", "local-dir:"


@dataclass(frozen=True)
class Source:
    """Repository of a backbone on the hub, with its architecture if the repository lacks it."""

    repository: str
    weights: str = WEIGHTS
    config: dict[str, Any] | None = None
    """Content of open_clip_config.json."""


def find_source(name: str) -> Source:
    """Return the source of `Model/pretrained` or `hf-hub:organisation/name`. Nothing is downloaded.

    Raises:
        UnknownBackbone: no downloadable backbone has this name.
    """
    if name == STARTER:
        raise UnknownBackbone(
            "The starter is part of the service. It needs no download and can't be removed."
        )
    if name.startswith(LOCAL):
        raise UnknownBackbone(
            f"{name!r} is a folder on the machine of the service, so there is nothing to download. The "
            "operator installs a copy with `clipcite backbones import FOLDER --name NAME`, or names the "
            "folder in CLIPCITE_BACKBONE or CLIPCITE_BACKBONES."
        )
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise UnknownBackbone(f"{name!r} is not the name of a repository: {HUB}organisation/name.")
        return Source(repository)
    import open_clip  # imports torch, which commands on installed backbones do not need

    architecture, _, tag = name.partition("/")
    known = (
        architecture in open_clip.list_models()
    )  # else open_clip reads the name as a folder's or the hub's
    entry = open_clip.get_pretrained_cfg(architecture, tag) if known and tag else None
    if not entry:
        raise UnknownBackbone(
            f"There is no backbone {name!r}. Use {STARTER!r}, Model/pretrained as `clipcite backbones list "
            f"--all` shows them (for example ViT-B-16/openai), {HUB}organisation/name or {LOCAL}FOLDER."
        )
    repository, _, weights = str(entry.get("hf_hub") or "").rpartition("/")
    if not repository:
        raise UnknownBackbone(only_as(name, str(entry.get("url", "")).rpartition("/")[2]))
    model = open_clip.get_model_config(architecture)
    # Weights such as OpenAI's were trained with QuickGELU; without this flag open_clip only warns.
    model["quick_gelu"] = bool(model.get("quick_gelu") or entry.get("quick_gelu"))
    fields = ("mean", "std", "interpolation", "resize_mode")
    preprocess = {field: entry[field] for field in fields if field in entry}
    safe = f"{Path(weights).stem}.safetensors" if weights else WEIGHTS
    return Source(repository, safe, {"model_cfg": model, "preprocess_cfg": preprocess})


def only_as(name: str, file: str) -> str:
    """Return the error text for weights that are only available as a pickle."""
    return (
        f"The weights of {name!r} are only available as {file}. For safety only safetensors files are "
        "loaded; choose another backbone."
    )
