"""Names of models and aliases, and references to models.

A reference is an id (`mdl_…`), a name (`shoes`, the version in use), a name with a version (`shoes@3`), or a
name with an alias (`shoes@prod`).
"""

import re
import unicodedata
from dataclasses import dataclass

from clipcite.types.classify import STOCK
from core.errors import ExpectedError
from core.store.db.text import sanitize_text

MAX_CHARACTERS = 200
ID_PREFIX = "mdl_"
JOB_PREFIX = "job_"
LATEST = "latest"
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class InvalidName(ExpectedError):
    """A name that a model can't have."""

    code = "invalid_name"
    status = 422

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.errors = [{"pointer": "/name", "detail": detail}]


class InvalidAlias(ExpectedError):
    code = "invalid_alias"
    status = 422


@dataclass(frozen=True)
class Reference:
    """Parsed reference: an id, or a name with a version, an alias, or neither (the version in use)."""

    id: str | None = None
    name: str = ""
    version: int | None = None
    alias: str | None = None


def parse(reference: str) -> Reference | None:
    """Parse a reference. Return None if it is invalid."""
    reference = normal(reference)
    if reference.startswith(ID_PREFIX):
        return Reference(id=reference)
    name, at, tag = reference.partition("@")
    if not name or _problem(name) is not None:
        return None
    if not at or tag == LATEST:
        return Reference(name=name)
    if _VERSION.fullmatch(tag):
        return Reference(name=name, version=int(tag))
    return Reference(name=name, alias=tag) if _ALIAS.fullmatch(tag) else None


def normal(text: str) -> str:
    """Return the text in Unicode NFC, so that equal-looking texts are equal."""
    return _composed(sanitize_text(text))


def clean_name(name: str | None) -> str | None:
    """Return the trimmed name in NFC, or None if it is empty.

    Raises:
        InvalidName: the name is too long, or could be read as another kind of reference.
    """
    cleaned = _composed((name or "").strip())
    if problem := _problem(cleaned):
        raise InvalidName(problem)
    return cleaned or None


def _composed(text: str) -> str:
    """Return the text in NFC, or unchanged if it is too long: a row of accents takes quadratic time."""
    return unicodedata.normalize("NFC", text) if len(text) <= 10 * MAX_CHARACTERS else text


def check_alias(alias: str) -> None:
    """Raise InvalidAlias if the alias could be read as a version, or needs quoting in a URL."""
    if not _ALIAS.fullmatch(alias) or alias.lower() == LATEST:
        raise InvalidAlias(
            "The alias is invalid. Use 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', with a letter first, for "
            f"example prod. {LATEST!r} is reserved for the version in use."
        )


def _problem(name: str) -> str | None:
    if len(name) > MAX_CHARACTERS or not name.isprintable():
        return f"name must have at most {MAX_CHARACTERS} printable characters. Choose another."
    if "@" in name or "/" in name:
        return "name must not contain @ (name@3 is its version 3) or /. Leave them out."
    if name in {".", ".."} or name.startswith((ID_PREFIX, JOB_PREFIX, f"{STOCK}:")) or name.lower() == STOCK:
        return (
            f"name must not look like an id ({ID_PREFIX}…, {JOB_PREFIX}…), the stock model ({STOCK}, "
            f"{STOCK}:…) or a folder (., ..). Choose another."
        )
    return None
