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
from safetensors.torch import load_file
from torch import Tensor, nn

from core.clip.config import STARTER
from core.clip.errors import BackboneUnavailable, UnknownBackbone
from core.clip.models.starter import starter_folder, starter_identity
from core.errors import ClipCiteError

PREPROCESS_DEFAULTS: Mapping[str, Any] = asdict(PreprocessCfg())
"""open_clip's defaults for preprocessing fields that a folder omits."""
LOCAL = "local-dir:"
HUB = "hf-hub:"
# Never trained and never interpolated: temperature of the pre-trained model, and SigLIP's bias.
FROZEN = frozenset({"logit_scale", "logit_bias"})


@dataclass(frozen=True)
class Backbone:
    """A pre-trained model with its preprocessing and tokenizer.

    The backbone is shared and must not be modified; copy `model` to train or to interpolate.
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
    """SHA-256 of the pre-trained weights, to which adapted models are bound."""
    open_clip_config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Content of open_clip_config.json."""
    tokenizer: Any = field(default=None, compare=False, repr=False)
    """open_clip's tokenizer object."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def preprocess_settings(self) -> str:
        """Argument of `image_transform` that yields `preprocess`."""
        return json.dumps(self.open_clip_config["preprocess_cfg"])


def find_device(device: torch.device | str) -> torch.device:
    """Resolve `auto` to the GPU if there is one, else to the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def load_backbone(
    name: str, *, cache: Path, image_size: int | None = None, device: torch.device | str = "cpu"
) -> Backbone:
    """Load `starter`, `Model/pretrained`, `hf-hub:organisation/name` or `local-dir:FOLDER`.

    Args:
        cache: folder for the assembled starter and for hub downloads.
        image_size: input side (pixels); None = the model's default.
        device: `auto` selects the GPU if there is one.

    Raises:
        UnknownBackbone: there is no such name, or the folder is not an open_clip folder.
        BackboneUnavailable: the files of a known backbone are missing, damaged, unsafe or out of reach.
    """
    device = find_device(device)
    try:
        identifier = f"{LOCAL}{starter_folder(cache)}" if name == STARTER else name
        source = _locate(identifier, cache)
        model = open_clip.create_model(
            source.architecture,
            pretrained=source.tag,
            require_pretrained=True,
            pretrained_text=False,
            force_quick_gelu=source.quick_gelu,
            force_image_size=image_size,
            cache_dir=str(cache),
        )
        tokenizer = _tokenizer(source.architecture, str(cache))
        model = model.eval().requires_grad_(False).to(device)
    except ClipCiteError:
        raise
    except Exception as error:  # open_clip, the hub and torch raise many types, from KeyError to OSError
        raise BackboneUnavailable(
            f"The backbone {name!r} can't be loaded on {device} ({type(error).__name__}). Check its files, "
            "the device, that the cache is writable and, for a hub name, that the hub is reachable."
        ) from error
    preprocess = open_clip.get_model_preprocess_cfg(model)
    size = preprocess["size"] if isinstance(preprocess["size"], int) else preprocess["size"][0]
    return Backbone(
        name=name,
        model=model,
        image_size=size,
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        preprocess=image_transform(json.dumps(preprocess)),
        tokenize=lambda sentences: trim_padding(tokenizer(list(sentences)), tokenizer),
        logit_scale=float(cast(Tensor, model.logit_scale).exp()),
        sha256=starter_identity(size) if name == STARTER else _identity(source.weights, size),
        open_clip_config={"model_cfg": _architecture(source, size), "preprocess_cfg": preprocess},
        tokenizer=tokenizer,
    )


@lru_cache(maxsize=32)
def image_transform(settings: str) -> Callable[[Image.Image], Tensor]:
    """Return the test transform for the JSON fields of open_clip's PreprocessCfg."""
    return cast(
        Callable[[Image.Image], Tensor],
        image_transform_v2(PreprocessCfg(**json.loads(settings)), is_train=False),
    )


def load_tokenizer(name: str, *, cache: Path) -> Callable[[list[str]], Tensor]:
    """Return the tokenizer of a backbone without loading its network: N prompts to padded ids [N, L].

    A loaded backbone has the same tokenizer object.

    Raises:
        BackboneUnavailable: the files are missing, damaged or out of reach.
    """
    try:
        if name == STARTER:
            return _tokenizer(f"{LOCAL}{starter_folder(cache)}", str(cache))
        return _tokenizer(name if name.startswith((LOCAL, HUB)) else name.partition("/")[0], str(cache))
    except ClipCiteError:
        raise
    except Exception as error:  # as in load_backbone
        raise BackboneUnavailable(
            f"The tokenizer of the backbone {name!r} can't be loaded ({type(error).__name__}). Check its "
            "files and, for a hub name, that the hub is reachable."
        ) from error


