"""Pre-trained networks, through open_clip."""

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
"""What open_clip takes where a folder does not say."""
LOCAL = "local-dir:"
HUB = "hf-hub:"
# Never trained and never ensembled: the temperature of the pre-trained network (and SigLIP's bias).
FROZEN = frozenset({"logit_scale", "logit_bias"})


@dataclass(frozen=True)
class Backbone:
    """A pre-trained network with what belongs to it. Shared between users, so nobody changes it:
    to train or to ensemble, copy `model`."""

    name: str
    model: nn.Module
    """open_clip's CLIP or CustomTextCLIP in eval mode, gradients off, fp32."""
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocess: Callable[[Image.Image], Tensor]
    """The test transform: an RGB image to [3, image_size, image_size]."""
    tokenize: Callable[[Sequence[str]], Tensor]
    """N sentences to token ids [N, L]."""
    logit_scale: float
    """1/τ: the factor of the cosines. A number, since reading a tensor on a GPU waits for its queue."""
    sha256: str
    """Of what the network was made from: what an adapted model is bound to."""
    open_clip_config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """As open_clip_config.json has it: what a copy of this network is made by."""
    tokenizer: Any = field(default=None, compare=False, repr=False)
    """open_clip's own."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def preprocess_settings(self) -> str:
        """For `image_transform`, which makes `preprocess` of them."""
        return json.dumps(self.open_clip_config["preprocess_cfg"])


def find_device(device: torch.device | str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def load_backbone(
    name: str, *, cache: Path, image_size: int | None = None, device: torch.device | str = "cpu"
) -> Backbone:
    """Load `starter`, `Model/pretrained`, `hf-hub:organisation/name` or `local-dir:FOLDER`.

    Args:
        cache: where the starter is assembled and hub downloads are kept.
        image_size: side of the input; None takes the network's own.
        device: `auto` is the GPU where there is one.

    Raises:
        UnknownBackbone: no such name, or the folder is not an open_clip folder.
        BackboneUnavailable: known, but the files are missing, damaged, unsafe or out of reach.
    """
    device = find_device(device)
    try:
        identifier = f"{LOCAL}{starter_folder(cache)}" if name == STARTER else name
        found = _find(identifier, cache)
        model = open_clip.create_model(
            found.architecture,
            pretrained=found.tag,
            require_pretrained=True,
            pretrained_text=False,
            force_quick_gelu=found.quick_gelu,
            force_image_size=image_size,
            cache_dir=str(cache),
        )
        tokenizer = _tokenizer(found.architecture, str(cache))
        model = model.eval().requires_grad_(False).to(device)
    except ClipCiteError:
        raise
    except Exception as error:  # open_clip, the hub and torch raise everything from KeyError to OSError
        raise BackboneUnavailable(
            f"The backbone {name!r} could not be loaded on {device} ({type(error).__name__}). Check its "
            "files, the device, that the cache can be written, and for a hub name that the hub is there."
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
        sha256=starter_identity(size) if name == STARTER else _identity(found.weights, size),
        open_clip_config={"model_cfg": _architecture(found, size), "preprocess_cfg": preprocess},
        tokenizer=tokenizer,
    )


@lru_cache(maxsize=32)
def image_transform(settings: str) -> Callable[[Image.Image], Tensor]:
    """The test transform of these settings, a JSON object with the fields of open_clip's PreprocessCfg."""
    return cast(
        Callable[[Image.Image], Tensor],
        image_transform_v2(PreprocessCfg(**json.loads(settings)), is_train=False),
    )


def load_tokenizer(name: str, *, cache: Path) -> Callable[[list[str]], Tensor]:
    """Return the tokenizer of a backbone, without the network: N sentences to token ids [N, L], padded. It is
    the one of the backbone, if that is loaded.

    Raises BackboneUnavailable.
    """
    try:
        if name == STARTER:
            return _tokenizer(f"{LOCAL}{starter_folder(cache)}", str(cache))
        return _tokenizer(name if name.startswith((LOCAL, HUB)) else name.partition("/")[0], str(cache))
    except ClipCiteError:
        raise
    except Exception as error:  # as in load_backbone
        raise BackboneUnavailable(
            f"The tokenizer of the backbone {name!r} could not be loaded ({type(error).__name__}). Check its "
            "files, and for a hub name that the hub is there."
        ) from error


