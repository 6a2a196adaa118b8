"""What a look at the images and the class names of an adaptation says before anything is trained.

It warns where something is wrong, and is silent about what is merely not perfect: who is warned wrongly
stops reading. How often it is right: "Preflight" in benchmarks/README.md.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.clip.checks.class_names import is_uninformative, similar_names
from core.clip.checks.image_stats import MIN_CONTRAST, ImageStats
from core.clip.checks.near_duplicates import find_near_duplicates
from core.clip.prompts import same_class

TINY = 24
"""Pixels of the shorter side below which an image is tiny."""
JUDGED_FROM = 32
"""Pixels of the shorter side from which edges can be judged."""
BLURRED = 0.46
"""Sharpness below which an image is blurred."""
MIN_SUBJECT_SIDE = 36
"""Pixels, at the network's resolution, that the subject's side should have."""
USUAL_SIZE = 224
"""Of a network whose resolution is not known before it is loaded."""
LONG = 3.0
"""Of an image longer than so many times its height, two thirds are never seen: the middle square is."""
UNBALANCED = 4
"""Times as many images in the largest class as in the smallest."""


@dataclass(frozen=True)
class CheckedImage:
    """One image, and what is known of it."""

    file_name: str
    class_name: str
    split: Literal["train", "test"]
    sha256: str
    stats: ImageStats


@dataclass(frozen=True)
class Finding:
    """Something about one image that its owner should look at."""

    code: str
    image: int
    """Its index."""
    detail: str
    other: int | None = None
    """The index of the image that it is a copy of."""


def check_images(images: Sequence[CheckedImage], image_size: int | None) -> list[Finding]:
    """In the order of the images. `image_size` is the side of the network's input, None if unknown."""
    found = [finding for i, p in enumerate(images) for finding in _alone(i, p.stats, image_size)]
    found += _copies(images)
    return sorted(found, key=lambda finding: finding.image)


def _alone(index: int, stats: ImageStats, image_size: int | None) -> list[Finding]:
    if stats.contrast < MIN_CONTRAST:
        return [Finding("blank", index, "There is nothing to see: it is all of one colour.")]
    found = []
    side = stats.shorter_side
    if side < TINY:
        detail = f"Its shorter side has {side} pixels; from {TINY} on there is something to learn from it."
        found.append(Finding("tiny", index, detail))
    if side >= JUDGED_FROM and stats.sharpness < BLURRED:
        found.append(
            Finding("blurred", index, "It is out of focus, moved or enlarged: no edge in it is sharp.")
        )
    size = image_size or USUAL_SIZE
    subject = round(stats.subject_coverage**0.5 * size)
    if subject < MIN_SUBJECT_SIDE:
        detail = (
            f"What there is to see takes up about {max(1, round(100 * stats.subject_coverage))} % of it. "
            f"The network looks at {size} x {size} pixels, of which that is some {subject} x {subject}: its "
            "detail "
            "vanishes. Cut the image closer."
        )
        found.append(Finding("small_subject", index, detail))
    if stats.aspect_ratio > LONG:
        detail = (
            f"It is {stats.aspect_ratio:.1f} times as long as it is wide. To classify, the network looks at "
            "the square in its middle only. Cut it into several, or closer."
        )
        found.append(Finding("elongated", index, detail))
    return found


def _copies(images: Sequence[CheckedImage]) -> list[Finding]:
    """The same file, or the same image in another file, twice."""
    first_of: dict[str, int] = {}
    found = []
    for i, image in enumerate(images):
        first = first_of.setdefault(image.sha256, i)
        if first != i:
            found.append(_copy(images, first, i, "The same file as"))
    kept = sorted(first_of.values())
    for twin in find_near_duplicates([images[i].stats for i in kept]):
        how = "The mirror image of" if twin.mirrored else "The same image as"
        found.append(_copy(images, kept[twin.first], kept[twin.second], how))
    return found


