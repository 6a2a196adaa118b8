"""Rendering of the report as a self-contained HTML page. The summary comes first."""

from collections.abc import Mapping
from datetime import datetime

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from api.jobs.report.style import FOLDER, STATIC, STYLE, STYLE_SOURCE
from clipcite.types.report import Accuracies, Interval, Report

LOGO = Markup((STATIC / "icon.svg").read_text(encoding="utf-8"))
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; img-src data:; style-src {STYLE_SOURCE}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
MAX_COLUMNS = 30
"""Maximum number of classes in a confusion matrix. A larger one is unreadable and left out."""
MAX_DISTRACTORS = 8
MAX_CHANGES = 12
"""Maximum number of images of `fixed`, and of `broken`, on the page."""


def shown_images(report: Report) -> set[int]:
    """Return the positions of the images on the page."""
    changes = (*report.fixed[:MAX_CHANGES], *report.broken[:MAX_CHANGES])
    return {image.position for image in (*changes, *report.label_issues, *report.mistakes)}


def render_page(
    report: Report,
    images: Mapping[int, str],
    *,
    name: str | None,
    backbone: str,
    date: datetime | None,
    service_url: str,
) -> str:
    """Return the page of a report.

    Args:
        report: the report.
        images: thumbnails as `data:` URLs, by position of the image.
        name: name of the job.
        backbone: the pre-trained model.
        date: end of the job.
        service_url: address of the web page, ending in "/".
    """
    return _TEMPLATE.render(
        report=report,
        title=f"Report on {name}" if name else "Report",
        style=Markup(STYLE),
        logo=LOGO,
        backbone=backbone,
        date=date and f"{date.day} {date:%B %Y}",
        link=f"{service_url}#/jobs/{report.job_id}",
        images=images,
        accuracies=_accuracies(report),
        max_changes=MAX_CHANGES,
        max_distractors=MAX_DISTRACTORS,
        confusion=report.confusion_matrix if len(report.classes) <= MAX_COLUMNS else None,
    )


def _accuracies(report: Report) -> list[tuple[str, Accuracies]]:
    further = len(report.distractor_classes)
    names = f"With {further} further name{'s' if further != 1 else ''}"
    rows = (
        ("Your trained classes to choose from", report.trained_classes),
        (names, report.overall if report.new_classes else report.all_classes),
    )
    return [(label, measured) for label, measured in rows if measured is not None]


def _percent(value: float) -> str:
    return f"{100 * value:.0f}"


def _points(value: Interval) -> tuple[str, ...]:
    """Return the value and its interval in signed percentage points: `+43`, `+31`, `+56`."""
    return tuple(f"{100 * x:+z.0f}".replace("-", "−") for x in (value.value, value.low, value.high))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, points=_points)
    return environment


_TEMPLATE = _environment().get_template("report.html.j2")
