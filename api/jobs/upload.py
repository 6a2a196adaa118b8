"""Validation of uploads: from archives, or lists of images and labels, to checked images with classes."""

import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from PIL import Image as Pillow
from starlette.datastructures import UploadFile

from api.archives.members import ArchiveLimits
from api.archives.read import read_archive
from api.http.forms import display_name
from api.jobs.form import ImagesForm, InvalidUpload
from clipcite.types.class_names import same_class
from clipcite.types.folders import Split, Warnings, name_list, warn
from clipcite.types.images import Image
from clipcite.types.problems import Notice
from core.clip.checks.image_stats import SIDE, measure_image
from core.clip.config import GOOD_IMAGES
from core.clip.data.decoders import Decoders
from core.clip.data.header import ImageLimits
from core.clip.errors import BadImage, InvalidClassNames
from core.clip.prompts import clean_class_name
from core.settings import Settings
from core.store.storage.blobs import Blobs

MAX_REPORTED = 100


class ClassCount(TypedDict):
    name: str
    images: int
    test_images: int


@dataclass(frozen=True)
class ReceivedUpload:
    """Labelled images of a request and of an earlier job."""

    form: ImagesForm
    folder: Path
    """Folder for the files of the archive and of the earlier job."""
    take: Callable[[int], None]
    """Called with the number of bytes before they are written to `folder`. It may raise an error."""
    settings: Settings
    decoders: Decoders
    blobs: Blobs
    kept: Sequence[Image] = ()
    """Stored images of the earlier job. They come first and determine the spelling of class names."""
    warnings: Sequence[dict[str, str]] = ()
    """Warnings about the stored images."""
    trains: bool = True
    """False allows any number of classes and of images per class."""


@dataclass(frozen=True)
class ValidatedUpload:
    images: list[Image]  # training images first, each split in the order of the upload
    classes: list[ClassCount]  # trained classes first
    warnings: Warnings
    bad: list[dict[str, str]]  # {file, code, detail} of the images that were skipped


def validate_upload(upload: ReceivedUpload) -> ValidatedUpload:
    """Check a whole upload: decode every image without statistics and clean every class name.

    The result refers to the uploaded files, or to files in `folder`. Both must exist until they are stored.

    Raises:
        ArchiveError: the archive can't be used.
        InvalidUpload: anything else is wrong with the upload.
    """
    settings, warnings = upload.settings, [*upload.warnings]
    if upload.form.archive is not None:
        images = _from_archive(upload, upload.form.archive, warnings)
    else:
        images = _from_lists(upload.form)
    images = _merge_spellings([*upload.kept, *images], warnings)
    if len(images) > settings.max_images:
        stored = f" with the {len(upload.kept):,} stored ones" if upload.kept else ""
        raise InvalidUpload(
            "too_many_images",
            f"There are {len(images):,} images{stored}. Send fewer: the maximum is {settings.max_images:,}.",
            status=413,
        )
    sent = _measured(upload, [image for image in images if not isinstance(image.content, str)])
    # Stored images come last, because only a good upload needs them.
    kept = _measured(upload, _fetched(upload, [image for image in images if isinstance(image.content, str)]))
    checked = sorted([*kept, *sent], key=lambda image: image.split == "test")
    good, bad = [image for image in checked if image.problem is None], _bad_images(checked)
    for error in bad[:MAX_REPORTED]:
        warnings.append({"code": "bad_image", "detail": f"{error['file']} was skipped: {error['detail']}"})
    if len(bad) > MAX_REPORTED:
        more = f"{len(bad) - MAX_REPORTED:,} more images were skipped."
        warnings.append({"code": "bad_image", "detail": more})
    if not upload.trains and not good:
        raise InvalidUpload("bad_images", "None of the images can be used; see errors.", bad)
    classes = _classes(checked, bad, warnings) if upload.trains else []
    return ValidatedUpload(good, classes, warnings, bad)


def _fetched(upload: ReceivedUpload, images: Sequence[Image]) -> list[Image]:
    """Copy stored images to the folder."""
    upload.take(sum(image.bytes for image in images))
    fetched = []
    for number, image in enumerate(images):
        file = upload.folder / f"kept-{number:05d}"
        upload.blobs.fetch(str(image.content), file, sha256=image.sha256)
        fetched.append(replace(image, content=file))
    return fetched


def _measured(upload: ReceivedUpload, images: Sequence[Image]) -> list[Image]:
    """Decode the images without statistics. Return all images with statistics or a problem."""
    limits = ImageLimits(upload.settings.max_image_bytes, upload.settings.max_image_pixels)
    undecoded = [image for image in images if image.stats is None and image.problem is None]
    read: deque[Image] = deque()
    """Images that are being decoded, with hash and size."""

    def contents() -> Iterator[bytes]:
        for image in undecoded:
            content = image.read(limits.max_bytes + 1)
            read.append(replace(image, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))
            yield content

    measured = []
    # Decode only as large as the statistics need. A JPEG is still read completely, but needs less memory.
    decoded = upload.decoders.read(contents(), limits, shortest_side=SIDE, grey=True)
    with closing(decoded):
        for image in images:
            if image.stats is None and image.problem is None:
                pixels = next(decoded)
                image = read.popleft()
                if isinstance(pixels, BadImage):
                    image = replace(image, problem=Notice(code=pixels.code, detail=pixels.detail))
                else:
                    image = replace(image, stats=measure_image(Pillow.fromarray(pixels)))
            measured.append(image)
    bad = _bad_images(measured)
    if bad and upload.form.on_bad_image == "fail":
        raise InvalidUpload(
            "bad_images",
            f"{_count(len(bad), 'image')} can't be used; see errors. Replace or remove them, or send "
            "on_bad_image=skip to continue without them.",
            bad,
        )
    return measured


