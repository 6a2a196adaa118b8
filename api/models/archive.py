"""Archives with a model that was trained elsewhere: their metadata, and then their weights."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from clipcite.types.adapt import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE, DeltaFormat
from clipcite.types.problems import ProblemAction
from core.clip.config import MAX_SUPPORT_SHOTS
from core.clip.errors import CorruptWeights
from core.clip.export.open_clip_folder import ABOUT, CONFIG, relocated
from core.clip.export.open_clip_folder import WEIGHTS as NETWORK
from core.clip.models.backbone import PREPROCESS_DEFAULTS, Backbone, tower_parameters
from core.clip.weights.delta import encode, tensor_layout
from core.clip.weights.files import FLOATS, SHOT_LABELS, SHOTS, Weights, load_weights
from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest
from core.clip.weights.support_set import SUPPORT_ALPHAS
from core.errors import ExpectedError

MAX_JSON_BYTES = 4_000_000
"""Maximum size of a JSON file (bytes). The longest class names and prompts need a fraction of it."""
MAX_HEADER_BYTES = 2_000_000
"""Maximum size of a safetensors header (bytes). A tensor takes 60 of them or more, and far more memory."""
MAX_PROMPT_CHARACTERS = 1_000_000
"""Maximum size of all prompts (characters), as in a training. A list of models has the prompts of each."""
WANTED = (NETWORK, CONFIG, ABOUT, WEIGHTS, MANIFEST)
"""The files that an import reads. It never opens other files."""
MISFIT = f"The support set in {WEIGHTS} does not match the model's classes. Export the model again."
TOLERANCE = 1e-3
"""Tolerance for untrained tensors, whose copies may be in half precision."""


class ImportRefused(ExpectedError):
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
        # The weights are already θ(α), so importing them at that α would mix in θ_0 twice.
        metadata = {**about, "alpha": None}
    else:
        raise ImportRefused(
            f"The archive must hold {CONFIG} and {NETWORK} (an open_clip folder; other weights, such as "
            f"pickles, are not accepted), or {MANIFEST} and {WEIGHTS} (a delta from ",
            ProblemAction.of("GET /models/{model_id}/export", format="delta"),
            ").",
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


def read_weights(
    folder: Path, info: ArchiveInfo, backbone: Backbone, kind: DeltaFormat, *, classes: int
) -> Weights:
    """Load and verify the weights of an archive, on the CPU.

    Args:
        kind: delta format for the weights of an open_clip folder. A delta keeps its format.
        classes: number of trained classes.

    Raises:
        ImportRefused: the archive contains another network, or a tensor is missing, has another shape or is
            not finite.
    """
    if info.is_delta:
        return _delta(folder, backbone, classes)
    theta = _theta_of(folder, backbone)
    damaged = next((name for name, tensor in theta.items() if not torch.isfinite(tensor).all()), None)
    if damaged is not None:
        raise ImportRefused(f"The weights are not finite (in {damaged}); export the model again.")
    return Weights(encode(tower_parameters(backbone.model), theta, kind))


def _delta(folder: Path, backbone: Backbone, classes: int) -> Weights:
    manifest = read_manifest((folder / MANIFEST).read_bytes())
    if manifest.backbone_sha256 != backbone.sha256:
        raise ImportRefused(
            f"The delta was made from other weights of {manifest.backbone!r:.80} than those of "
            f"{backbone.name!r} here. Set the field `backbone` to the matching backbone, or import an "
            "open_clip folder."
        )
    # Check shapes first, so that nothing larger than such a delta is read.
    shapes = _shapes(folder / WEIGHTS)
    support = {name: shapes.pop(name) for name in (SHOTS, SHOT_LABELS) if name in shapes}
    layout = tensor_layout(tower_parameters(backbone.model), manifest.delta_format)
    if shapes != {name: shape for name, (_, shape) in layout.items()}:
        raise ImportRefused(f"{WEIGHTS} does not fit the backbone's tensors. Export the model again.")
    count = math.prod(support.get(SHOT_LABELS, ()))
    width = backbone.open_clip_config["model_cfg"]["embed_dim"]
    fitting = {SHOTS: (len(SUPPORT_ALPHAS), count, width), SHOT_LABELS: (count,)}
    if support and (support != fitting or not 1 <= count <= max(MAX_SUPPORT_SHOTS, classes)):
        raise ImportRefused(MISFIT)
    try:
        weights = load_weights((folder / WEIGHTS).read_bytes(), manifest, backbone)
    except CorruptWeights as error:
        raise ImportRefused(f"{WEIGHTS} can't be used: {error} Or export the model again.") from error
    if weights.shots is not None:
        labels = weights.shots.labels
        if labels.dtype != torch.int64 or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ImportRefused(MISFIT)
    return weights


def _theta_of(folder: Path, backbone: Backbone) -> dict[str, Tensor]:
    """Return the tower parameters of an open_clip folder, in fp32.

    All other tensors must equal the backbone's, because only the tower parameters are stored.
    """
    _check_config(read_json(folder / CONFIG), backbone)
    own = backbone.model.state_dict()
    shapes = _shapes(folder / NETWORK)
    constant = ("attn_mask", "position_ids", "num_batches_tracked")  # saved by some versions of open_clip
    odd = sorted((own.keys() ^ shapes.keys()) - {name for name in own if name.endswith(constant)})
    odd += [name for name in own.keys() & shapes.keys() if own[name].numel() != math.prod(shapes[name])]
    loaded: dict[str, Tensor] = {}
    if not odd:  # so that nothing larger than the backbone is read
        try:
            loaded = load_file(folder / NETWORK)
        except (SafetensorError, KeyError) as error:  # KeyError: a type that torch does not have
            raise ImportRefused(f"{NETWORK} is not a safetensors file. Save it again.") from error
        odd += [
            name
            for name in own.keys() & loaded.keys()
            if (loaded[name].dtype in FLOATS) != own[name].is_floating_point()
        ]
    if odd:
        raise ImportRefused(
            f"The weights don't match {backbone.name!r}: {len(odd)} tensors are missing, unexpected or of "
            f"another shape or type, for example {odd[0]!r}. Set the field `backbone` to the matching "
            "backbone."
        )
    theta_0 = tower_parameters(backbone.model)
    for name in own.keys() & loaded.keys() - theta_0.keys():
        before, after = own[name].cpu().float(), loaded[name].float().view(own[name].shape)
        if name.endswith("num_batches_tracked"):
            continue
        if not torch.allclose(before, after, rtol=TOLERANCE, atol=TOLERANCE):
            raise ImportRefused(
                f"{name!r} differs from the backbone's. Only tower weights are stored with a model, so "
                "temperature, bias and normalisation statistics must equal the backbone's."
            )
    wrong = next((name for name in theta_0 if loaded[name].shape != theta_0[name].shape), None)
    if wrong is not None:
        raise ImportRefused(
            f"{wrong!r} has the shape {tuple(loaded[wrong].shape)}, but the backbone's has the shape "
            f"{tuple(theta_0[wrong].shape)}. Set the field `backbone` to the matching backbone."
        )
    return {name: loaded[name].float() for name in theta_0}


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors by name, without reading a tensor."""
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        raise ImportRefused(f"{path.name} is not a safetensors file. Save it again.") from error


