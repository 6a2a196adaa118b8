"""The nine data sets with a split file, and the properties shared by all fifteen."""

from pathlib import Path

import pytest

from benchmarks.data.dataset import BadDataSet
from benchmarks.data.load import load
from benchmarks.data.papers import DATASETS
from tests.benchmarks.data.tree import write_split

# Name: folder, split file, image folder, an image, its class in the file, the name for the text tower.
SPLIT_FILES = {
    "Caltech101": (
        "caltech-101",
        "split_zhou_Caltech101.json",
        "101_ObjectCategories",
        "Faces/image_0001.jpg",
        "Faces",
        "a photo of a face.",
    ),
    "OxfordPets": (
        "oxford_pets",
        "split_zhou_OxfordPets.json",
        "images",
        "basset_hound_1.jpg",
        "basset_hound",
        "a photo of a basset hound, a type of pet.",
    ),
    "StanfordCars": (
        "stanford_cars",
        "split_zhou_StanfordCars.json",
        "",
        "cars_train/00001.jpg",
        "2012 Acura TL Sedan",
        "a photo of a 2012 Acura TL Sedan.",
    ),
    "Flowers102": (
        "oxford_flowers",
        "split_zhou_OxfordFlowers.json",
        "jpg",
        "image_00001.jpg",
        "pink primrose",
        "a photo of a pink primrose, a type of flower.",
    ),
    "Food101": (
        "food-101",
        "split_zhou_Food101.json",
        "images",
        "apple_pie/1005649.jpg",
        "apple_pie",
        "a photo of apple pie, a type of food.",
    ),
    "SUN397": (
        "sun397",
        "split_zhou_SUN397.json",
        "SUN397",
        "a/apse/indoor/sun_1.jpg",
        "indoor apse",
        "a photo of a indoor apse.",
    ),
    "DTD": (
        "dtd",
        "split_zhou_DescribableTextures.json",
        "images",
        "banded/banded_0001.jpg",
        "banded",
        "banded texture.",
    ),
    "EuroSAT": (
        "eurosat",
        "split_zhou_EuroSAT.json",
        "2750",
        "AnnualCrop/AnnualCrop_1.jpg",
        "AnnualCrop",
        "a centered satellite photo of Annual Crop Land.",
    ),
    "UCF101": (
        "ucf101",
        "split_zhou_UCF101.json",
        "UCF-101-midframes",
        "Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg",
        "Apply_Eye_Makeup",
        "a photo of a person doing Apply Eye Makeup.",
    ),
}


@pytest.mark.parametrize("name", SPLIT_FILES)
def test_reads_the_split_file(tmp_path: Path, name: str) -> None:
    folder, split, images, image, class_name, sentence = SPLIT_FILES[name]
    halves = {
        "train": [(image, 0, class_name), ("one.jpg", 1, "other_class")],
        "val": [("two.jpg", 1, "other_class")],
        "test": [("three.jpg", 1, "other_class")],
    }
    write_split(tmp_path / folder, split, images, halves)
    data = load(tmp_path, name)
    root = tmp_path / folder / images
    assert data.name == name
    assert [(e.path, e.label) for e in data.train] == [(root / image, 0), (root / "one.jpg", 1)]
    assert [(e.path, e.label) for e in data.test] == [(root / "three.jpg", 1)]
    assert data.class_names[1] == "other class"
    assert data.templates[0].format(data.class_names[0]) == sentence


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_folder_is_named_with_where_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadDataSet, match=rf"{name} is not in .*{DATASETS[name].folder}\. .*DATASETS\.md"):
        load(tmp_path, name)
