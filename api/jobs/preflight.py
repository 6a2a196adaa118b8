"""Preflight of an upload: findings, warnings and an estimate, before training."""

from typing import Any

from api.jobs.upload import ValidatedUpload
from clipcite.wire.adapt import Estimate, Finding, Preflight
from clipcite.wire.jobs import ClassCounts
from clipcite.wire.problems import Notice
from core.clip.checks import preflight as checks
from core.clip.checks.estimate import PastJob, estimate
from core.clip.checks.preflight import CheckedImage, check_images, class_warnings, summarise
from core.clip.config import AdaptConfig
from core.clip.models.recommend import find_speed, this_machine
from core.clip.models.sizes import training_memory
from core.settings import Settings
from core.store.jobs.stats import Succeeded


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
    images = [CheckedImage(s.file_name, s.class_name, s.split, s.sha256, s.stats) for s in upload.images]
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
    return Preflight(
        acceptable=skips_bad or not unreadable,
        config=config.to_dict(),
        classes=[ClassCounts(**count) for count in upload.classes],
        images=len(images) + len(unreadable),
        good=len(images) - len({finding.image for finding in findings}),
        findings=[*unreadable, *(_shown(finding, images) for finding in findings)],
        warnings=[Notice(**warning) for warning in warnings],
        estimate=Estimate(
            **vars(expected),
            memory_bytes=training_memory(config, sum(c["images"] > 0 for c in upload.classes)),
        ),
    )


def _shown(finding: checks.ImageFault, images: list[CheckedImage]) -> Finding:
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