def _check_config(config: Mapping[str, Any], backbone: Backbone) -> None:
    """Reject another activation, pooling or mean: with it, equal tensors compute something else."""
    try:
        theirs, own = _comparable(config), _comparable(backbone.open_clip_config)
    except (KeyError, TypeError, AttributeError) as error:
        raise ImportRefused(
            f"{CONFIG} must hold model_cfg and preprocess_cfg. Export the model again with open_clip."
        ) from error
    for path in sorted(theirs.keys() | own.keys()):
        if theirs.get(path) != own.get(path):
            raise ImportRefused(
                f"{CONFIG} has {path} = {theirs.get(path)!r:.60}, but the backbone {backbone.name!r} has "
                f"{own.get(path)!r:.60}. Set the field `backbone` to the matching backbone."
            )


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that affect the function, as `part.field` → value, with defaults filled in."""
    portable = relocated(config)
    model, preprocess = portable["model_cfg"], portable["preprocess_cfg"]
    flat = {
        f"{part}.{key}": value for part in ("vision_cfg", "text_cfg") for key, value in model[part].items()
    }
    flat["embed_dim"] = model["embed_dim"]
    flat["quick_gelu"] = bool(model.get("quick_gelu"))
    for key in ("mean", "std", "interpolation", "resize_mode"):
        value = preprocess.get(key) or PREPROCESS_DEFAULTS[key]
        flat[f"preprocess.{key}"] = list(value) if isinstance(value, (list, tuple)) else value
    return flat
