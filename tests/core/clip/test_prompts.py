import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clip.errors import InvalidClassNames, InvalidConfig
from core.clip.prompts import (
    BIDI_CONTROLS,
    DEFAULT_TEMPLATES,
    check_prompts,
    check_templates,
    class_prompts,
    clean_class_name,
    same_class,
)

printable = st.characters(
    exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="".join(BIDI_CONTROLS)
)
names = st.text(printable, min_size=1, max_size=200).filter(
    lambda name: (
        any(unicodedata.category(c) not in {"Cf", "Mn", "Zs"} for c in name.strip())
        and len(unicodedata.normalize("NFC", name)) <= 200
    )
)


@pytest.mark.parametrize(
    "name",
    [
        "cat",
        "x" * 200,
        "👩‍👩‍👧 family 🏳️‍🌈",
        "../../etc/passwd",
        "{} {0} {name} {{}}",
        "קפה",
    ],
)
def test_names_of_all_kinds_are_taken_as_they_are(name: str) -> None:
    assert clean_class_name(name) == name
    assert class_prompts(name, DEFAULT_TEMPLATES) == (f"a photo of a {name}.",)


@given(names)
def test_printable_names_are_accepted_and_cleaning_twice_changes_nothing(name: str) -> None:
    clean = clean_class_name(name)
    assert clean_class_name(clean) == clean
    assert unicodedata.normalize("NFC", name.strip()) == clean


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        (" \t\n", "empty"),
        ("x" * 201, "201 characters"),
        ("x" * 5_000, "5000 characters"),
        ("a\0b", "control"),
        *[(f"a{c}b", "control") for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"],
        ("a\nb", "control"),
        ("a\rb", "control"),
        ("a\tb", "control"),
        ("\x1b[31mred", "control"),
        ("a\x7f", "control"),
        ("a\x85b", "control"),
        ("a\u2028b", "control"),
        ("a\u2029b", "control"),
        ("a\ud800b", "surrogate"),
        ("\udfff", "surrogate"),
    ],
)
def test_other_names_are_refused_with_a_reason(name: str, says: str) -> None:
    with pytest.raises(InvalidClassNames, match=says) as caught:
        clean_class_name(name)
    assert caught.value.status == 422
    caught.value.detail.encode()  # The reason goes into a JSON answer, which allows no lone surrogates.
    assert len(caught.value.detail) < 200


@given(st.text(st.characters(), max_size=3000))
def test_any_text_is_cleaned_or_refused(name: str) -> None:
    try:
        clean = clean_class_name(name)
    except InvalidClassNames as error:
        error.detail.encode()
        return
    assert 1 <= len(clean) <= 200
    clean.encode()


def test_names_are_trimmed_and_normalised() -> None:
    assert clean_class_name("  cat \n") == "cat"
    assert clean_class_name("cafe\u0301") == "café"
    # 201 code points before composition, 200 after.
    assert len(clean_class_name("x" * 199 + "e\u0301")) == 200


@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat", "cAT"), ("Straße", "STRASSE"), ("ΟΔΟΣ", "οδος"), ("CAFE\u0301", "café"), ("ǅ", "ǆ")],
)
def test_spellings_of_one_class(one: str, other: str) -> None:
    assert same_class(one) == same_class(other)


@pytest.mark.parametrize(("one", "other"), [("cat", "cats"), ("resume", "résumé"), ("a b", "ab"), ("o", "0")])
def test_different_classes(one: str, other: str) -> None:
    assert same_class(one) != same_class(other)


@given(names)
def test_a_class_is_the_same_as_its_key(name: str) -> None:
    assert same_class(same_class(name)) == same_class(name)
    assert same_class(clean_class_name(name)) == same_class(name.strip())


def test_templates_are_accepted() -> None:
    templates = [f"image {i} of a {{}}, as JSON: {{'a': 1}}" for i in range(99)]
    for some in (templates[:1], [*templates, "{}" + "x" * 998]):
        assert check_templates(some) == tuple(some)


@pytest.mark.parametrize(
    "templates",
    [
        [],
        ["{}"] * 101,
        ["a photo"],
        ["{} and {}"],
        ["{0}"],
        ["{name}"],
        [""],
        ["{}\0"],
        ["{}" + "x" * 999],
        ["a photo of a {}.", "a photo"],
        ["\ud800 {}"],
    ],
)
def test_other_templates_are_refused(templates: list[str]) -> None:
    with pytest.raises(InvalidConfig) as caught:
        check_templates(templates)
    assert caught.value.field == "templates"


@pytest.mark.parametrize(
    "sentences",
    [
        [],
        ["x"] * 101,
        [""],
        [" \n"],
        ["good", ""],
        ["a\0"],
        ["x" * 1001],
        ["\udfff"],
        "tabby",
    ],
)
def test_other_prompts_are_refused(sentences: list[str]) -> None:
    with pytest.raises(InvalidConfig, match="'cat'") as caught:
        check_prompts({"dog": ["a dog"], "cat": sentences})
    assert caught.value.field == "prompts"


def test_prompts_are_accepted() -> None:
    assert check_prompts({}) == {}
    assert check_prompts({"cat": ["x" * 1000] * 100, "犬": ["a {} dog"]}) == {
        "cat": ("x" * 1000,) * 100,
        "犬": ("a {} dog",),
    }


@given(st.text(min_size=1, max_size=50), st.text(max_size=20), st.text(max_size=20))
def test_a_template_takes_the_name_as_it_is(name: str, before: str, after: str) -> None:
    template = f"{before}{{}}{after}"
    if template.count("{}") == 1:
        assert class_prompts(name, [template, "{}"]) == (before + name + after, name)


def test_own_prompts_replace_the_templates_under_any_spelling() -> None:
    prompts = {"Café": ("a place with coffee", "a bar"), "dog": ("a {} dog",)}
    templates = ("a photo of a {}.", "a {}")
    assert class_prompts("CAFE\u0301", templates, prompts) == prompts["Café"]
    assert class_prompts("DOG", templates, prompts) == ("a {} dog",)  # Braces in a prompt are kept.
    assert class_prompts("cat", templates, prompts) == ("a photo of a cat.", "a cat")
    assert class_prompts("cat", templates) == class_prompts("cat", templates, {})


def test_a_class_name_of_prompts_has_a_limit() -> None:
    assert list(check_prompts({"a" * 2_000: ["a dog"]})) == ["a" * 2_000]
    with pytest.raises(InvalidConfig, match="2,001 characters") as caught:
        check_prompts({"a" * 2_001: ["a dog"]})
    assert caught.value.field == "prompts"
