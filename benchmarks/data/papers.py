"""The data sets of the papers, in the folders that CoOp's DATASETS.md describes.

Folders, templates and names follow CoOp (github.com/KaiyangZhou/CoOp: `datasets/` and
CUSTOM_TEMPLATES of `trainers/zsclip.py`), which CoCoOp, MaPLe, PromptSRC and CLIP-CITE share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.data.dataset import BadDataSet, DataSet
from benchmarks.data.layouts import (
    DATASETS_MD,
    Labelled,
    read_aircraft,
    read_imagenet,
    read_imagenet_v2,
    read_imagenet_variant,
    read_split_file,
)

A_PHOTO = "a photo of a {}."


@dataclass(frozen=True)
class PaperDataSet:
    folder: str
    """Folder below the root of all data sets."""
    template: str
    """Usual prompt template of zero-shot CLIP."""
    layout: Callable[[Path], Labelled]


CALTECH_NAMES = {
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
}
EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


def _split(name: str, images: str = "", renamed: Mapping[str, str] | None = None) -> partial[Labelled]:
    return partial(read_split_file, split=f"split_zhou_{name}.json", images=images, renamed=renamed)


ELEVEN: Mapping[str, PaperDataSet] = {
    "ImageNet": PaperDataSet("imagenet", A_PHOTO, read_imagenet),
    "Caltech101": PaperDataSet(
        "caltech-101", A_PHOTO, _split("Caltech101", "101_ObjectCategories", CALTECH_NAMES)
    ),
    "OxfordPets": PaperDataSet(
        "oxford_pets", "a photo of a {}, a type of pet.", _split("OxfordPets", "images")
    ),
    # The split file names the image folders, cars_train and cars_test.
    "StanfordCars": PaperDataSet("stanford_cars", A_PHOTO, _split("StanfordCars")),
    "Flowers102": PaperDataSet(
        "oxford_flowers", "a photo of a {}, a type of flower.", _split("OxfordFlowers", "jpg")
    ),
    "Food101": PaperDataSet("food-101", "a photo of {}, a type of food.", _split("Food101", "images")),
    "FGVCAircraft": PaperDataSet("fgvc_aircraft", "a photo of a {}, a type of aircraft.", read_aircraft),
    "SUN397": PaperDataSet("sun397", A_PHOTO, _split("SUN397", "SUN397")),
    "DTD": PaperDataSet("dtd", "{} texture.", _split("DescribableTextures", "images")),
    "EuroSAT": PaperDataSet(
        "eurosat", "a centered satellite photo of {}.", _split("EuroSAT", "2750", EUROSAT_NAMES)
    ),
    "UCF101": PaperDataSet("ucf101", "a photo of a person doing {}.", _split("UCF101", "UCF-101-midframes")),
}
"""Data sets of few-shot learning and base-to-new, in the papers' order."""

IMAGENET_VARIANTS: Mapping[str, PaperDataSet] = {
    "ImageNetV2": PaperDataSet(
        "imagenetv2", A_PHOTO, partial(read_imagenet_v2, images="imagenetv2-matched-frequency-format-val")
    ),
    "ImageNet-Sketch": PaperDataSet(
        "imagenet-sketch", A_PHOTO, partial(read_imagenet_variant, images="images")
    ),
    "ImageNet-A": PaperDataSet(
        "imagenet-adversarial", A_PHOTO, partial(read_imagenet_variant, images="imagenet-a")
    ),
    "ImageNet-R": PaperDataSet(
        "imagenet-rendition", A_PHOTO, partial(read_imagenet_variant, images="imagenet-r")
    ),
}
"""Data sets of domain generalisation, with test images only."""

DATASETS: Mapping[str, PaperDataSet] = {**ELEVEN, **IMAGENET_VARIANTS}


def read_paper_dataset(root: Path, name: str) -> DataSet:
    """Read one of DATASETS from its folder below `root`.

    Raises:
        BadDataSet: the name is not one of DATASETS, or the data set is missing or incomplete.
    """
    if name not in DATASETS:
        raise BadDataSet(f"There is no data set {name!r}; the names are {', '.join(DATASETS)}.")
    spec = DATASETS[name]
    folder = root / spec.folder
    if not folder.is_dir():
        raise BadDataSet(
            f"{name} is not in {root}: there is no folder {folder}. Download it ({DATASETS_MD}), or link the "
            "folder to the data."
        )
    class_names, train, test = spec.layout(folder)
    return DataSet(
        name=name,
        # The files have names such as Apply_Eye_Makeup; the text tower needs words.
        class_names=tuple(class_name.replace("_", " ") for class_name in class_names),
        templates=(spec.template,),
        train=train,
        test=test,
        folder=folder,
    )
