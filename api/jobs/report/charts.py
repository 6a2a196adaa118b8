"""SVG charts of the report: the α curve and the reliability diagram."""

from collections.abc import Sequence

from markupsafe import Markup

from clipcite.wire.report import Bin, CurvePoint

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 150, 12, 34
Point = tuple[float, float]


def alpha_curve(points: Sequence[CurvePoint], alpha: float) -> Markup:
    """Draw accuracy against α, from the stock model (0) to the fine-tuned one (1)."""
    lines: list[tuple[str, str, list[tuple[float, float | None]]]] = [
        ("trained classes", "a", [(p.alpha, p.trained_classes) for p in points]),
        ("all classes", "b", [(p.alpha, p.all_classes) for p in points]),
        ("new classes", "c", [(p.alpha, p.new_classes) for p in points]),
    ]
    drawn, labels = [], []
    for name, style, line in lines:
        known = [(x, y) for x, y in line if y is not None]
        if known:
            drawn.append(f'<polyline class="line {style}" points="{_path(known)}"/>')
            drawn += [f'<circle class="dot {style}" cx="{_x(x)}" cy="{_y(y)}" r="3"/>' for x, y in known]
            labels.append((_y(known[-1][1]), name, style))
    drawn += [
        f'<text class="{style}" x="{WIDTH - RIGHT + 8}" y="{y}">{name}</text>'
        for y, name, style in _apart(labels)
    ]
    mark = f'<line class="chosen" x1="{_x(alpha)}" x2="{_x(alpha)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return _svg(
        "Accuracy by alpha", "alpha: 0 is pre-trained, 1 is fine-tuned", "accuracy", mark + "".join(drawn)
    )


def reliability_chart(bins: Sequence[Bin]) -> Markup:
    """Draw accuracy against confidence. Perfectly calibrated probabilities are on the diagonal."""
    diagonal = f'<line class="grid" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    max_images = max((b.images for b in bins), default=1)
    dots = [
        f'<circle class="dot a" cx="{_x(b.confidence)}" cy="{_y(b.accuracy)}" '
        f'r="{3 + 7 * (b.images / max_images) ** 0.5:.1f}"><title>{b.images} images</title></circle>'
        for b in bins
    ]
    label = f'<text x="{WIDTH - RIGHT + 8}" y="{_y(1) + 4}">calibrated</text>'
    return _svg(
        "Reliability",
        "predicted probability",
        "share of correct predictions",
        diagonal + label + "".join(dots),
    )


def _svg(title: str, x_axis: str, y_axis: str, content: str) -> Markup:
    """Return a chart as trusted markup. It contains no user's text, only words and numbers of this module."""
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(s)}" y2="{_y(s)}"/>'
        f'<text x="{LEFT - 6}" y="{_y(s) + 4}" text-anchor="end">{round(100 * s)}%</text>'
        f'<text x="{_x(s)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{s:g}</text>'
        for s in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    across, down = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{grid}'
        f'<text x="{across}" y="{HEIGHT - 3}" text-anchor="middle">{x_axis}</text>'
        f'<text transform="translate(12 {down}) rotate(-90)" text-anchor="middle">{y_axis}</text>'
        f"{content}</svg>"
    )


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{_x(x)},{_y(y)}" for x, y in points)


def _apart(labels: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Move overlapping labels down."""
    placed: list[tuple[float, str, str]] = []
    for y, name, style in sorted(labels):
        lowest = placed[-1][0] + 17 if placed else 0.0
        placed.append((max(y + 4, lowest), name, style))
    return placed
