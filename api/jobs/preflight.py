"""Preflight: finds faults in an upload's images and class names, and estimates its training beforehand.

The checks warn about faults but not about imperfections, because false alarms teach people to ignore
warnings. benchmarks/pages/preflight-and-preview.md has the precision of each check.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.jobs.class_names import is_uninformative, similar_names, twins
from api.jobs.upload import ValidatedUpload
from clipcite.types.adapt import Finding, Preflight
from clipcite.types.class_names import same_class
from clipcite.types.images import Image, ImageStats
from clipcite.types.jobs import ClassCounts
from clipcite.types.problems import Notice
from core.clip.checks.estimate import PastJob, estimate
from core.clip.checks.image_stats import MIN_CONTRAST
from core.clip.checks.near_duplicates import find_near_duplicates
from core.clip.config import AdaptConfig
from core.clip.models.recommend import find_speed, this_machine
from core.clip.models.sizes import training_memory
from core.settings import Settings
from core.store.jobs.stats import Succeeded

TINY = 24
"""Shorter side below which an image is tiny (pixels)."""
MIN_SIDE_FOR_SHARPNESS = 32
"""Minimum shorter side to measure sharpness (pixels)."""
BLURRED = 0.46
"""Sharpness below which an image is blurred."""
MIN_SUBJECT_SIDE = 36
"""Minimum side of the subject at the model's input resolution (pixels)."""
USUAL_SIZE = 224
"""Assumed input side of a model that is not loaded yet (pixels)."""
LONG = 3.0
"""Aspect ratio above which two thirds of an image lie outside the square that the model sees."""
UNBALANCED = 4
"""Ratio of the largest to the smallest class above which classes count as unbalanced."""


@dataclass(frozen=True)
class ImageFault:
    """A fault of one image."""

    code: str
    image: int
    """Index of the image."""
    detail: str
    other: int | None = None
    """Index of the image that this one duplicates."""


def preflight(
    upload: ValidatedUpload,
    config: AdaptConfig,
    past: list[Succeeded],
    *,
    more_warnings: list[dict[str, Any]],
    settings: Settings,
    skips_bad: bool,
) -> Preflight:
    """Return the preflight of a validated upload.

    Args:
        upload: the upload without its bad images.
        past: finished jobs, for the estimate.
        more_warnings: warnings about the settings.
        settings: settings of the service.
        skips_bad: True if the request allows bad images to be skipped.
    """
    images = upload.images
    findings = check_images(images, config.image_size)
    unreadable = [
        Finding(
            file=bad["file"], class_name=None, split=None, code=bad["code"], detail=bad["detail"], other=None
        )
        for bad in upload.bad
    ]
    upload_warnings = [w for w in upload.warnings if skips_bad or w["code"] != "bad_image"]
    warnings = [*upload_warnings, *more_warnings, *summarise(findings, images)]
    warnings += class_warnings([dict(count) for count in upload.classes], config.prompts)
    expected = estimate(
        config,
        *_counts(upload.classes),
        [PastJob(job.config, *_counts(job.classes), job.seconds) for job in past],
        find_speed(config.backbone, settings.cache, this_machine(settings.device, settings.cache)),
    )
    memory = training_memory(config, sum(c["images"] > 0 for c in upload.classes))
    return Preflight(
        acceptable=skips_bad or not unreadable,
        config=config.model_dump(),
        classes=[ClassCounts(**count) for count in upload.classes],
        images=len(images) + len(unreadable),
        good=len(images) - len({finding.image for finding in findings}),
        findings=[*unreadable, *(_shown(finding, images) for finding in findings)],
        warnings=[Notice(**warning) for warning in warnings],
        estimate=expected.model_copy(update={"memory_bytes": memory}),
    )


def _shown(finding: ImageFault, images: Sequence[Image]) -> Finding:
    image = images[finding.image]
    return Finding(
        file=image.file_name,
        class_name=image.class_name,
        split=image.split,
        code=finding.code,
        detail=finding.detail,
        other=None if finding.other is None else images[finding.other].file_name,
    )