def trim_padding(tokens: Tensor, tokenizer: Any) -> Tensor:
    """Cut off padding that no prompt of the call needs.

    Hugging Face text towers mask padding, so the features stay the same at a fifth of the cost. Tokens of
    other towers are returned unchanged.
    """
    if not isinstance(tokenizer, open_clip.tokenizer.HFTokenizer):
        return tokens
    used = tokens.ne(tokenizer.tokenizer.pad_token_id).any(dim=0).nonzero()
    return tokens[:, : int(used.max()) + 1]


@lru_cache(maxsize=8)
def _tokenizer(architecture: str, cache: str) -> Callable[[list[str]], Tensor]:
    return cast(Callable[[list[str]], Tensor], open_clip.get_tokenizer(architecture, cache_dir=cache))


def tower_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return θ: the parameters of both towers by name, which are trained and interpolated."""
    return {name: p for name, p in model.named_parameters() if name not in FROZEN}


def with_parameters(backbone: Backbone, theta: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of the backbone's network that uses the tensors of `theta` as tower parameters.

    Buffers and `logit_scale` are copied from the backbone; the tensors of `theta` are not copied.
    """
    known: dict[int, object] = {
        id(before): nn.Parameter(theta[name].to(before.device), requires_grad=False)
        for name, before in tower_parameters(backbone.model).items()
    }
    return copy.deepcopy(backbone.model, known)


@dataclass(frozen=True)
class _Source:
    """Architecture and weights file of a backbone."""

    architecture: str
    """Name of the architecture in open_clip."""
    tag: str | None
    quick_gelu: bool
    weights: Path


def _locate(identifier: str, cache: Path) -> _Source:
    """Locate a backbone, and download its weights if needed.

    Only safetensors are accepted, so nothing is unpickled.
    """
    if identifier.startswith(LOCAL):
        folder = Path(identifier.removeprefix(LOCAL))
        weights = folder / "open_clip_model.safetensors"
        if not (folder / "open_clip_config.json").is_file() or not weights.is_file():
            raise UnknownBackbone(
                f"{identifier!r} is not an open_clip folder: it must hold open_clip_config.json and "
                "open_clip_model.safetensors."
            )
        return _Source(identifier, None, False, weights)
    if identifier.startswith(HUB):
        weights = _download(identifier, {"hf_hub": f"{identifier.removeprefix(HUB)}/"}, cache)
        return _Source(identifier, None, False, weights)
    architecture, _, tag = identifier.partition("/")
    entry = open_clip.get_pretrained_cfg(architecture, tag) if tag else None
    if not entry or open_clip.get_model_config(architecture) is None:
        raise UnknownBackbone(
            f"There is no backbone {identifier!r}. Use {STARTER!r}, Model/pretrained as open_clip lists "
            f"them (for example ViT-B-16/openai), {HUB}organisation/name or {LOCAL}FOLDER."
        )
    weights = _download(identifier, entry, cache)
    # OpenAI's weights were trained with QuickGELU; without this flag open_clip only warns.
    return _Source(architecture, tag, bool(entry.get("quick_gelu")), weights)


def _architecture(source: _Source, image_size: int) -> dict[str, Any]:
    """Return open_clip's configuration of the network, with image size and QuickGELU applied."""
    if source.architecture.startswith((LOCAL, HUB)):
        beside = json.loads((source.weights.parent / "open_clip_config.json").read_text(encoding="utf-8"))
        config = beside.get("model_cfg", beside)
    else:
        config = open_clip.get_model_config(source.architecture)
    if source.quick_gelu:
        config["quick_gelu"] = True
    config["vision_cfg"]["image_size"] = image_size
    return cast(dict[str, Any], config)


def _download(name: str, entry: dict[str, object], cache: Path) -> Path:
    """Download the weights into the cache, where open_clip finds them."""
    try:
        weights = Path(open_clip.download_pretrained(entry, prefer_hf_hub=True, cache_dir=str(cache)))
    except Exception as error:
        raise BackboneUnavailable(
            f"The weights of {name!r} can't be downloaded ({type(error).__name__}). The first use needs "
            "access to the model hub; later uses read the cache."
        ) from error
    if weights.suffix != ".safetensors":
        raise BackboneUnavailable(
            f"The weights of {name!r} are only available as {weights.name}. For safety only safetensors "
            "files are loaded; choose another backbone."
        )
    return weights


def _identity(weights: Path, image_size: int) -> str:
    """Return the SHA-256 of the tensors in the file.

    The network's tensors would not do: position embeddings resized to another image size differ in their
    last bits between CPUs.
    """
    digest = hashlib.sha256(f"image_size {image_size};".encode())
    for name, tensor in sorted(load_file(weights).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
