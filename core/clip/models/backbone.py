"""Loading of pre-trained models through open_clip."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from clipcite.types.adapt import MAX_IMAGE_SIZE
from core.clip.config import MAX_ENLARGEMENT, STARTER, USUAL_SIDE
from core.clip.errors import BackboneUnavailable, InvalidConfig
from core.clip.models import backbones
from core.clip.models.device import allow_tf32, device_problem, find_device
from core.clip.models.open_clip_layout import CONFIG, TOWER_CONFIG, WEIGHTS, read_config
from core.clip.models.sources import LOCAL
from core.clip.models.speed import measure_speed
from core.clip.models.starter import starter_folder, starter_identity
from core.clip.models.tokenizer import make_tokenizer, masked_padding, trim_padding
from core.errors import ExpectedError

PREPROCESS_DEFAULTS: Mapping[str, Any] = asdict(PreprocessCfg())
"""open_clip's defaults for preprocessing fields that a folder omits."""
# Never trained or interpolated: the temperature of the pre-trained model, and SigLIP's bias.
FROZEN = frozenset({"logit_scale", "logit_bias"})


@dataclass(frozen=True)
class Backbone:
    """A pre-trained model with its preprocessing and tokenizer.

    The backbone is shared and must not be modified. Copy `model` to train or to interpolate.
    """

    name: str
    model: nn.Module
    """open_clip's CLIP or CustomTextCLIP in eval mode, fp32, without gradients."""
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocess: Callable[[Image.Image], Tensor]
    """The test transform: an RGB image to [3, image_size, image_size]."""
    tokenize: Callable[[Sequence[str]], Tensor]
    """N prompts to token ids [N, L]."""
    logit_scale: float
    """1/τ, the factor of the cosines. A float, because reading a GPU tensor synchronises the GPU."""
    sha256: str
    """SHA-256 of the pre-trained weights. Adapted models work only with these weights."""
    open_clip_config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Content of open_clip_config.json."""
    tokenizer: Any = field(default=None, compare=False, repr=False)
    """open_clip's tokenizer object."""
    padding: int | None = field(default=None, compare=False, repr=False)
    """Token id of padding that the text tower masks. None if padding affects the features."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def preprocess_settings(self) -> str:
        """Argument of `image_transform` that yields `preprocess`."""
        return json.dumps(self.open_clip_config["preprocess_cfg"])


def load_backbone(
    name: str,
    *,
    cache: Path,
    image_size: int | None = None,
    device: torch.device | str = "cpu",
    tf32: bool = False,
) -> Backbone:
    """Load `starter`, `Model/pretrained`, `hf-hub:organisation/name` or `local-dir:FOLDER`.

    Args:
        cache: folder for the assembled starter and for hub downloads.
        image_size: input side (pixels). None: the model's default.
        device: device of the model. `auto` selects the GPU if there is one.
        tf32: let a GPU compute fp32 in TF32, in the whole process.

    Raises:
        UnknownBackbone: the name is unknown, or the folder does not contain a backbone.
        BackboneUnavailable: the files of a known backbone are missing, damaged, unsafe or unreachable.
        InvalidConfig: the network has a fixed image size that differs from `image_size`.
    """
    device = find_device(device)
    problem = device_problem(device)
    if problem is not None:
        raise BackboneUnavailable(problem)
    if device.type == "cuda":
        allow_tf32(tf32)
    try:
        folder = _folder(name, cache)
        config = _model_config(folder, name)
        own = config["vision_cfg"].get("image_size")
        largest = MAX_ENLARGEMENT * max(own, USUAL_SIDE) if isinstance(own, int) else MAX_IMAGE_SIZE
        if image_size is not None and image_size > largest:
            detail = f"image_size must be at most {largest} for the backbone {name!r}, whose own is {own}."
            raise InvalidConfig("image_size", detail)
        model = open_clip.create_model(
            f"{LOCAL}{folder}",
            require_pretrained=True,
            pretrained_text=False,
            force_image_size=image_size,
            text_cfg=config["text_cfg"],
        )
        _check_image_size(name, model, folder / WEIGHTS)
        tokenizer = make_tokenizer(folder, config["text_cfg"])
        model = model.eval().requires_grad_(False).to(device)
    except ExpectedError:
        raise
    except Exception as error:  # open_clip, the hub and torch raise many types, from KeyError to OSError
        raise BackboneUnavailable(
            f"The backbone {name!r} can't be loaded on {device} ({type(error).__name__}). Check the device "
            "and its files: clipcite backbones verify"
        ) from error
    preprocess = open_clip.get_model_preprocess_cfg(model)
    size = preprocess["size"] if isinstance(preprocess["size"], int) else preprocess["size"][0]
    config["vision_cfg"]["image_size"] = size
    padding = masked_padding(model, tokenizer)
    return Backbone(
        name=name,
        model=model,
        image_size=size,
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        preprocess=image_transform(json.dumps(preprocess)),
        tokenize=lambda sentences: trim_padding(tokenizer(list(sentences)), padding),
        logit_scale=float(cast(Tensor, model.logit_scale).exp()),
        sha256=starter_identity(size) if name == STARTER else _identity(folder / WEIGHTS, size),
        open_clip_config={"model_cfg": config, "preprocess_cfg": preprocess},
        tokenizer=tokenizer,
        padding=padding,
    )


def _check_image_size(name: str, model: nn.Module, weights: Path) -> None:
    """Refuse an image size for which open_clip would resize a timm network's position embeddings.

    open_clip resizes them after loading the weights, so it could not load an export at the new size.

    Raises:
        InvalidConfig: the network is built for another size.
    """
    trunk: Any = getattr(model.visual, "trunk", None)
    if trunk is None:
        return
    size = cast(Any, model.visual).image_size[0]
    own_size = trunk.default_cfg["input_size"][-1]
    built_for = getattr(getattr(trunk, "patch_embed", None), "img_size", None)
    with safe_open(weights, "pt") as file:
        stored = {*file.keys()}
        resized = any(
            list(tensor.shape) != file.get_slice(key).get_shape()
            for key, tensor in model.state_dict().items()
            if key in stored and key.startswith("visual.")
        )
    if resized or (built_for is not None and built_for[0] != size):
        raise InvalidConfig(
            "image_size",
            f"The backbone {name!r} can't be used with images of {size} pixels: its network "
            f"{trunk.default_cfg['architecture']} is built for {own_size}. Leave image_size out, and set "
            f"vision_cfg.image_size to {own_size} in the backbone's {CONFIG}.",
        )


@lru_cache(maxsize=32)
def image_transform(settings: str) -> Callable[[Image.Image], Tensor]:
    """Return the test transform for the JSON fields of open_clip's PreprocessCfg."""
    return cast(
        Callable[[Image.Image], Tensor],
        image_transform_v2(PreprocessCfg(**json.loads(settings)), is_train=False),
    )


