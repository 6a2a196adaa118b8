"""CLIP's tokenizer as files of transformers. The library `tokenizers` also reads them."""

from typing import Any

from transformers import CLIPTokenizer

from core.errors import ExpectedError

START, END = "<|startoftext|>", "<|endoftext|>"


class NotPlainClip(ExpectedError):
    """The backbone's towers or tokenizer differ from CLIP's."""

    code = "not_plain_clip"
    status = 422


def clip_tokenizer(tokenizer: Any) -> CLIPTokenizer:
    """Return transformers' tokenizer with the words of open_clip's SimpleTokenizer. Raise NotPlainClip."""
    if not hasattr(tokenizer, "bpe_ranks"):
        raise NotPlainClip(
            "This format needs CLIP's own tokenizer, but this backbone has another. Use format=onnx."
        )
    names = {tokenizer.decoder[tokenizer.sot_token_id]: START, tokenizer.decoder[tokenizer.eot_token_id]: END}
    vocabulary = {names.get(word, word): index for word, index in tokenizer.encoder.items()}
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=tokenizer.context_length)