def _copy(images: Sequence[CheckedImage], first: int, second: int, how: str) -> Finding:
    a, b = images[first], images[second]
    exactly = "" if a.sha256 == b.sha256 else "near_"
    what = f"{how} {a.file_name!r}"
    if same_class(a.class_name) != same_class(b.class_name):
        code = f"{exactly}duplicate_in_two_classes"
        detail = f"{what} of the class {a.class_name!r}: one of the two labels must be wrong."
    elif a.split != b.split:
        code = f"{exactly}duplicate_in_train_and_test"
        detail = f"{what}, which is in {a.split}: the measurement will look better than it is."
    else:
        code = f"{exactly}duplicate"
        detail = f"{what}, from which nothing more is learned."
    return Finding(code, second, detail, first)


def class_warnings(
    classes: Sequence[Mapping[str, Any]], prompts: Mapping[str, Sequence[str]]
) -> list[dict[str, str]]:
    """What is odd about the classes.

    Args:
        classes: `name`, and `images`, the number of training images.
        prompts: sentences by class name, as in the configuration: a name that has some need not tell.
    """
    warnings = []
    told = {same_class(name) for name in prompts}
    names = [str(c["name"]) for c in classes if same_class(str(c["name"])) not in told]
    vague = [name for name in names if is_uninformative(name)]
    if vague:
        example = json.dumps({"prompts": {vague[0]: ["a photo of …"]}}, ensure_ascii=False)
        detail = (
            f"{_listed(vague)}: the network reads class names, and these tell it nothing. Rename them, or "
            f"say in config what they are: {example}."
        )
        warnings.append({"code": "vague_class_names", "detail": detail})
    close = similar_names(names)
    if close:
        pairs = [f"{a!r} and {b!r}" for a, b in close]
        more = f" and {len(pairs) - 5} more pairs" if len(pairs) > 5 else ""
        detail = (
            f"{', '.join(pairs[:5])}{more} are nearly the same name. If they are one class, merge them; else "
            "give `prompts` in config that tell them apart."
        )
        warnings.append({"code": "similar_class_names", "detail": detail})
    counts = {str(c["name"]): int(c["images"]) for c in classes if c["images"]}
    if counts and max(counts.values()) >= UNBALANCED * min(counts.values()):
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        detail = (
            f"{most!r} has {counts[most]} training images and {least!r} {counts[least]}: the network will "
            f"lean to the larger classes. Add images to the small ones."
        )
        warnings.append({"code": "unbalanced_classes", "detail": detail})
    return warnings


_SUMMARIES = {
    "duplicate_in_two_classes": (
        "duplicates_two_classes",
        "{n} sent under more than one class, so one label of each must be wrong: {names}.",
    ),
    "near_duplicate_in_two_classes": (
        "near_duplicates_two_classes",
        "{n} nearly the same as one of another class, so one of the labels must be wrong: {names}.",
    ),
    "duplicate_in_train_and_test": (
        "duplicates_train_and_test",
        "{n} in both train and test, so the measurement will look too good: {names}.",
    ),
    "near_duplicate_in_train_and_test": (
        "near_duplicates_train_and_test",
        "{n} nearly the same in train and test, so the measurement will look too good: {names}.",
    ),
    "duplicate": ("duplicates", "{n} copies of another of their class: {names}."),
    "near_duplicate": (
        "near_duplicates",
        "{n} nearly the same as another of their class, and teach nothing more: {names}.",
    ),
    "blank": ("blank_images", "{n} of one colour, with nothing to see: {names}."),
    "tiny": ("tiny_images", "{n} too small to learn much from: {names}."),
    "blurred": ("blurred_images", "{n} out of focus, moved or enlarged: {names}."),
    "small_subject": (
        "small_subjects",
        "{n} of something so small that its detail vanishes for the network; cut them closer: {names}.",
    ),
    "elongated": (
        "elongated_images",
        "{n} so long that the network sees only their middle: {names}.",
    ),
}


def summarise(findings: Sequence[Finding], images: Sequence[CheckedImage]) -> list[dict[str, str]]:
    """One warning for each kind of finding, however many images it is about."""
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


def _named(finding: Finding, images: Sequence[CheckedImage]) -> str:
    of = images[finding.image]
    if finding.other is None or not finding.code.endswith("two_classes"):
        return of.file_name
    other = images[finding.other]
    return f"{other.class_name}: {other.file_name} = {of.class_name}: {of.file_name}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(name if len(name) <= 120 else name[:119] + "…") for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
