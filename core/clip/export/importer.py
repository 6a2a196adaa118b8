"""A network that somebody else has fine-tuned, as the change of a backbone that is here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from core.clip.config import DeltaFormat
from core.clip.errors import CorruptWeights
from core.clip.export.open_clip_folder import ABOUT, CONFIG, relocated
from core.clip.export.open_clip_folder import WEIGHTS as NETWORK
from core.clip.models.backbone import PREPROCESS_DEFAULTS, Backbone, tower_parameters
from core.clip.weights.delta import encode
from core.clip.weights.files import FLOATS, Weights, load_weights
from core.clip.weights.manifest import MANIFEST, WEIGHTS, read_manifest
from core.clip.weights.support_set import SUPPORT_ALPHAS, SupportSet
from core.errors import ClipCiteError

NEARLY = 1e-3
"""What is not trained may differ by so much: a copy in half precision does."""
MAX_JSON_BYTES = 10_000_000
WANTED = (NETWORK, CONFIG, ABOUT, WEIGHTS, MANIFEST)
"""The files that an import looks at; no other is opened."""


class ImportRefused(ClipCiteError):
    code = "import_refused"
    status = 422


@dataclass(frozen=True)
class ArchiveInfo:
    """What an archive says of itself, before any tensor is read."""

    is_delta: bool
    backbone: str | None
    image_size: int | None
    alpha: float | None
    classes: tuple[str, ...]
    templates: tuple[str, ...] | None
    prompts: Mapping[str, tuple[str, ...]]
    name: str | None


def inspect_folder(folder: Path) -> ArchiveInfo:
    """Raises ImportRefused: neither an open_clip folder nor a delta, or its words can't be read."""
    about = _json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    is_delta = (folder / WEIGHTS).is_file() and (folder / MANIFEST).is_file()
    if is_delta:
        config = _json(folder / MANIFEST).get("config")
        if not isinstance(config, dict):
            raise ImportRefused(f"config in {MANIFEST} must be a JSON object. Export the model again.")
        try:
            manifest = read_manifest((folder / MANIFEST).read_bytes())
        except CorruptWeights as error:
            raise ImportRefused(f"{MANIFEST} can't be used: {error} Or export the model again.") from error
        size: Any = manifest.image_size
        told = {
            "backbone": manifest.backbone,
            "classes": list(manifest.class_names),
            **config,
            **about,
        }
    elif (folder / NETWORK).is_file() and (folder / CONFIG).is_file():
        config = _json(folder / CONFIG)
        try:
            size = config["model_cfg"]["vision_cfg"]["image_size"]
        except (KeyError, TypeError) as error:
            raise ImportRefused(f"{CONFIG} does not say model_cfg.vision_cfg.image_size.") from error
        told = about
    else:
        raise ImportRefused(
            f"The archive must hold {CONFIG} and {NETWORK} (an open_clip folder; weights of other kinds, "
            f"pickles above all, are not read), or {MANIFEST} and {WEIGHTS} (a delta, from "
            "GET /models/{id}/export?format=delta)."
        )
    if not isinstance(size, int) or not 16 <= size <= 4096:
        raise ImportRefused("The image size must be a whole number of pixels; only square images are known.")
    return ArchiveInfo(
        is_delta=is_delta,
        backbone=_told(told, "backbone", str),
        image_size=size,
        alpha=_told(told, "alpha", (int, float)),
        classes=_strings(told.get("classes") or []),
        templates=_strings(told["templates"]) if told.get("templates") else None,
        prompts={name: _strings(prompts) for name, prompts in (_told(told, "prompts", dict) or {}).items()},
        name=_told(told, "name", str),
    )


def read_weights(
    folder: Path, found: ArchiveInfo, backbone: Backbone, kind: DeltaFormat, *, classes: int
) -> Weights:
    """Everything checked, on the CPU.

    Args:
        kind: how the change of an open_clip folder is kept; a delta stays as it is.
        classes: how many the model was trained on.

    Raises:
        ImportRefused: it is of another network, or a tensor is missing, of another shape or not finite.
    """
    if found.is_delta:
        weights = _delta(folder, backbone)
        theta = weights.theta(tower_parameters(backbone.model), 1.0)
    else:
        theta = _theta_of(folder, backbone)
        weights = Weights(encode(tower_parameters(backbone.model), theta, kind))
    damaged = next((name for name, tensor in theta.items() if not torch.isfinite(tensor).all()), None)
    if damaged is not None:
        raise ImportRefused(f"The weights are not finite (in {damaged}); export the model again.")
    _check_shots(weights.shots, classes, backbone)
    return weights


def _delta(folder: Path, backbone: Backbone) -> Weights:
    manifest = read_manifest((folder / MANIFEST).read_bytes())
    if manifest.backbone_sha256 != backbone.sha256:
        raise ImportRefused(
            f"The delta was made from other weights of {manifest.backbone!r:.80} than those of "
            f"{backbone.name!r} here. Name the right one in the field `backbone`, or bring a folder."
        )
    try:
        return load_weights((folder / WEIGHTS).read_bytes(), manifest, backbone)
    except CorruptWeights as error:
        raise ImportRefused(f"{WEIGHTS} can't be used: {error} Or export the model again.") from error


