"""CoOp: learn the words around the class name, as vectors.

K. Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, arXiv 2109.01134; the variant
that base-to-new comparisons use (K. Zhou et al., "Conditional Prompt Learning for Vision-Language
Models", CVPR 2022, arXiv 2203.05557): one context for all classes, before the name, from "a photo of a".
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Predictor, Task, Tests
from benchmarks.methods.common.training import fit, from_views, frozen_views, mixed, trainable
from core.clip.models.features import PROMPT_BATCH_SIZE, encode_images, encode_tokens

PLACEHOLDER = "X"  # one token in every tokenizer


@dataclass(frozen=True)
class CoOp:
    context: str | int = "a photo of a"
    """Initial words, or a number of random vectors (16 in the first paper's best setting)."""
    epochs: int = 200
    batch_size: int = 32
    learning_rate: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    views: int = 10
    """Number of crops per image; the original draws a new one in each epoch."""
    crop_scale: float = 0.08


RECIPES = {
    "starter": CoOp(epochs=50, learning_rate=0.2),
    "*": CoOp(),
}


class Prompts:
    """A text tower with vectors [M, E] in place of the first M words of "X X X X name."."""

    def __init__(self, task: Task, context: str | int) -> None:
        self._tokenize = task.backbone.tokenize
        self._device = task.backbone.device
        # A copy: a hook on the shared network would affect its other users.
        self._model = copy.deepcopy(task.backbone.model)
        embedding = _token_embedding(self._model)
        if isinstance(context, str):
            self.count = len(context.split())
            words = embedding(self._tokenize([f"{context} {PLACEHOLDER}."]).to(self._device))
            start = words[0, 1 : 1 + self.count].detach().clone()  # behind the start token
        else:
            self.count = context
            generator = torch.Generator().manual_seed(task.seed)
            start = 0.02 * torch.randn(context, embedding.embedding_dim, generator=generator)
        self.context = nn.Parameter(start.to(self._device))  # [M, E]
        embedding.register_forward_hook(self._put_context)

    def tokens(self, class_names: Sequence[str]) -> Tensor:
        """Return the tokens of the prompts, [C, L].

        Raises:
            ValueError: the tokenizer does not encode the placeholder as one token.
        """
        prefix = " ".join([PLACEHOLDER] * self.count)
        tokens = self._tokenize([f"{prefix} {name}." for name in class_names])
        if not (tokens[:, 1 : 1 + self.count] == tokens[0, 1]).all():
            raise ValueError(
                "CoOp needs a tokenizer with one start token before the text. Use another backbone."
            )
        return tokens.to(self._device)

    def encode(self, tokens: Tensor) -> Tensor:
        """Return normalised features [C, D]."""
        return encode_tokens(self._model, tokens)

    def _put_context(self, module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        context = self.context.expand(len(output), -1, -1)
        return torch.cat([output[:, :1], context, output[:, 1 + self.count :]], dim=1)  # [C, L, E]


@dataclass(frozen=True)
class LearnedContext:
    prompts: Prompts

    @torch.no_grad()
    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        chunks = self.prompts.tokens(class_names).split(PROMPT_BATCH_SIZE)
        head = torch.cat([self.prompts.encode(chunk) for chunk in chunks])
        return (tests.stock_features @ head.T).cpu()


def coop(task: Task, settings: CoOp | None = None) -> dict[str, Predictor]:
    """Learn the context with a frozen image tower; the crops are encoded once and templates are unused."""
    settings = settings or recipe(RECIPES, task.backbone)
    device, scale = task.backbone.device, task.backbone.logit_scale
    encode = partial(encode_images, trainable(task.backbone))
    views = frozen_views(task, encode, settings.views, settings.crop_scale, flip=True)
    prompts = Prompts(task, settings.context)
    tokens = prompts.tokens(task.class_names)
    optimizer = torch.optim.SGD(
        [prompts.context],
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        with mixed(device):
            head = prompts.encode(tokens)  # [K, D]
        return F.cross_entropy(scale * features @ head.T, labels)

    fit(
        task,
        optimizer,
        loss,
        from_views(views),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
    )
    return {"CoOp": LearnedContext(prompts)}


def _token_embedding(model: nn.Module) -> nn.Embedding:
    """Return the token embedding of open_clip's own text tower or of a Hugging Face one."""
    tower = cast(Any, getattr(model, "text", model))
    found = (
        tower.token_embedding
        if hasattr(tower, "token_embedding")
        else tower.transformer.get_input_embeddings()
    )
    return cast(nn.Embedding, found)
