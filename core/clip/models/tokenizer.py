"""Tokenizers of backbones. Reading them from their folders never runs code of a folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from torch import Tensor, nn

Tokenize = Callable[[list[str]], Tensor]
MAX_WORDS, MAX_WORD_LENGTH = 50_000, 50
"""Limits of a tokenizer's cache: number of words, and characters per word."""


def make_tokenizer(folder: Path, text: Mapping[str, Any]) -> Tokenize:
    """Return open_clip's tokenizer of a folder: N prompts to padded ids [N, L].

    Args:
        text: `text_cfg` from `core.clip.models.open_clip_layout.read_config`, which has checked its options.
    """
    length = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    options = text.get("tokenizer_kwargs", {})
    if text.get("hf_tokenizer_name"):
        mode = {"tokenizer_mode": text.get("tokenizer_mode"), **options}
        made = HFTokenizer(str(folder), context_length=length, trust_remote_code=False, **mode)
        return cast(Tokenize, made)
    tokenizer = SimpleTokenizer(context_length=length, **options)
    tokenizer.cache = _Words(tokenizer.cache)
    return cast(Tokenize, tokenizer)


def masked_padding(model: nn.Module, tokenizer: Any) -> int | None:
    """Return the token id of padding that the text tower masks, or None.

    Hugging Face text towers mask padding. Other towers, such as SigLIP's, attend to it or read the last
    position.
    """
    if isinstance(getattr(model, "text", None), HFTextEncoder):
        return int(tokenizer.tokenizer.pad_token_id)
    return None


def trim_padding(tokens: Tensor, padding: int | None) -> Tensor:
    """Cut off padding that no prompt of the call needs.

    Masked padding does not affect the features, but takes most of the time.
    """
    if padding is None:
        return tokens
    used = tokens.ne(padding).any(dim=0).nonzero()
    return tokens[:, : int(used.max()) + 1]


class _Words(dict[str, str]):
    """Limited cache for open_clip's tokenizer, which would keep every word for ever."""

    def __setitem__(self, word: str, tokens: str) -> None:
        if len(self) < MAX_WORDS and len(word) <= MAX_WORD_LENGTH:
            super().__setitem__(word, tokens)
