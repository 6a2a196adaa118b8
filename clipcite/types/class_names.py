"""Names of classes."""

import unicodedata


def same_class(name: str) -> str:
    """Return a key that is equal for all spellings of a class (Unicode case folding)."""
    return unicodedata.normalize("NFC", name.casefold())
