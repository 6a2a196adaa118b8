"""Class names and the prompts made from them."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipcite.types.base import MAX_TEMPLATES
from clipcite.types.class_names import same_class
from core.clip.errors import InvalidClassNames, InvalidConfig

DEFAULT_TEMPLATES = ("a photo of a {}.",)
MAX_NAME_LENGTH = 200
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates. They change the order in which surrounding text is shown."""
MAX_TEXT_LENGTH = 1_000
Prompts = tuple[str, ...]
"""The prompts of one class."""


@dataclass(frozen=True)
class Candidates:
    """The classes among which a prediction chooses: names, resolved to prompts. Hashable."""

    names: tuple[str, ...]
    classes: tuple[int, ...]
    """Trained class of each name, or -1 (`NEW_CLASS`)."""
    prompts: tuple[Prompts, ...]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        trained: Sequence[str],
        templates: Sequence[str],
        prompts: Mapping[str, Sequence[str]] | None = None,
    ) -> "Candidates":
        """Resolve names.

        Args:
            trained: names of the trained classes.
            templates: templates for names without prompts.
            prompts: custom prompts by class name, in any spelling.
        """
        resolved = all_class_prompts(names, templates, prompts)
        return cls(tuple(names), tuple(class_indices(names, trained)), tuple(resolved))

    @property
    def trained(self) -> int:
        """Number of trained classes."""
        return sum(c >= 0 for c in self.classes)


def clean_class_name(name: str) -> str:
    """Trim and normalise (NFC) a class name.

    Raises:
        InvalidClassNames: the name is empty, longer than 200 characters, or holds an unprintable
            character (NUL, another control character, a lone surrogate).
    """
    # Check the length before normalisation, so that megabytes are not normalised or echoed.
    shown = name[:40] + ("…" if len(name) > 40 else "")
    if len(name) <= 10 * MAX_NAME_LENGTH:
        name = unicodedata.normalize("NFC", name.strip())
    if not name:
        raise InvalidClassNames("A class name is empty; use 1 to 200 printable characters.")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidClassNames(
            f"The class name {shown!r} has {len(name)} characters; use 1 to {MAX_NAME_LENGTH}."
        )
    if all(unicodedata.category(c) in {"Cf", "Mn", "Zs"} for c in name):
        raise InvalidClassNames(f"The class name {shown!r} has no visible character; use printable text.")
    # Other format characters (Cf) are allowed: emoji sequences and right-to-left text need joiners and marks.
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in BIDI_CONTROLS for c in name):
        raise InvalidClassNames(
            f"The class name {shown!r} has a control character (such as NUL, a line break or a change of "
            "the text direction) or a lone surrogate; use printable text."
        )
    return name


def class_indices(names: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Return the class index of each name, ignoring case, or -1 for a name that is not a class."""
    index = {same_class(name): i for i, name in enumerate(class_names)}
    return [index.get(same_class(name), -1) for name in names]


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates.

    Raises:
        InvalidConfig: there are not 1 to 100 templates with exactly one `{}` each.
    """
    if not 1 <= len(templates) <= MAX_TEMPLATES:
        raise InvalidConfig("templates", f"Give 1 to {MAX_TEMPLATES} templates, not {len(templates)}.")
    for template in templates:
        if len(template) > MAX_TEXT_LENGTH or template.count("{}") != 1 or not _readable(template):
            raise InvalidConfig(
                "templates",
                f"The template {template[:60]!r} must hold {{}} exactly once (the place of the class "
                f"name), no NUL or lone surrogate, and at most {MAX_TEXT_LENGTH} characters.",
            )
    return tuple(templates)


def check_prompts(prompts: Mapping[str, Sequence[str]]) -> dict[str, Prompts]:
    """Return the custom prompts by class name.

    Raises:
        InvalidConfig: an entry is empty or oversized.
    """
    checked: dict[str, Prompts] = {}
    for name, sentences in prompts.items():
        if len(name) > 10 * MAX_NAME_LENGTH:  # accents in a row take quadratic time
            raise InvalidConfig(
                "prompts",
                f"The class name {name[:40]!r} in prompts has {len(name):,} characters; use 1 to "
                f"{MAX_NAME_LENGTH}.",
            )
        # A string would also be a sequence of one-letter prompts.
        is_list = not isinstance(sentences, str) and 1 <= len(sentences) <= MAX_TEMPLATES
        if not (
            is_list
            and _readable(name)
            and all(len(s) <= MAX_TEXT_LENGTH and s.strip() and _readable(s) for s in sentences)
        ):
            raise InvalidConfig(
                "prompts",
                f"The prompts of {name[:60]!r} must be a list of 1 to {MAX_TEMPLATES} sentences "
                f"of 1 to {MAX_TEXT_LENGTH} characters, without NUL or lone surrogates.",
            )
        checked[name] = tuple(sentences)
    return checked


def _readable(text: str) -> bool:
    """Return False for NUL and lone surrogates, which tokenizers and files don't accept."""
    return not any(c == "\0" or unicodedata.category(c) == "Cs" for c in text)


def class_prompts(
    name: str, templates: Sequence[str], prompts: Mapping[str, Sequence[str]] | None = None
) -> Prompts:
    """Return the prompts of one class: its custom prompts, else every template with its name.

    Custom prompts match any spelling of the class (case folding).
    """
    (sentences,) = all_class_prompts([name], templates, prompts)
    return sentences


def all_class_prompts(
    names: Sequence[str], templates: Sequence[str], prompts: Mapping[str, Sequence[str]] | None = None
) -> list[Prompts]:
    """Return `class_prompts` of each name."""
    own: dict[str, Sequence[str]] = {}
    for name, sentences in (prompts or {}).items():
        own.setdefault(same_class(name), sentences)
    # Not str.format: a class name may hold braces.
    return [
        tuple(own.get(same_class(name)) or (template.replace("{}", name) for template in templates))
        for name in names
    ]