def _bad_images(images: Sequence[Image]) -> list[dict[str, str]]:
    return [
        {"file": image.file_name, "code": image.problem.code, "detail": image.problem.detail}
        for image in images
        if image.problem is not None
    ]


def _from_archive(upload: ReceivedUpload, archive: UploadFile, warnings: Warnings) -> list[Image]:
    settings = upload.settings
    limits = ArchiveLimits(
        max_images=settings.max_images,
        max_image_bytes=settings.max_image_bytes,
        max_bytes=settings.max_request_bytes,
        max_entries=max_files(settings),
    )
    entries, more = read_archive(archive.file, upload.folder, limits, upload.take)
    warnings += more
    names = clean_folder_names((entry.class_name, entry.file_name) for entry in entries)
    return [replace(e, class_name=names[e.class_name], file_name=display_name(e.file_name)) for e in entries]


def max_files(settings: Settings) -> int:
    """Return the maximum number of files in folders, images and others."""
    return max(20_000, 2 * settings.max_images)


def clean_folder_names(images: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the class name of each class folder. Raise InvalidUpload if some are invalid.

    Args:
        images: class folder and path of each image.
    """
    errors: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for folder, file in images:
        if folder in names or folder in errors:
            continue
        try:
            names[folder] = clean_class_name(folder)
        except InvalidClassNames as error:
            errors[folder] = {"file": display_name(file), "code": error.code, "detail": error.detail}
    if errors:
        raise _bad_names(list(errors.values()))
    return names


def _from_lists(form: ImagesForm) -> list[Image]:
    splits: tuple[tuple[Split, str, Sequence[UploadFile], Sequence[str]], ...] = (
        ("train", "", form.images, form.labels),
        ("test", "test_", form.test_images, form.test_labels),
    )
    errors = [
        {
            "pointer": f"/{prefix}labels",
            "code": "label_count",
            "detail": f"{_count(len(files), 'file')} in {prefix}images, but {_count(len(names), 'label')} in "
            f"{prefix}labels. Send one label per image, in the same order.",
        }
        for _, prefix, files, names in splits
        if len(files) != len(names)
    ]
    if errors:
        raise InvalidUpload("label_count", " ".join(error["detail"] for error in errors), errors)
    images = []
    for split, prefix, files, names in splits:
        for index, (upload, label) in enumerate(zip(files, names, strict=True)):
            try:
                name = clean_class_name(label)
            except InvalidClassNames as error:
                pointer = f"/{prefix}labels/{index}"
                errors.append({"pointer": pointer, "code": error.code, "detail": error.detail})
                continue
            shown = display_name((upload.filename or "").replace("\\", "/").rpartition("/")[2])
            images.append(Image(upload.file, name, split, shown or f"{prefix}images[{index}]"))
    if errors:
        raise _bad_names(errors)
    return images


def _bad_names(errors: Sequence[dict[str, str]]) -> InvalidUpload:
    detail = errors[0]["detail"]
    if len(errors) > 1:
        detail = f"{len(errors)} class names can't be used. Correct them; see errors."
    return InvalidUpload("invalid_class_names", detail, errors)


def _merge_spellings(images: list[Image], warnings: Warnings) -> list[Image]:
    """Sort training images first. Replace class names that differ only in case by their first spelling."""
    images = sorted(images, key=lambda image: image.split == "test")
    spellings: dict[str, dict[str, None]] = defaultdict(dict)
    for image in images:
        spellings[same_class(image.class_name)][image.class_name] = None
    merged = [list(names) for names in spellings.values() if len(names) > 1]
    for names in merged[:MAX_REPORTED]:
        detail = f"{name_list(names)} differ only in case and were merged into the class {names[0]!r}."
        warnings.append({"code": "merged_class_names", "detail": detail})
    if len(merged) > MAX_REPORTED:
        more = f"{len(merged) - MAX_REPORTED:,} more classes were merged."
        warnings.append({"code": "merged_class_names", "detail": more})
    first = {key: next(iter(names)) for key, names in spellings.items()}
    return [replace(image, class_name=first[same_class(image.class_name)]) for image in images]


def _classes(images: Sequence[Image], bad: Sequence[dict[str, str]], warnings: Warnings) -> list[ClassCount]:
    trained: dict[str, ClassCount] = {}
    new: dict[str, ClassCount] = {}  # classes with test images only
    for image in images:  # training images come first
        name = image.class_name
        classes = trained if image.split == "train" or name in trained else new
        count = classes.setdefault(name, {"name": name, "images": 0, "test_images": 0})
        if image.problem is None:
            count["images" if image.split == "train" else "test_images"] += 1

    without = [name for name, count in trained.items() if not count["images"]]
    if without:
        raise InvalidUpload(
            "class_without_images",
            f"No usable training image is left for {name_list(without)}; see errors. Replace the bad images, "
            "or remove the class.",
            bad,
        )
    if len(trained) < 2:
        raise InvalidUpload(
            "too_few_classes",
            f"There are training images for {_count(len(trained), 'class')}"
            f"{' (' + name_list(list(trained)) + ')' if trained else ''}. Send at least 2 classes, each with "
            "at least 1 image.",
            bad,
        )
    few = [name for name, count in trained.items() if count["images"] < GOOD_IMAGES[0]]
    warn(
        warnings,
        "few_images",
        f"Fewer than {GOOD_IMAGES[0]} training images, too few for good results: {{names}}",
        few,
    )
    return [*trained.values(), *(count for count in new.values() if count["test_images"])]


def _count(number: int, word: str) -> str:
    if number == 1:
        return f"1 {word}"
    return f"{number:,} {word}{'es' if word.endswith('s') else 's'}"
