import hashlib
import io
from typing import Any, Literal

import pytest
from PIL import Image, ImageFilter

from api.jobs.preflight import check_images, class_warnings, summarise
from clipcite.types.images import Image as LabelledImage
from core.clip.checks.image_stats import SIDE, measure_image
from core.clip.data.images import open_image
from tests.core.clip.drawn import drawn


def findings_of(
    image: Image.Image,
    file_name: str = "a.jpg",
    class_name: str = "fox",
    split: Literal["train", "test"] = "train",
    quality: int = 90,
) -> LabelledImage:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    content = buffer.getvalue()
    opened = open_image(content, shortest_side=SIDE, grey=True)
    return LabelledImage(
        content,
        class_name,
        split,
        file_name,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        stats=measure_image(opened),
    )


def good(count: int = 6) -> list[LabelledImage]:
    return [findings_of(drawn(seed), f"{seed}.jpg", "fox" if seed % 2 else "badger") for seed in range(count)]


def codes(images: list[LabelledImage], image_size: int | None = 160) -> list[tuple[int, str]]:
    return [(finding.image, finding.code) for finding in check_images(images, image_size)]


def test_good_images_get_no_finding() -> None:
    assert codes(good(20)) == []
    assert codes([]) == []


@pytest.mark.parametrize(
    ("code", "image"),
    [
        ("blank", Image.new("RGB", (300, 200), "white")),
        ("tiny", drawn(40, 90, 60).resize((30, 20))),
        ("blurred", drawn(41).filter(ImageFilter.GaussianBlur(5))),
        ("blurred", drawn(42, 50, 40).resize((400, 320), Image.Resampling.BICUBIC)),
        ("elongated", drawn(43, 800, 200)),
    ],
)
def test_an_image_by_itself(code: str, image: Image.Image) -> None:
    images = [*good(), findings_of(image, "bad.jpg")]
    assert codes(images) == [(6, code)]
    (warning,) = summarise(check_images(images, 160), images)
    assert "bad.jpg" in warning["detail"]
    assert warning["detail"].startswith("1 image is ")


def test_a_subject_too_small_for_the_models_resolution() -> None:
    ground = Image.new("RGB", (1000, 1000), (220, 225, 215))
    ground.paste(drawn(44, 110, 110), (300, 400))
    images = [*good(), findings_of(ground, "far.jpg")]
    assert codes(images) == [(6, "small_subject")]
    assert "160 x 160 pixels" in check_images(images, 160)[0].detail
    assert codes(images, 1024) == []  # A model whose resolution suffices.
    # The usual resolution is assumed where it is unknown.
    assert codes(images, None) == codes(images, 224) == []


COPIES: list[tuple[dict[str, Any], str, str]] = [
    ({"class_name": "fox"}, "duplicate", "duplicates"),
    ({"class_name": "fox", "quality": 50}, "duplicate", "duplicates"),
    ({"class_name": "badger"}, "duplicate_in_two_classes", "duplicates_two_classes"),
    ({"class_name": "badger", "quality": 50}, "duplicate_in_two_classes", "duplicates_two_classes"),
    ({"class_name": "fox", "split": "test"}, "duplicate_in_train_and_test", "duplicates_train_and_test"),
    (
        {"class_name": "fox", "split": "test", "quality": 50},
        "duplicate_in_train_and_test",
        "duplicates_train_and_test",
    ),
]


@pytest.mark.parametrize(("given", "code", "warning"), COPIES)
def test_copies(given: dict[str, Any], code: str, warning: str) -> None:
    original = findings_of(drawn(50), "first.jpg", "fox")
    images = [original, *good(), findings_of(drawn(50), "second.jpg", **given)]
    (finding,) = check_images(images, 160)
    assert (finding.code, finding.image, finding.other) == (code, 7, 0)
    assert "'first.jpg'" in finding.detail
    (summary,) = summarise([finding], images)
    assert summary["code"] == warning
    assert "second.jpg" in summary["detail"]
    assert ("fox: first.jpg = badger: second.jpg" in summary["detail"]) == code.endswith("two_classes")


def test_spellings_of_one_class_are_one_class() -> None:
    images = [findings_of(drawn(50), "a.jpg", "Straße"), findings_of(drawn(50), "b.jpg", "STRASSE")]
    assert codes(images) == [(1, "duplicate")]


def test_many_images_share_one_warning() -> None:
    blank = [findings_of(Image.new("RGB", (60, 60), (i, 0, 0)), f"{i}.jpg") for i in range(30)]
    (warning,) = [w for w in summarise(check_images(blank, 160), blank) if w["code"] == "blank_images"]
    assert warning["detail"].startswith("30 images are")
    assert "and 25 more" in warning["detail"]


def classes(**images: int) -> list[dict[str, Any]]:
    return [{"name": name.replace("_", " "), "images": n, "test_images": 0} for name, n in images.items()]


def test_classes() -> None:
    assert class_warnings(classes(fox=8, badger=6), {}) == []
    unequal = class_warnings(classes(fox=16, badger=8, owl=4, jay=0), {})
    assert [w["code"] for w in unequal] == ["unbalanced_classes"]
    assert "'fox' has 16" in unequal[0]["detail"]
    assert "'owl' 4." in unequal[0]["detail"]
    assert "recognise small classes less often" in unequal[0]["detail"]


def test_a_warning_names_the_letters_that_make_a_twin() -> None:
    (warning,) = class_warnings([{"name": name, "images": 8} for name in ("gear", "g\u0435\u0430r")], {})
    assert warning["code"] == "similar_class_names"
    assert (
        "'gear' and 'g\u0435\u0430r' (Cyrillic letters in 'g\u0435\u0430r': \u0435, \u0430)"
        in warning["detail"]
    )
    (warning,) = class_warnings(classes(dog=8, dogs=8), {})
    assert "letters in" not in warning["detail"]


def test_prompts_replace_uninformative_names() -> None:
    given = classes(class_1=8, class_2=8, t_shirt=8, tshirt=8)
    warnings = class_warnings(given, {})
    assert [w["code"] for w in warnings] == ["vague_class_names", "similar_class_names"]
    assert '{"prompts": {"class 1": ["a photo of …"]}}' in warnings[0]["detail"]
    assert "'t shirt' and 'tshirt'" in warnings[1]["detail"]
    prompts = {"CLASS 1": ["a fox"], "class 2": ["an owl"], "tshirt": ["a tight t-shirt"]}
    assert class_warnings(given, prompts) == []
