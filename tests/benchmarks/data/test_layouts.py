"""FGVCAircraft, ImageNet and its variants, and errors for damaged data sets."""

from pathlib import Path

import pytest

from benchmarks.data.dataset import BadDataSet
from benchmarks.data.load import load
from tests.benchmarks.data.tree import write_class_names, write_image, write_split

# Three of the thousand classes. The ids are sorted like the lines, as in ImageNet.
CLASS_NAMES = {"n01440764": "tench", "n01443537": "goldfish", "n01484850": "great white shark"}


def write_aircraft(folder: Path) -> None:
    for number in ("1025794", "0034309", "1140001"):
        write_image(folder / "images" / f"{number}.jpg")
    (folder / "variants.txt").write_text("707-320\nBAE 146-200\n")
    (folder / "images_variant_train.txt").write_text("1025794 BAE 146-200\n0034309 707-320\n")
    (folder / "images_variant_test.txt").write_text("1140001 BAE 146-200\n")


def test_aircraft(tmp_path: Path) -> None:
    write_aircraft(tmp_path / "fgvc_aircraft")
    data = load(tmp_path, "FGVCAircraft")
    assert data.class_names == ("707-320", "BAE 146-200")
    assert data.templates == ("a photo of a {}, a type of aircraft.",)
    assert [(e.path.name, e.label) for e in data.train] == [("1025794.jpg", 1), ("0034309.jpg", 0)]
    assert [(e.path.name, e.label) for e in data.test] == [("1140001.jpg", 1)]


def test_imagenet(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet"
    write_class_names(folder, CLASS_NAMES)
    for wordnet_id in ("n01484850", "n01440764"):
        write_image(folder / "images/train" / wordnet_id / f"{wordnet_id}_10.JPEG")
        write_image(folder / "images/train" / wordnet_id / f"{wordnet_id}_07.JPEG")
        write_image(folder / "images/val" / wordnet_id / "ILSVRC2012_val_00000293.JPEG")
    data = load(tmp_path, "ImageNet")
    assert data.class_names == ("tench", "great white shark")
    assert data.templates == ("a photo of a {}.",)
    assert [(e.path.name, e.label) for e in data.train] == [
        ("n01440764_07.JPEG", 0),
        ("n01440764_10.JPEG", 0),
        ("n01484850_07.JPEG", 1),
        ("n01484850_10.JPEG", 1),
    ]
    assert [(e.path.parent.name, e.label) for e in data.test] == [("n01440764", 0), ("n01484850", 1)]


def test_imagenet_v2_numbers_its_folders_by_label(tmp_path: Path) -> None:
    folder = tmp_path / "imagenetv2"
    write_class_names(folder, CLASS_NAMES)
    for label in ("0", "2"):
        write_image(folder / "imagenetv2-matched-frequency-format-val" / label / "a.jpeg")
    data = load(tmp_path, "ImageNetV2")
    assert data.class_names == ("tench", "goldfish", "great white shark")
    assert data.train == ()
    assert [(e.path.parent.name, e.label) for e in data.test] == [("0", 0), ("2", 2)]


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("ImageNet-Sketch", "imagenet-sketch/images"),
        ("ImageNet-A", "imagenet-adversarial/imagenet-a"),
        ("ImageNet-R", "imagenet-rendition/imagenet-r"),
    ],
)
def test_imagenet_variants_have_the_classes_that_have_folders(tmp_path: Path, name: str, images: str) -> None:
    write_class_names((tmp_path / images).parent, CLASS_NAMES)
    for wordnet_id in ("n01484850", "n01443537"):
        write_image(tmp_path / images / wordnet_id / "a.jpg")
    (tmp_path / images / "README.txt").write_text("as the download has it")
    data = load(tmp_path, name)
    assert data.class_names == ("goldfish", "great white shark")
    assert data.templates == ("a photo of a {}.",)
    assert data.train == ()
    assert [(e.path.parent.name, e.label) for e in data.test] == [("n01443537", 0), ("n01484850", 1)]


DTD = ("split_zhou_DescribableTextures.json", "images")


def test_labels_of_a_split_file_count_up(tmp_path: Path) -> None:
    rows = [("b.jpg", 7, "woven"), ("a.jpg", 3, "lined")]
    write_split(tmp_path / "dtd", *DTD, {"train": rows, "test": rows})
    data = load(tmp_path, "DTD")
    assert data.class_names == ("lined", "woven")
    assert [e.label for e in data.train] == [1, 0]


def test_images_that_are_missing(tmp_path: Path) -> None:
    rows = [("a.jpg", 0, "lined"), ("b.jpg", 1, "woven")]
    write_split(tmp_path / "dtd", *DTD, {"train": rows, "test": rows[:1]})
    (tmp_path / "dtd/images/b.jpg").unlink()
    with pytest.raises(BadDataSet, match=r"1 of the 3 images .* missing, the first is .*images/b\.jpg"):
        load(tmp_path, "DTD")