def _counts(classes: Any) -> tuple[int, int]:
    """Return the numbers of training and test images."""
    return sum(c["images"] for c in classes), sum(c["test_images"] for c in classes)


def check_images(images: Sequence[Image], image_size: int | None) -> list[ImageFault]:
    """Check each image, and look for duplicates. Return the findings in the order of the images.

    Args:
        image_size: input side of the model (pixels); None if unknown.
    """
    findings = [
        finding for i, stats in enumerate(_stats(images)) for finding in _check_image(i, stats, image_size)
    ]
    findings += _find_duplicates(images)
    return sorted(findings, key=lambda finding: finding.image)


def _check_image(index: int, stats: ImageStats, image_size: int | None) -> list[ImageFault]:
    if stats.contrast < MIN_CONTRAST:
        return [ImageFault("blank", index, "The image is blank: all of one colour.")]
    findings = []
    side = stats.shorter_side
    if side < TINY:
        detail = f"The shorter side has {side} pixels; use an image with at least {TINY}."
        findings.append(ImageFault("tiny", index, detail))
    if side >= MIN_SIDE_FOR_SHARPNESS and stats.sharpness < BLURRED:
        detail = "The image has no sharp edge: out of focus, motion blur or enlarged."
        findings.append(ImageFault("blurred", index, detail))
    size = image_size or USUAL_SIZE
    subject = round(stats.subject_coverage**0.5 * size)
    if subject < MIN_SUBJECT_SIDE:
        detail = (
            f"The subject covers about {max(1, round(100 * stats.subject_coverage))}% of the image. At the "
            f"model's input of {size} x {size} pixels about {subject} x {subject} are left, so detail is "
            "lost. Crop the image closer to the subject."
        )
        findings.append(ImageFault("small_subject", index, detail))
    if stats.aspect_ratio > LONG:
        detail = (
            f"The image is {stats.aspect_ratio:.1f} times as long as it is wide, and the model sees only the "
            "square in the middle. Split the image, or crop it closer to the subject."
        )
        findings.append(ImageFault("elongated", index, detail))
    return findings


def _stats(images: Sequence[Image]) -> list[ImageStats]:
    """Return the statistics of the images. Every validated image has them."""
    stats = [image.stats for image in images if image.stats is not None]
    assert len(stats) == len(images)
    return stats


def _find_duplicates(images: Sequence[Image]) -> list[ImageFault]:
    """Find identical files and near duplicates."""
    first_of: dict[str, int] = {}
    findings = []
    for i, image in enumerate(images):
        first = first_of.setdefault(image.sha256, i)
        if first != i:
            findings.append(_duplicate(images, first, i, "Same file as"))
    distinct = sorted(first_of.values())
    for pair in find_near_duplicates(_stats([images[i] for i in distinct])):
        relation = "Mirror image of" if pair.mirrored else "Same image as"
        findings.append(_duplicate(images, distinct[pair.first], distinct[pair.second], relation))
    return findings


def _duplicate(images: Sequence[Image], first: int, second: int, relation: str) -> ImageFault:
    a, b = images[first], images[second]
    start = f"{relation} {a.file_name!r}"
    if same_class(a.class_name) != same_class(b.class_name):
        code = "duplicate_in_two_classes"
        detail = f"{start} in class {a.class_name!r}, so one of the two labels is wrong. Remove one."
    elif a.split != b.split:
        code = "duplicate_in_train_and_test"
        detail = f"{start} in the {a.split} split, which makes the evaluation too optimistic. Remove one."
    else:
        code = "duplicate"
        detail = f"{start}, so it adds nothing to the training."
    return ImageFault(code, second, detail, first)


