"""Rendering of the report as a self-contained HTML page, with the summary on top."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from api.jobs.report.charts import alpha_curve, reliability_chart
from api.jobs.report.schemas import Accuracies, Interval, Report

FOLDER = Path(__file__).parent
STYLE = (FOLDER / "report.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
MAX_COLUMNS = 30
"""Maximum classes in a confusion matrix. Larger ones are unreadable and left out."""
MAX_DISTRACTORS = 8


def render_page(report: Report, name: str | None, images: Mapping[int, str]) -> str:
    """Return the page of a report.

    Args:
        report: the report.
        name: name of the job.
        images: thumbnails as `data:` URLs, by position of the image.
    """
    return _TEMPLATE.render(
        report=report,
        title=f"Report on {name}" if name else "Report",
        style=Markup(STYLE),
        images=images,
        accuracies=_accuracies(report),
        max_distractors=MAX_DISTRACTORS,
        confusion=report.confusion if len(report.classes) <= MAX_COLUMNS else None,
        text_similarity=min((point.text_similarity for point in report.curve), default=1.0),
        alpha_curve=alpha_curve(report.curve, report.alpha),
        reliability_chart=reliability_chart(report.calibration.bins),
    )


def _accuracies(report: Report) -> list[tuple[str, Accuracies]]:
    rows = (
        ("Trained classes as candidates", report.trained_classes),
        (f"With {len(report.distractor_classes)} distractor classes", report.all_classes),
        ("Images of new classes", report.new_classes),
    )
    return [(label, measured) for label, measured in rows if measured is not None]


def _percent(value: float) -> str:
    return f"{100 * value:.0f}"


def _points(value: Interval) -> tuple[str, ...]:
    """Return the value and its interval in signed percentage points: `+43`, `+31`, `+56`."""
    return tuple(_signed(100 * x, 0) for x in (value.value, value.low, value.high))


def _brier(value: Interval) -> tuple[str, ...]:
    return tuple(_signed(x, 2) for x in (value.value, value.low, value.high))


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, points=_points, brier=_brier)
    return environment


_TEMPLATE = _environment().get_template("report.html.j2")
