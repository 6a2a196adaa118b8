"""Metadata of an archive with a model. It is read before any tensor."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.clip.config import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from core.clip.errors import CorruptWeights
from core.clip.export.open_clip_folder import ABOUT, CONFIG
from core.clip.export.open_clip_folder import WEIGHTS as NETWORK
from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest
from core.errors import ClipCiteError

MAX_JSON_BYTES = 4_000_000
"""Maximum size of a JSON file (bytes). The longest class names and prompts need a fraction of it."""
MAX_HEADER_BYTES = 2_000_000
"""Maximum size of a safetensors header (bytes). A tensor takes 60 of them or more, and far more memory."""
MAX_PROMPT_CHARACTERS = 1_000_000
"""Maximum size of all prompts (characters), as in a training. A list of models has the prompts of each."""
WANTED = (NETWORK, CONFIG, ABOUT, WEIGHTS, MANIFEST)
"""The files that an import reads. It never opens other files."""


class ImportRefused(ClipCiteError):
    """The archive can't be imported."""

    code = "import_refused"
    status = 422


@dataclass(frozen=True)
class ArchiveInfo:
    """Metadata of an archive, before any tensor is read."""

    is_delta: bool
    backbone: str | None
    image_size: int | None
    alpha: float | None
    classes: tuple[str, ...]
    templates: tuple[str, ...] | None
    prompts: Mapping[str, tuple[str, ...]]
    name: str | None


def inspect_folder(folder: Path) -> ArchiveInfo:
    """Read the metadata of an extracted archive.

    Raises:
        ImportRefused: the folder is neither an open_clip folder nor a delta, or its metadata is invalid.
    """
    about = read_json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    is_delta = (folder / WEIGHTS).is_file() and (folder / MANIFEST).is_file()
    if is_delta:
        config = read_json(folder / MANIFEST).get("config")
        if not isinstance(config, dict):
            raise ImportRefused(f"`config` in {MANIFEST} must be a JSON object. Export the model again.")
        try:
            manifest = read_manifest((folder / MANIFEST).read_bytes())
        except CorruptWeights as error:
            raise ImportRefused(f"{MANIFEST} can't be used: {error} Or export the model again.") from error
        size: Any = manifest.image_size
        metadata = {
            "backbone": manifest.backbone,
            "classes": list(manifest.class_names),
            **config,
            **about,
        }
    elif (folder / NETWORK).is_file() and (folder / CONFIG).is_file():
        config = read_json(folder / CONFIG)
        try:
            size = config["model_cfg"]["vision_cfg"]["image_size"]
        except (KeyError, TypeError) as error:
            raise ImportRefused(
                f"{CONFIG} lacks model_cfg.vision_cfg.image_size. Export the model again with open_clip."
            ) from error
        # The weights are already those of θ(α), so importing them at that α would mix in θ_0 twice.
        metadata = {**about, "alpha": None}
    else:
        raise ImportRefused(
            f"The archive must hold {CONFIG} and {NETWORK} (an open_clip folder; other weights, such as "
            f"pickles, are not accepted), or {MANIFEST} and {WEIGHTS} (a delta from "
            "GET /models/{id}/export?format=delta)."
        )
    if not isinstance(size, int) or not MIN_IMAGE_SIZE <= size <= MAX_IMAGE_SIZE:
        # The backbone is loaded at this size, and its position embeddings grow quadratically.
        raise ImportRefused(
            f"The image size must be a whole number of pixels from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE:,}, "
            "for a square input. Export a model with such an input."
        )
    _check_header(folder / (WEIGHTS if is_delta else NETWORK))
    prompts = {
        name: _strings(sentences) for name, sentences in (_field(metadata, "prompts", dict) or {}).items()
    }
    characters = sum(len(name) + sum(map(len, sentences)) for name, sentences in prompts.items())
    if characters > MAX_PROMPT_CHARACTERS:
        raise ImportRefused(f"The prompts have more than {MAX_PROMPT_CHARACTERS:,} characters. Use fewer.")
    return ArchiveInfo(
        is_delta=is_delta,
        backbone=_field(metadata, "backbone", str),
        image_size=size,
        alpha=_field(metadata, "alpha", (int, float)),
        classes=_strings(metadata.get("classes") or []),
        templates=_strings(metadata["templates"]) if metadata.get("templates") else None,
        prompts=prompts,
        name=_field(metadata, "name", str),
    )


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > MAX_HEADER_BYTES:
        raise ImportRefused(
            f"{path.name} is not a safetensors file, or its header has more than {MAX_HEADER_BYTES:,} bytes. "
            "Save it again with the tensors of one model."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raise ImportRefused."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ImportRefused(f"{path.name} is larger than {MAX_JSON_BYTES:,} bytes. Export the model again.")
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError) as error:
        raise ImportRefused(f"{path.name} is not valid JSON. Export the model again.") from error
    if not isinstance(content, dict):
        raise ImportRefused(f"{path.name} must hold a JSON object. Export the model again.")
    return content


def _field(metadata: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    value = metadata.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ImportRefused(f"`{name}` in {ABOUT} or {MANIFEST} has the wrong type. Correct the file.")
    return value


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImportRefused(
            f"`classes`, `templates` and `prompts` in {ABOUT} or {MANIFEST} must be lists of strings. "
            "Correct the file."
        )
    return tuple(value)
