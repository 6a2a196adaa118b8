"""Sanitising of text for storage."""


def sanitize_text(text: str) -> str:
    """Replace NULs and lone surrogates, which PostgreSQL and UTF-8 reject.

    The output of crashed processes and ids in requests may contain anything.
    """
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
