"""Text that can be stored, and times as text."""

from datetime import datetime


def sanitize_text(text: str) -> str:
    """Replace NULs and lone surrogates, which PostgreSQL and UTF-8 reject.

    Output of crashed processes and ids in requests may contain any character.
    """
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def utc_text(at: datetime, timespec: str = "auto") -> str:
    """Return a UTC time in ISO 8601, ending in Z."""
    return at.isoformat(timespec=timespec).replace("+00:00", "Z")