def _theta_of(folder: Path, backbone: Backbone) -> dict[str, Tensor]:
    """The tower parameters of an open_clip folder, in fp32. What else a network holds must be the
    backbone's, since only those are kept."""
    _check_config(_json(folder / CONFIG), backbone)
    try:
        given = load_file(folder / NETWORK)
    except (SafetensorError, KeyError) as error:  # a type that torch does not have
        raise ImportRefused(f"{NETWORK} is not a safetensors file; write it again.") from error
    own = backbone.model.state_dict()
    odd = sorted((own.keys() ^ given.keys()) - _not_missed(own))
    odd += [name for name in own.keys() & given.keys() if own[name].numel() != given[name].numel()]
    odd += [
        name
        for name in own.keys() & given.keys()
        if (given[name].dtype in FLOATS) != own[name].is_floating_point()
    ]
    if odd:
        raise ImportRefused(
            f"The network is another one than {backbone.name!r}: {len(odd)} tensors are missing, too many or "
            f"of another shape or type, {odd[0]!r} for example. Name the right one in the field `backbone`."
        )
    theta_0 = tower_parameters(backbone.model)
    for name in own.keys() & given.keys() - theta_0.keys():
        before, after = own[name].cpu().float(), given[name].float().view(own[name].shape)
        if name.endswith("num_batches_tracked"):
            continue
        if not torch.allclose(before, after, rtol=NEARLY, atol=NEARLY):
            raise ImportRefused(
                f"{name!r} is not the backbone's, but only the weights of both towers may be other ones: "
                "temperature, bias and statistics of normalisations are not kept with a model."
            )
    wrong = next((name for name in theta_0 if given[name].shape != theta_0[name].shape), None)
    if wrong is not None:
        shape = tuple(theta_0[wrong].shape)
        raise ImportRefused(f"{wrong!r} has the shape {tuple(given[wrong].shape)}, the backbone's {shape}.")
    return {name: given[name].float() for name in theta_0}


def _check_config(config: Mapping[str, Any], backbone: Backbone) -> None:
    """The same tensors can mean another function: a QuickGELU, another pooling, another mean."""
    try:
        given, own = _comparable(config), _comparable(backbone.open_clip_config)
    except (KeyError, TypeError, AttributeError) as error:
        raise ImportRefused(
            f"{CONFIG} must hold model_cfg and preprocess_cfg, as open_clip writes it."
        ) from error
    for path in sorted(given.keys() | own.keys()):
        if given.get(path) != own.get(path):
            raise ImportRefused(
                f"{CONFIG} says {path} = {given.get(path)!r:.60}, the backbone {backbone.name!r} has "
                f"{own.get(path)!r:.60}. Name the right backbone in the field `backbone`."
            )


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """`part.field` → value, without what does not change the function and what is merely the default."""
    found = relocated(config)
    model, preprocess = found["model_cfg"], found["preprocess_cfg"]
    flat = {
        f"{part}.{key}": value for part in ("vision_cfg", "text_cfg") for key, value in model[part].items()
    }
    flat["embed_dim"] = model["embed_dim"]
    flat["quick_gelu"] = bool(model.get("quick_gelu"))
    for key in ("mean", "std", "interpolation", "resize_mode"):
        value = preprocess.get(key) or PREPROCESS_DEFAULTS[key]
        flat[f"preprocess.{key}"] = list(value) if isinstance(value, (list, tuple)) else value
    return flat


def _not_missed(own: Mapping[str, Tensor]) -> set[str]:
    """Buffers that are the same in every network, and that some versions write and others do not."""
    return {name for name in own if name.endswith(("attn_mask", "position_ids", "num_batches_tracked"))}


def _check_shots(shots: SupportSet | None, classes: int, backbone: Backbone) -> None:
    if shots is None:
        return
    width = int(backbone.open_clip_config["model_cfg"]["embed_dim"])
    fits = (
        shots.features.dim() == 3
        and shots.features.shape[0] == len(SUPPORT_ALPHAS)
        and shots.features.shape[2] == width
        and shots.features.is_floating_point()
        and shots.labels.dtype == torch.int64
        and shots.labels.shape == shots.features.shape[1:2]
    )
    if not fits or (
        len(shots.labels) and not 0 <= int(shots.labels.min()) <= int(shots.labels.max()) < classes
    ):
        raise ImportRefused(
            f"The kept shots in {WEIGHTS} don't fit the model's classes; export the model again."
        )


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ImportRefused(f"{path.name} is larger than {MAX_JSON_BYTES:,} bytes.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImportRefused(f"{path.name} is not valid JSON.") from error
    if not isinstance(content, dict):
        raise ImportRefused(f"{path.name} must hold a JSON object.")
    return content


def _told(told: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    value = told.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ImportRefused(f"{name} in {ABOUT} or {MANIFEST} is of the wrong type.")
    return value


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImportRefused(
            f"classes, templates and prompts in {ABOUT} or {MANIFEST} must be lists of prompts."
        )
    return tuple(value)
