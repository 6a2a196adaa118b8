"""Labelled images from any source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clipcite.datasets.image import ImageFile, ImageLike, as_image, is_one_image
from clipcite.errors import InvalidImages
from clipcite.types.folders import Split

ByClass = Mapping[str, Sequence[ImageLike]]


@dataclass(frozen=True)
class Labelled:
    """An image with its class."""

    image: ImageFile
    class_name: str
    split: Split = "train"


@dataclass(frozen=True)
class Dataset:
    """Labelled images with notes about ignored files."""

    kind: str
    """Recognised format, such as "class folders" or "Label Studio export"."""
    images: Sequence[Labelled]
    notes: Sequence[str] = field(default_factory=tuple)
    """Notes about ignored files and choices, such as "ignored 2 rows without a label"."""

    @property
    def class_names(self) -> list[str]:
        """Class names in order of appearance."""
        return list(dict.fromkeys(item.class_name for item in self.images))

    def count(self, split: Split) -> int:
        """Return the number of images of a split."""
        return sum(item.split == split for item in self.images)

    def summary(self) -> str:
        """Return one line such as `found: CSV manifest, 3 classes, 40 images (10 test images); …`."""
        classes, images, test = len(self.class_names), len(self.images), self.count("test")
        text = f"found: {self.kind}, {count_noun(classes, 'class', 'classes')}, {count_noun(images, 'image')}"
        text += f" ({count_noun(test, 'test image')})" if test else ""
        return "; ".join([text, *self.notes])


def dataset_of(images: ByClass, test: ByClass | None = None) -> Dataset:
    """Build a data set from mappings of class names to images.

    Raises:
        InvalidImages: an unusable image, or an image in place of a list.
    """
    splits: tuple[tuple[Split, ByClass], ...] = (("train", images), ("test", test or {}))
    labelled = [
        Labelled(as_image(image, f"{class_name}-{number}"), class_name, split)
        for split, by_class in splits
        for class_name, class_images in by_class.items()
        for number, image in enumerate(_checked_list(class_name, class_images), 1)
    ]
    return Dataset("images by class", labelled)


def _checked_list(class_name: str, images: Sequence[ImageLike]) -> Sequence[ImageLike]:
    if is_one_image(images):
        raise InvalidImages(f"The class {class_name!r} needs a list of images, even for a single image.")
    return images


def count_noun(number: int, singular: str, plural: str = "") -> str:
    """Return a text such as `1 image` or `2 images`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
