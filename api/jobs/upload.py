"""Validation of uploads: from archives, or lists of images and labels, to checked images with classes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict

from starlette.datastructures import UploadFile

from api.archives.members import ArchiveLimits
from api.archives.read import read_archive
from api.http.forms import display_name
from api.jobs.image_check import Candidate, LabelledImage, StoredImages, check_candidates
from clipcite.types.folders import Split, Warnings, name_list, warn
from core.clip.config import GOOD_IMAGES
from core.clip.data.decoders import Decoders
from core.clip.errors import InvalidClassNames
from core.clip.prompts import clean_class_name, same_class
from core.errors import CodedError
from core.settings import Settings

MAX_REPORTED = 100


class ClassCount(TypedDict):
    name: str
    images: int
    test_images: int


class InvalidUpload(CodedError):
    """The upload is rejected. `errors` lists every bad file or field."""

    def __init__(
        self, code: str, detail: str, errors: Sequence[dict[str, str]] = (), status: int = 422
    ) -> None:
        super().__init__(code, detail)
        self.status = status
        self.errors = list(errors)


@dataclass(frozen=True)
class ValidatedUpload:
    images: list[LabelledImage]  # training images first, each split in the order of the upload
    classes: list[ClassCount]  # trained classes first
    warnings: Warnings
    bad: list[dict[str, str]]  # {file, code, detail} of the images that were skipped


def validate_upload(
    *,
    folder: Path,
    take: Callable[[int], None] = lambda size: None,
    settings: Settings,
    decoders: Decoders,
    archive: UploadFile | None = None,
    images: Sequence[UploadFile] = (),
    labels: Sequence[str] = (),
    test_images: Sequence[UploadFile] = (),
    test_labels: Sequence[str] = (),
    on_bad_image: Literal["fail", "skip"] = "fail",
    kept: StoredImages | None = None,
    trains: bool = True,
) -> ValidatedUpload:
    """Check a whole upload: decode every image and clean every class name.

    The result refers to the uploaded files, or to files in `folder`. Both must exist until they are stored.

    Args:
        folder: folder for the extracted archive.
        take: called with the number of bytes before they are written to `folder`. It may raise an error.
        decoders: decoders for the images.
        kept: images of an earlier job. They come first and determine the spelling of class names.
        trains: False allows any number of classes and of images per class.

    Raises:
        ArchiveError: the archive can't be used.
        InvalidUpload: anything else is wrong with the upload.
    """
    warnings: Warnings = []
    if archive is not None:
        candidates, warnings = _from_archive(archive, folder, settings, take)
    else:
        candidates = _from_lists(images, labels, test_images, test_labels)
    candidates = _merge_spellings([*(kept or ()), *candidates], warnings)
    if kept:
        detail = (
            "These corrections concern test images. They change the labels, but training does not use the "
            "images, so that the test stays fair: {names}"
        )
        held_out = [row.file_name for row in kept.rows if row.split == "test" and row.position in kept.moved]
        warn(warnings, "corrected_test_images", detail, held_out)
    if len(candidates) > settings.max_images:
        stored = f" with the {len(kept):,} stored ones" if kept else ""
        raise InvalidUpload(
            "too_many_images",
            f"There are {len(candidates):,} images{stored}. Send fewer: the maximum is "
            f"{settings.max_images:,}.",
            status=413,
        )
    files_kept = {candidate.data for candidate in kept or ()}
    shots: list[LabelledImage] = []
    bad: list[dict[str, str]] = []
    for are_stored in (False, True):  # stored images last, because only a good upload needs them
        if are_stored and kept:
            take(kept.bytes)
            kept.fetch()
        part = [candidate for candidate in candidates if (candidate.data in files_kept) == are_stored]
        good, unusable = check_candidates(part, settings, decoders)
        shots, bad = [*good, *shots], [*unusable, *bad]
        if bad and on_bad_image == "fail":
            raise InvalidUpload(
                "bad_images",
                f"{_count(len(bad), 'image')} can't be used; see errors. Replace or remove them, or send "
                "on_bad_image=skip to continue without them.",
                bad,
            )
    shots.sort(key=lambda shot: shot.split == "test")
    for error in bad[:MAX_REPORTED]:
        warnings.append({"code": "bad_image", "detail": f"{error['file']} was skipped: {error['detail']}"})
    if len(bad) > MAX_REPORTED:
        more = f"{len(bad) - MAX_REPORTED:,} more images were skipped."
        warnings.append({"code": "bad_image", "detail": more})
    if not trains and not shots:
        raise InvalidUpload("bad_images", "None of the images can be used; see errors.", bad)
    classes = _classes(candidates, shots, bad, warnings) if trains else []
    return ValidatedUpload(shots, classes, warnings, bad)


def _from_archive(
    archive: UploadFile, folder: Path, settings: Settings, take: Callable[[int], None]
) -> tuple[list[Candidate], Warnings]:
    limits = ArchiveLimits(
        max_images=settings.max_images,
        max_image_bytes=settings.max_image_bytes,
        max_bytes=settings.max_request_bytes,
        max_entries=max_files(settings),
    )
    entries, warnings = read_archive(archive.file, folder, limits, take)
    names = clean_folder_names((entry.class_name, entry.file_name) for entry in entries)
    candidates = [
        Candidate(e.split, names[e.class_name], display_name(e.file_name), e.data, e.problem) for e in entries
    ]
    return candidates, warnings


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


def _from_lists(
    images: Sequence[UploadFile],
    labels: Sequence[str],
    test_images: Sequence[UploadFile],
    test_labels: Sequence[str],
) -> list[Candidate]:
    splits: tuple[tuple[Split, str, Sequence[UploadFile], Sequence[str]], ...] = (
        ("train", "", images, labels),
        ("test", "test_", test_images, test_labels),
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
    candidates = []
    for split, prefix, files, names in splits:
        for index, (upload, label) in enumerate(zip(files, names, strict=True)):
            try:
                name = clean_class_name(label)
            except InvalidClassNames as error:
                pointer = f"/{prefix}labels/{index}"
                errors.append({"pointer": pointer, "code": error.code, "detail": error.detail})
                continue
            shown = display_name((upload.filename or "").replace("\\", "/").rpartition("/")[2])
            candidates.append(Candidate(split, name, shown or f"{prefix}images[{index}]", upload.file))
    if errors:
        raise _bad_names(errors)
    return candidates


def _bad_names(errors: Sequence[dict[str, str]]) -> InvalidUpload:
    detail = errors[0]["detail"]
    if len(errors) > 1:
        detail = f"{len(errors)} class names can't be used. Correct them; see errors."
    return InvalidUpload("invalid_class_names", detail, errors)


def _merge_spellings(candidates: list[Candidate], warnings: Warnings) -> list[Candidate]:
    """Sort training images first. Replace class names that differ only in case by their first spelling."""
    candidates = sorted(candidates, key=lambda candidate: candidate.split == "test")
    spellings: dict[str, dict[str, None]] = defaultdict(dict)
    for candidate in candidates:
        spellings[same_class(candidate.class_name)][candidate.class_name] = None
    merged = [list(names) for names in spellings.values() if len(names) > 1]
    for names in merged[:MAX_REPORTED]:
        detail = f"{name_list(names)} differ only in case and were merged into the class {names[0]!r}."
        warnings.append({"code": "merged_class_names", "detail": detail})
    if len(merged) > MAX_REPORTED:
        more = f"{len(merged) - MAX_REPORTED:,} more classes were merged."
        warnings.append({"code": "merged_class_names", "detail": more})
    first = {key: next(iter(names)) for key, names in spellings.items()}
    return [replace(c, class_name=first[same_class(c.class_name)]) for c in candidates]


def _classes(
    candidates: Sequence[Candidate],
    shots: Sequence[LabelledImage],
    bad: Sequence[dict[str, str]],
    warnings: Warnings,
) -> list[ClassCount]:
    trained: dict[str, ClassCount] = {}
    new: dict[str, ClassCount] = {}  # classes with test images only
    for candidate in candidates:  # training images come first
        name = candidate.class_name
        if candidate.split == "train":
            trained.setdefault(name, {"name": name, "images": 0, "test_images": 0})
        elif name not in trained:
            new.setdefault(name, {"name": name, "images": 0, "test_images": 0})
    classes = trained | new
    for shot in shots:
        classes[shot.class_name]["images" if shot.split == "train" else "test_images"] += 1

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