def class_warnings(
    classes: Sequence[Mapping[str, Any]], prompts: Mapping[str, Sequence[str]]
) -> list[dict[str, str]]:
    """Return warnings about class names and about unbalanced classes.

    Args:
        classes: each class's `name` and `images`, its number of training images.
        prompts: custom prompts by class name. The names of classes with prompts are not checked.
    """
    warnings = []
    described = {same_class(name) for name in prompts}
    names = [str(c["name"]) for c in classes if same_class(str(c["name"])) not in described]
    vague = [name for name in names if is_uninformative(name)]
    if vague:
        example = json.dumps({"prompts": {vague[0]: ["a photo of …"]}}, ensure_ascii=False)
        detail = (
            f"{_listed(vague)}: the model reads class names, and these carry no meaning. Rename the classes, "
            f"or describe them in config: {example}."
        )
        warnings.append({"code": "vague_class_names", "detail": detail})
    close = similar_names(names)
    if close:
        pairs = [f"{a!r} and {b!r}{_twin_text(a, b)}" for a, b in close]
        more = f" and {len(pairs) - 5} more pairs" if len(pairs) > 5 else ""
        detail = (
            f"{', '.join(pairs[:5])}{more} are nearly the same name. Merge them if they are one class; "
            "otherwise set `prompts` in config that distinguish them."
        )
        warnings.append({"code": "similar_class_names", "detail": detail})
    counts = {str(c["name"]): int(c["images"]) for c in classes if c["images"]}
    if counts and max(counts.values()) >= UNBALANCED * min(counts.values()):
        largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        detail = (
            f"{largest!r} has {counts[largest]} training images and {smallest!r} {counts[smallest]}. The "
            "model makes up for part of that, but it will recognise small classes less often. Add images "
            "to them."
        )
        warnings.append({"code": "unbalanced_classes", "detail": detail})
    return warnings


def _twin_text(a: str, b: str) -> str:
    """Return a note on the Cyrillic or Greek look-alike letters if exactly one name has any, else ""."""
    of_a, of_b = twins(a), twins(b)
    if bool(of_a) == bool(of_b):
        return ""
    name, letters = (a, of_a) if of_a else (b, of_b)
    script = unicodedata.name(letters[0]).partition(" ")[0].capitalize()
    return f" ({script} letters in {name!r}: {', '.join(letters)})"


_SUMMARIES = {
    "duplicate_in_two_classes": (
        "duplicates_two_classes",
        "{n} (nearly) identical to one of another class, so one of the labels is wrong: {names}.",
    ),
    "duplicate_in_train_and_test": (
        "duplicates_train_and_test",
        "{n} (nearly) identical in train and test, which makes the evaluation too optimistic: {names}.",
    ),
    "duplicate": (
        "duplicates",
        "{n} (nearly) identical to another of the same class, so training gains nothing from it: {names}.",
    ),
    "blank": ("blank_images", "{n} blank, all of one colour. Remove or replace: {names}."),
    "tiny": ("tiny_images", "{n} too small for training: {names}."),
    "blurred": ("blurred_images", "{n} blurred (out of focus, motion blur or enlarged): {names}."),
    "small_subject": (
        "small_subjects",
        "{n} of a very small subject, whose detail is lost; crop closer to the subject: {names}.",
    ),
    "elongated": (
        "elongated_images",
        "{n} too elongated, so the model sees only the middle: {names}.",
    ),
}


def summarise(findings: Sequence[ImageFault], images: Sequence[Image]) -> list[dict[str, str]]:
    """Return one warning for each kind of finding."""
    count = Counter(finding.code for finding in findings)
    warnings = []
    for kind, (code, text) in _SUMMARIES.items():
        if not count[kind]:
            continue
        names = [_named(finding, images) for finding in findings if finding.code == kind]
        number = "1 image is" if count[kind] == 1 else f"{count[kind]:,} images are"
        detail = text.replace("{n}", number).replace("{names}", _listed(names))
        warnings.append({"code": code, "detail": detail})
    return warnings


def _named(finding: ImageFault, images: Sequence[Image]) -> str:
    image = images[finding.image]
    if finding.other is None or not finding.code.endswith("two_classes"):
        return image.file_name
    other = images[finding.other]
    return f"{other.class_name}: {other.file_name} = {image.class_name}: {image.file_name}"


def _listed(names: Sequence[str], max_count: int = 5) -> str:
    shown = ", ".join(repr(name if len(name) <= 120 else name[:119] + "…") for name in names[:max_count])
    return shown + (f" and {len(names) - max_count} more" if len(names) > max_count else "")
