"""Valid names of models, and the meaning of references."""

import unicodedata

import pytest

from core.store.registry.references import (
    InvalidAlias,
    InvalidName,
    Reference,
    check_alias,
    clean_name,
    parse,
)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (" shoes ", "shoes"),
        ("", None),
        ("  ", None),
        ("red shoes, size 42: best", "red shoes, size 42: best"),
        ("cafe\u0301", "café"),
        ("stocks", "stocks"),
        ("mdl", "mdl"),
        ("3", "3"),
        ("x" * 200, "x" * 200),
        ("靴 🥾", "靴 🥾"),
    ],
)
def test_a_good_name(given: str, name: str | None) -> None:
    assert clean_name(given) == name
    if name is not None:
        assert parse(name) == Reference(name=name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        *((name, "printable") for name in ("x" * 201, "a\0b", "a\nb", "\ud800", "a\u200bb")),
        *((name, "@") for name in ("shoes@1", "@", "a/b")),
        *(
            (name, "stock")
            for name in ("stock", "Stock", "stock:RN50/openai".replace("/", "-"), "mdl_x", "job_x", "..")
        ),
    ],
)
def test_a_bad_name(name: str, says: str) -> None:
    with pytest.raises(InvalidName, match=says) as refused:
        clean_name(name)
    assert refused.value.errors == [{"pointer": "/name", "detail": refused.value.detail}]
    reference = parse(name)
    assert reference is None or reference.name != name


@pytest.mark.parametrize(
    ("reference", "meaning"),
    [
        ("mdl_01", Reference(id="mdl_01")),
        ("shoes@12", Reference(name="shoes", version=12)),
        ("shoes@prod", Reference(name="shoes", alias="prod")),
        ("shoes@latest", Reference(name="shoes")),
        ("red shoes@v1.2-rc_3", Reference(name="red shoes", alias="v1.2-rc_3")),
        ("cafe\u0301@prod", Reference(name="café", alias="prod")),
    ],
)
def test_references(reference: str, meaning: Reference) -> None:
    assert parse(reference) == meaning


@pytest.mark.parametrize(
    "alias", ["", "1", "2nd", "latest", "Latest", "a b", "a/b", "a@b", "ä", "a" * 65, "prod\n", "-x", "\0"]
)
def test_a_bad_alias(alias: str) -> None:
    with pytest.raises(InvalidAlias, match="with a letter first"):
        check_alias(alias)


def test_good_aliases() -> None:
    for alias in ("prod", "a", "v1.2", "A" * 64, "blue-green_2"):
        check_alias(alias)


def test_a_text_too_long_for_a_name_is_not_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accents in a row take quadratic time."""
    normalize, lengths = unicodedata.normalize, []

    def counted(form: str, text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text)  # type: ignore[arg-type]

    monkeypatch.setattr(unicodedata, "normalize", counted)
    long = "a" + "\u0301\u0323" * 5_000
    with pytest.raises(InvalidName, match="at most 200"):
        clean_name(long)
    assert parse(long) is None
    assert clean_name("cafe\u0301") == "café"
    assert lengths == [5]
