"""Display names of uploaded files."""

import unicodedata

from core.clip.prompts import BIDI_CONTROLS


def display_name(name: str) -> str:
    """Return a client's file name for display: printable, at most 200 characters. Never use it as a path."""
    if len(name) > 200:
        name = f"{name[:60]}…{name[-139:]}"
    hidden = {"Cc", "Cs", "Zl", "Zp"}
    return "".join("\ufffd" if unicodedata.category(c) in hidden or c in BIDI_CONTROLS else c for c in name)
