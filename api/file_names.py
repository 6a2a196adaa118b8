"""Display names of uploaded files."""

import unicodedata


def display_name(name: str) -> str:
    """Return a client's file name for display: printable, at most 200 characters. Never use it as a path."""
    if len(name) > 200:
        name = f"{name[:60]}…{name[-139:]}"
    return "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in name)