def trim_padding(tokens: Tensor, tokenizer: Any) -> Tensor:
    """Cut the padding that no sentence of the call needs, where the text tower masks it anyway
    (Hugging Face towers): same features, a fifth of the work."""
    if not isinstance(tokenizer, open_clip.tokenizer.HFTokenizer):
        return tokens
    used = tokens.ne(tokenizer.tokenizer.pad_token_id).any(dim=0).nonzero()
    return tokens[:, : int(used.max()) + 1]


@lru_cache(maxsize=8)
def _tokenizer(architecture: str, cache: str) -> Callable[[list[str]], Tensor]:
    return cast(Callable[[list[str]], Tensor], open_clip.get_tokenizer(architecture, cache_dir=cache))


def tower_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """θ: the parameters of both towers by name, what is trained and ensembled."""
    return {name: p for name, p in model.named_parameters() if name not in FROZEN}


def with_parameters(backbone: Backbone, theta: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the backbone's network with these tensors, not copies of them, as tower parameters;
    buffers and `logit_scale` are copies of the backbone's."""
    known: dict[int, object] = {
        id(before): nn.Parameter(theta[name].to(before.device), requires_grad=False)
        for name, before in tower_parameters(backbone.model).items()
    }
    return copy.deepcopy(backbone.model, known)


@dataclass(frozen=True)
class _Found:
    architecture: str
    """As open_clip names it."""
    tag: str | None
    quick_gelu: bool
    weights: Path


def _find(identifier: str, cache: Path) -> _Found:
    """Where a backbone's parts are, once it is sure that the weights are at hand and safetensors:
    nothing else is loaded, so nothing is unpickled."""
    if identifier.startswith(LOCAL):
        folder = Path(identifier.removeprefix(LOCAL))
        weights = folder / "open_clip_model.safetensors"
        if not (folder / "open_clip_config.json").is_file() or not weights.is_file():
            raise UnknownBackbone(
                f"{identifier!r} is not an open_clip folder: it must hold open_clip_config.json and "
                "open_clip_model.safetensors."
            )
        return _Found(identifier, None, False, weights)
    if identifier.startswith(HUB):
        weights = _download(identifier, {"hf_hub": f"{identifier.removeprefix(HUB)}/"}, cache)
        return _Found(identifier, None, False, weights)
    architecture, _, tag = identifier.partition("/")
    entry = open_clip.get_pretrained_cfg(architecture, tag) if tag else None
    if not entry or open_clip.get_model_config(architecture) is None:
        raise UnknownBackbone(
            f"There is no backbone {identifier!r}. Use {STARTER!r}, Model/pretrained as open_clip lists "
            f"them (for example ViT-B-16/openai), {HUB}organisation/name or {LOCAL}FOLDER."
        )
    weights = _download(identifier, entry, cache)
    # OpenAI's weights were trained with QuickGELU; open_clip only warns when that is forgotten.
    return _Found(architecture, tag, bool(entry.get("quick_gelu")), weights)


def _architecture(found: _Found, image_size: int) -> dict[str, Any]:
    """open_clip's description of the network, with what was asked for beyond its name."""
    if found.architecture.startswith((LOCAL, HUB)):
        beside = json.loads((found.weights.parent / "open_clip_config.json").read_text(encoding="utf-8"))
        config = beside.get("model_cfg", beside)
    else:
        config = open_clip.get_model_config(found.architecture)
    if found.quick_gelu:
        config["quick_gelu"] = True
    config["vision_cfg"]["image_size"] = image_size
    return cast(dict[str, Any], config)


def _download(name: str, entry: dict[str, object], cache: Path) -> Path:
    """Bring the weights into the cache, as open_clip will look for them."""
    try:
        weights = Path(open_clip.download_pretrained(entry, prefer_hf_hub=True, cache_dir=str(cache)))
    except Exception as error:
        raise BackboneUnavailable(
            f"The weights of {name!r} could not be fetched ({type(error).__name__}). The first use needs the "
            "model hub; afterwards they are in the cache."
        ) from error
    if weights.suffix != ".safetensors":
        raise BackboneUnavailable(
            f"The weights of {name!r} are only there as {weights.name}; nothing but safetensors is loaded."
        )
    return weights


def _identity(weights: Path, image_size: int) -> str:
    """Over the file's tensors, not the network's: position embeddings that were scaled to another
    image size differ in their last bits from one CPU to the next."""
    digest = hashlib.sha256(f"image_size {image_size};".encode())
    for name, tensor in sorted(load_file(weights).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
