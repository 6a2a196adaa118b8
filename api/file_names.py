"""Names of files as they are shown."""

import unicodedata


def display_name(name: str) -> str:
    """A client's file name, fit to be shown: printable, at most 200 characters. Never a path."""
    if len(name) > 200:
        name = f"{name[:60]}…{name[-139:]}"
    return "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in name)