def tower_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return θ, the parameters of both towers by name. They are trained and interpolated."""
    return {name: p for name, p in model.named_parameters() if name not in FROZEN}


def with_parameters(backbone: Backbone, theta: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of the backbone's network that uses the tensors of `theta` as tower parameters.

    Buffers and `logit_scale` are copied from the backbone. The tensors of `theta` are not copied.
    """
    known: dict[int, object] = {
        id(before): nn.Parameter(theta[name].to(before.device), requires_grad=False)
        for name, before in tower_parameters(backbone.model).items()
    }
    return copy.deepcopy(backbone.model, known)


def check_installed(name: str, cache: Path, device: str = "auto") -> dict[str, Any]:
    """Load an installed backbone, and measure its training speed. Return a description.

    Its tensors must fit the architecture, and its tokenizer must work. If the backbone can't be loaded, it is
    removed.

    Raises:
        UnknownBackbone, BackboneUnavailable: the backbone cannot be loaded.
    """
    try:
        backbone = load_backbone(name, cache=cache, device=device)
        backbone.tokenize(["a photo of a dog"])
    except ExpectedError:
        backbones.remove(name, cache)
        raise
    folder, found = backbones.folder_of(name, cache), backbones.read(name, cache)
    assert found is not None
    speed = measure_speed(backbone)
    backbones.keep_speed(name, cache, speed)
    described = {"name": name, "source": found.source, "bytes": found.bytes, "sha256": backbone.sha256}
    return {**described, "folder": str(folder), **speed}


def _folder(name: str, cache: Path) -> Path:
    """Return the open_clip folder of a backbone. Install it from the hub if needed.

    Only safetensors are accepted, so nothing is unpickled.
    """
    if name == STARTER:
        return starter_folder(cache)
    if not name.startswith(LOCAL):
        return backbones.install(name, cache)
    return backbones.converted(Path(name.removeprefix(LOCAL)), cache)


def _model_config(folder: Path, name: str) -> dict[str, Any]:
    """Return open_clip's configuration of the network.

    open_clip does not resolve the reference to the shape of a Hugging Face text tower relative to the folder.
    """
    config = read_config(folder, name)["model_cfg"]
    text = config["text_cfg"]
    if "hf_model_name" in text and (folder / TOWER_CONFIG).is_file():
        text.update(hf_model_name=str(folder.absolute()), hf_model_pretrained=False)
    return cast(dict[str, Any], config)


def _identity(weights: Path, image_size: int) -> str:
    """Return the SHA-256 of the tensors in the file.

    The network's tensors are unsuitable: resized position embeddings differ between CPUs in their last bits.
    """
    digest = hashlib.sha256(f"image_size {image_size};".encode())
    for name, tensor in sorted(load_file(weights).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
