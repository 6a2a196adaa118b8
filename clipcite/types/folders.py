"""Rules of folders: train, validation (val) and test splits and classes by folders, in archives and on disk.

class/image.jpg                 train/class/image.jpg, test/class/image.jpg
anything/class/image.jpg        train/images/class/image.jpg, class/train/image.jpg

An image in a subfolder belongs to its class folder, as in torchvision's ImageFolder. An ambiguous layout is
refused, because labels are never guessed.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

Split = Literal["train", "test"]
LeftOut = Literal["hidden_files", "other_files", "images_without_class", "validation_ignored"]
Parts = tuple[str, ...]
"""Folders and name of an image."""
LEFT_OUT: dict[LeftOut, str] = {
    "hidden_files": "Hidden and system files are ignored.",
    "other_files": "Files that are not images are ignored.",
    "images_without_class": "Images outside class folders are ignored. Add them to a class to use them.",
    "validation_ignored": "There are test images, so validation images are ignored.",
}
"""Why files are left out."""
T = TypeVar("T")
SPLITS: dict[str, str] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
WRAPPERS = {"image", "images", "img", "imgs", "photo", "photos", "data"}
Warnings = list[dict[str, str]]
"""`code` and `detail` of what was ignored or changed."""


class UnclearLayout(ValueError):
    """The folders have more than one meaning."""


def is_hidden(name: str) -> bool:
    """Return whether a file or folder belongs to the system."""
    return name.startswith(".") or name == "__MACOSX"


def place_images(
    images: Sequence[Parts],
) -> tuple[list[tuple[Parts, Split, str]], dict[Parts, LeftOut], Warnings]:
    """Place images by their folders.

    Returns:
        Image, split and class of each image that counts, why each other image is left out, and warnings.

    Raises:
        UnclearLayout: class folders are beside split folders.
    """
    warnings: Warnings = []
    loose: list[Parts] = []
    below = {image: image for image in images}
    while True:
        loose += [image for image, parts in below.items() if len(parts) == 1]
        below = {image: parts for image, parts in below.items() if len(parts) > 1}
        tops = {parts[0] for parts in below.values()}
        deep = {parts[0] for parts in below.values() if len(parts) > 2}
        splits = {top for top in tops if top.casefold() in SPLITS}
        # A folder around train/ and test/ that hold images, not folders, is one class.
        one_class = all(len(parts) == 3 and parts[1].casefold() in SPLITS for parts in below.values())
        if len(tops) != 1 or not deep or splits or one_class:
            break
        warn(warnings, "extra_root_folder", "The outer folder {names} was ignored", list(tops))
        below = {image: parts[1:] for image, parts in below.items()}
    # Split folders count only side by side, alone, or with train/: a class may also be called "train".
    has_train = any(SPLITS[top.casefold()] == "train" for top in splits & deep)
    if splits & deep and (tops == splits or has_train):
        if tops - splits:
            raise UnclearLayout(
                f"There are images in {name_list(sorted(tops - splits))} beside {name_list(sorted(splits))}. "
                "Put every class folder into train or test."
            )
        placed = _below_splits(below, loose)
    elif below and all(len(parts) > 2 and parts[1].casefold() in SPLITS for parts in below.values()):
        placed = [(image, parts[1], parts[0], False) for image, parts in below.items()]
    else:
        placed = [(image, "train", parts[0], len(parts) > 2) for image, parts in below.items()]
    by_split = [(image, SPLITS[word.casefold()], name) for image, word, name, _ in placed]
    kept = resolve_validation(by_split, warnings)
    left_out: dict[Parts, LeftOut] = {image: "validation_ignored" for image, *_ in by_split}
    for image, *_ in kept:
        del left_out[image]
    left_out |= dict.fromkeys(loose, "images_without_class")
    without = "{n} images are outside class folders and were ignored: {names}"
    warn(warnings, "images_without_class", without, ["/".join(image) for image in loose])
    nested = "{n} images are in subfolders of a class folder and belong to that class: {names}"
    warn(warnings, "nested_folders", nested, ["/".join(image) for image, *_, deeper in placed if deeper])
    return kept, left_out, warnings


def _below_splits(below: dict[Parts, Parts], loose: list[Parts]) -> list[tuple[Parts, str, str, bool]]:
    """Return image, split folder, class and whether it is nested. Images without a class go to `loose`."""
    placed = []
    inside: dict[str, set[str]] = {}
    for top, *rest in below.values():
        if len(rest) > 1:
            inside.setdefault(top, set()).add(rest[0].casefold())
    for image, parts in below.items():
        inner = parts[1:]
        if len(inner) > 2 and len(inside[parts[0]]) == 1 and inside[parts[0]] <= WRAPPERS:
            inner = inner[1:]
        if len(inner) < 2:
            loose.append(image)
        else:
            placed.append((image, parts[0], inner[0], len(inner) > 2))
    return placed


def resolve_validation(
    placed: Sequence[tuple[T, str, str]], warnings: Warnings
) -> list[tuple[T, Split, str]]:
    """Use validation images as test images if there are no test images. Otherwise drop them."""
    splits = {split for _, split, _ in placed}
    test = "test" if "test" in splits else "validation"
    number = sum(split == "validation" for _, split, _ in placed)
    if number and test == "test":
        detail = f"There are test images, so {number:,} validation images were ignored."
        warnings.append({"code": "validation_ignored", "detail": detail})
    elif number:
        detail = "There are no test images, so the validation images are used as test."
        warnings.append({"code": "validation_is_test", "detail": detail})
    kept = [entry for entry in placed if entry[1] in {"train", test}]
    return [(image, "train" if split == "train" else "test", name) for image, split, name in kept]


def short(name: str) -> str:
    """Cut out the middle of a long name."""
    return name if len(name) <= 80 else f"{name[:40]}…{name[-39:]}"


def name_list(names: list[str], max_names: int = 5) -> str:
    """Return a text such as `'a.jpg', 'b.jpg' and 3 more`."""
    shown = ", ".join(repr(short(name)) for name in names[:max_names])
    return shown + (f" and {len(names) - max_names} more" if len(names) > max_names else "")


def warn(warnings: Warnings, code: str, detail: str, names: list[str]) -> None:
    """Append one warning for all names, if there are any. `detail` may contain {n} and {names}."""
    if names:
        text = detail.replace("{n}", f"{len(names):,}").replace("{names}", name_list(names))
        warnings.append({"code": code, "detail": text + "."})
