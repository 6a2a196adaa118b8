import tracemalloc

import pytest
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from api.jobs.class_names import is_uninformative, similar_names

EMPTY = (
    *("class_1", "Class 12", "CLASS-7b", "label3", "type B", "category", "Kategorie 2", "unknown", "other"),
    *("n02124075", "02124075", "7", "007", "3.14", "½", "a", "B", "x", "SKU-4711", "A12-B7", "img_0012"),
    *("deadbeef01", "00a1b2c3d4", "object 3", "Group_A", "No. 5", "new folder", "x1", "ｃｌａｓｓ１"),
)
TELLING = (
    *("red fox", "t-shirt", "F-16", "B-52", "iPhone 12", "Boeing 747", "3D printer", "7up", "2 cent", "ox"),
    *("cat", "train", "bin", "犬", "🦊", "Ä", "R2-D2", "size 38", "classic car", "typewriter", "partridge"),
    *("MT_Fray", "1967 Ford", "5 euro", "Straße", "лиса", "objective lens", "no entry sign", "labelled jar"),
)


@pytest.mark.parametrize("name", EMPTY)
def test_uninformative_names(name: str) -> None:
    assert is_uninformative(name)


@pytest.mark.parametrize("name", TELLING)
def test_informative_names(name: str) -> None:
    assert not is_uninformative(name)


def test_no_alarm_on_the_names_of_imagenet() -> None:
    names = list(dict.fromkeys(IMAGENET_CLASSNAMES))
    assert [name for name in names if is_uninformative(name)] == []
    assert similar_names(names) == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("t-shirt", "tshirt"),
        ("red_fox", "Red fox"),
        ("dog", "dogs"),
        ("café", "cafe"),
        ("sandals", "sandels"),
        ("cardigan", "cardigann"),
        ("cardigan", "cadigan"),
    ],
)
def test_similar_names(a: str, b: str) -> None:
    if a == "sandals":  # Six letters without the plural: too short for certainty.
        assert similar_names(["hat", a, b]) == []
    else:
        assert similar_names(["hat", a, b]) == [(a, b)]
        assert similar_names([b, "hat", a]) == [(b, a)]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("size 38", "size 39"),
        ("Boeing 737", "Boeing 747"),
        ("left shoe", "right shoe"),
        ("grass", "glass"),
        ("fountain", "mountain"),
        ("pants", "panther"),
        ("犬", "猫"),
        ("a", "b"),
    ],
)
def test_two_different_names(a: str, b: str) -> None:
    assert similar_names([a, b]) == []


@pytest.mark.parametrize("twin", ["ge\u0430r", "g\u0435\u0430r", "GE\u0410R", "gears", "ge\u200bar"])
def test_names_that_look_alike(twin: str) -> None:
    assert similar_names(["hat", "gear", twin]) == [("gear", twin)]


@pytest.mark.parametrize(
    ("a", "b"),
    [("\u0392\u039f\u03a7", "BOX"), ("c\u0451", "cë"), ("\u0421\u041e\u0412", "COB"), ("\u03bfx", "\u043ex")],
)
def test_letters_of_three_scripts_that_look_alike(a: str, b: str) -> None:
    assert similar_names([a, b]) == [(a, b)]


@pytest.mark.parametrize(
    "names",
    [
        ("кот", "cot", "kot"),  # Russian for cat: к and т look different from k and t
        ("рак", "pak", "лис", "лиса", "волк", "hare"),
        ("γάτα", "yata", "αλεπού", "alepou", "σκύλος"),
        ("工", "エ", "口", "ロ", "入", "人"),
        ("modern", "modem", "10", "lO"),
        ("TNF-α", "TNF-a", "βeta", "beta"),
        ("कुत्ता", "بقرة", "חתול", "고양이"),
    ],
)
def test_names_of_other_scripts_are_no_twins(names: tuple[str, ...]) -> None:
    assert similar_names(names) == []


def test_long_names_take_little_memory() -> None:
    """Each letter stands for 18."""
    names = [chr(ord("\u0628") + i) + "\ufdfa" * 190 for i in range(4)]
    tracemalloc.start()
    try:
        assert similar_names(names) == []
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
