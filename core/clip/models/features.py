"""Features of images and prompts, and classifier weights built from prompts."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipcite.types.images import Image
from core.clip.config import USUAL_SIDE
from core.clip.data.header import ImageLimits
from core.clip.data.images import open_image
from core.clip.data.loader import DECODERS
from core.clip.models.backbone import Backbone
from core.clip.models.device import in_parts

T = TypeVar("T")
PROMPT_BATCH_SIZE = 256
IMAGE_BATCH_SIZE = 64
USUAL_TOKENS = 16
"""Number of tokens of a prompt that is a class name in a template, rounded up."""
MAX_DIFFERENCE = 1e-5
"""Maximum difference of a normalised feature of a rewritten network from the original's (rounding order)."""
CPU_IMAGE_BATCH_SIZE = 8  # with more, glibc requests new memory from the system for each layer


def batch_rows(most: int, pixels: int) -> int:
    """Return the number of images per batch: `most`, or fewer if each has more than 224 x 224 pixels."""
    return max(1, min(most, most * USUAL_SIDE**2 // pixels))


def prompt_rows(most: int, tokens: int) -> int:
    """Return the number of prompts per batch: `most`, or fewer if they have more than USUAL_TOKENS tokens."""
    return max(1, min(most, most * USUAL_TOKENS // tokens))


def encode_images(model: nn.Module, pixels: Tensor) -> Tensor:
    """Encode [B, 3, S, S] to normalised fp32 features [B, D]. The caller sets gradients and autocast."""
    # Channels last makes convolutions on CPUs 1.7 times faster, and does not affect transformers.
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    return F.normalize(cast(Any, model).encode_image(pixels).float(), dim=-1)


def encode_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """Encode token ids [N, L] to normalised fp32 features [N, D]. The caller sets gradients and autocast."""
    if is_causal_clip(model):
        features = encode_trimmed(model, tokens, tokens.device)
    else:
        features = cast(Any, model).encode_text(tokens)
    return F.normalize(features.float(), dim=-1)


@torch.no_grad()
def find_convolutions(
    model: nn.Module, pixels: Tensor
) -> tuple[Tensor, dict[nn.Conv2d, tuple[tuple[int, ...], nn.BatchNorm2d | None]]]:
    """Encode images, and find the convolutions of the image tower.

    Returns:
        The features, and for each convolution the shape of its input and the BatchNorm2d after it, if any.
    """
    made_by: dict[int, nn.Conv2d] = {}  # id of an output → the convolution that computed it
    outputs: list[Tensor] = []  # references prevent the reuse of an id
    found: dict[nn.Conv2d, tuple[tuple[int, ...], nn.BatchNorm2d | None]] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            outputs.append(output)
            made_by[id(output)] = module
            found[module] = (tuple(inputs[0].shape), None)
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made_by:
            convolution = made_by[id(inputs[0])]
            found[convolution] = (found[convolution][0], module)

    watched = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [module.register_forward_hook(record) for module in watched]
    try:
        return encode_images(model, pixels), found
    finally:
        for hook in hooks:
            hook.remove()


def is_causal_clip(network: nn.Module) -> bool:
    """Return True for open_clip's CLIP text tower: causal attention, feature of the end token.

    The end token is the one with the largest id.
    """
    causal = isinstance(network, open_clip.CLIP) and network.attn_mask is not None
    return causal and network.text_pool_type == "argmax"


def encode_trimmed(network: Any, tokens: Tensor, device: torch.device) -> Tensor:
    """Compute CLIP.encode_text without the tokens after the end of the longest prompt.

    CLIP pads prompts to 77 tokens, and a class name uses about ten. Causal attention never looks at the rest.
    """
    ends = tokens.argmax(dim=-1)  # [N]
    length = int(ends.max()) + 1
    tokens, ends = (x.to(device, non_blocking=True) for x in (tokens[:, :length], ends))
    x = network.token_embedding(tokens)
    x = (x + network.positional_embedding[:length]).to(network.transformer.get_cast_dtype())
    x = network.ln_final(network.transformer(x, attn_mask=network.attn_mask[:length, :length]))
    x = x[torch.arange(len(x), device=x.device), ends]  # [N, D]
    project: nn.Linear | nn.Parameter | None = network.text_projection
    if project is None:
        return cast(Tensor, x)
    return cast(Tensor, project(x) if isinstance(project, nn.Linear) else x @ project)


@torch.no_grad()
def image_features(model: nn.Module, pixels: Tensor) -> Tensor:
    """Encode preprocessed images [N, 3, S, S] to normalised features [N, D], in bounded memory."""
    device = next(model.parameters()).device
    features = []
    most = CPU_IMAGE_BATCH_SIZE if device.type == "cpu" else IMAGE_BATCH_SIZE
    for chunk in pixels.split(batch_rows(most, pixels.shape[-1] ** 2)):
        features.append(in_parts(lambda part: encode_images(model, part.to(device)), chunk))
    return torch.cat(features)


@torch.no_grad()
def build_zero_shot_classifier(
    model: nn.Module,
    tokenize: Callable[[Sequence[str]], Tensor],
    prompts: Sequence[Sequence[str]],
) -> Tensor:
    """Return the zero-shot classifier weights [C, D] (CLIP's template ensemble).

    The weights of a class are the normalised mean of the normalised features of its prompts.

    Args:
        prompts: prompts of each class. A prompt that several classes share is encoded once.
    """
    device = next(model.parameters()).device
    sentences = list(dict.fromkeys(sentence for class_prompts in prompts for sentence in class_prompts))
    features = []
    for start in range(0, len(sentences), PROMPT_BATCH_SIZE):
        chunk = sentences[start : start + PROMPT_BATCH_SIZE]
        features.append(in_parts(lambda part: encode_tokens(model, part.to(device)), tokenize(chunk)))
    return classifier_from_features(torch.cat(features), sentences, prompts)


def classifier_from_features(
    features: Tensor, sentences: Sequence[str], prompts: Sequence[Sequence[str]]
) -> Tensor:
    """Return the classifier weights [C, D], given the features [S, D] of all distinct prompts.

    Args:
        sentences: the S prompts, in the order of `features`.
        prompts: prompts of each class.
    """
    row = {sentence: i for i, sentence in enumerate(sentences)}
    classifier_weights = torch.stack(
        [features[[row[s] for s in class_prompts]].mean(dim=0) for class_prompts in prompts]
    )
    return F.normalize(classifier_weights, dim=-1)


def file_features(backbone: Backbone, images: Sequence[Image], limits: ImageLimits = ImageLimits()) -> Tensor:
    """Return the stock model's features [N, D] of images. They are decoded as in the service."""
    parts = [image_features(backbone.model, pixels).cpu() for pixels in batches(backbone, images, limits)]
    return torch.cat(parts)


def batches(
    backbone: Backbone, images: Sequence[Image], limits: ImageLimits = ImageLimits()
) -> Iterator[Tensor]:
    """Yield preprocessed batches [B, 3, S, S]. Threads prepare the next batch."""

    def read(image: Image) -> Tensor:
        return backbone.preprocess(open_image(image.read(), limits, shortest_side=2 * backbone.image_size))

    return prepared_batches(read, images)


def prepared_batches(prepare: Callable[[T], Tensor], images: Sequence[T]) -> Iterator[Tensor]:
    """Yield batches [B, 3, S, S] of `prepare(image)`. Threads prepare the next batch."""
    with ThreadPoolExecutor(DECODERS) as threads:
        starts = range(0, len(images), IMAGE_BATCH_SIZE)
        parts = [[*images[start : start + IMAGE_BATCH_SIZE]] for start in starts]
        ahead = [threads.submit(prepare, image) for image in parts[0]]
        for following in [*parts[1:], []]:
            ready, ahead = ahead, [threads.submit(prepare, image) for image in following]
            yield torch.stack([future.result() for future in ready])
