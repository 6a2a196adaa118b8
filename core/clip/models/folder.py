"""Folders of backbones: the names of their files, the check of their content, and building one at a time."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

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
"""Options that a folder may set. Others, such as trust_remote_code, could run code of the folder."""


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of open_clip_config.json, checked: nothing in it runs code of the folder.

    Every load of a backbone passes this check, wherever its folder comes from.

    Args:
        name: name of the backbone, for messages.

    Raises:
        UnknownBackbone: the folder holds no weights or no configuration of open_clip.
        BackboneUnavailable: the content is not a configuration of open_clip, or not a safe one.
    """
    for required in (CONFIG, WEIGHTS):
        if not (folder / required).is_file():
            raise UnknownBackbone(
                f"The folder of {name} lacks {required}. It must hold {CONFIG} and {WEIGHTS} (open_clip), or "
                f"{TOWER_CONFIG} and {CLIP_MODEL_WEIGHTS} (a CLIPModel of transformers)."
            )
    try:
        content = _read_json(folder / CONFIG)
        towers = content["model_cfg"]["vision_cfg"], content["model_cfg"]["text_cfg"]
        if not all(isinstance(tower, dict) for tower in towers):
            raise TypeError("a tower is not an object")
        if not {*towers[1].get("tokenizer_kwargs", {})} <= TOKENIZER_OPTIONS:
            raise ValueError("an unknown option of the tokenizer")
        tower = folder / TOWER_CONFIG
        # Without this check, transformers asks at the terminal whether it may run the code.
        if "hf_model_name" in towers[1] and tower.is_file() and "auto_map" in _read_json(tower):
            raise ValueError("the text tower needs code of its own")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneUnavailable(
            f"{CONFIG} of {name} is no configuration of open_clip, or one that would run code of its folder. "
            "Choose another backbone."
        ) from error
    return content


def check_safetensors(path: Path, name: str) -> None:
    """Raise BackboneUnavailable, and remove the file, if it is no safetensors file. No tensor is read."""
    try:
        with safe_open(path, "np"):
            return
    except SafetensorError as error:
        path.unlink()
        raise BackboneUnavailable(
            f"The weights of {name} are no safetensors file, although the name says so. They were discarded. "
            "Choose another backbone, or another mirror in HF_ENDPOINT."
        ) from error


def build_once(folder: Path, build: Callable[[Path], object]) -> None:
    """Let `build` fill a temporary folder that becomes `folder`, unless that exists.

    Readers never see an incomplete folder. Of several processes that build it, the first one wins.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        build(temporary)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process built it first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
