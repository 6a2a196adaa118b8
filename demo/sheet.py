"""HTML page of the images whose prediction changed, for better or worse, in one file."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

from core.clip.data.images import open_image
from demo.compare import Change, Changed, Result
from demo.report import percent, points, rows, verdict_words

SIDE = 200
MAX_CARDS = 300
"""Maximum cards per section."""
SECTIONS: tuple[tuple[Change, str], ...] = (
    ("gained", "Wrong before, correct now"),
    ("lost", "Correct before, wrong now"),
    ("still_wrong", "Wrong before and now, with a different prediction"),
)


def write_sheet(folder: Path, result: Result, notes: Sequence[str]) -> Path:
    """Write a self-contained `index.html` that ends with `notes`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(sheet(result, notes), encoding="utf-8")
    return path


def sheet(result: Result, notes: Sequence[str]) -> str:
    """Return the page."""
    by_change = {change: [c for c in result.changed if c.change == change] for change, _ in SECTIONS}
    correct, wrong = result.unchanged()
    counts = "\n".join(
        f"<li><strong>{len(by_change[change])}</strong> {title.lower()}</li>" for change, title in SECTIONS
    )
    css = Path(__file__).with_name("sheet.css").read_text(encoding="utf-8")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>CLIP-CITE demo: changes</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>",
        "<h1>Changes by the adaptation</h1>",
        f"<p><strong>{escape(_capital(verdict_words(result)))}.</strong></p>",
        _table(result),
        f"<p>{len(result.changed)} of {len(result.images.test)} held-out images have a different prediction, "
        f"with all {len(result.images.names)} classes as candidates:</p>\n<ul>\n{counts}\n</ul>",
        f"<p>Unchanged predictions: {correct} correct, {wrong} wrong.</p>",
        f'<p class="quiet">Trained classes: {_list(result.images.trained_classes)}.'
        + (f" New classes: {_list(result.images.new_classes)}." if result.images.new_classes else "")
        + "</p>",
    ]
    for change, title in SECTIONS:
        parts.append(_section(title, by_change[change], set(result.images.trained_classes)))
    parts.append("</main>\n<footer>")
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    parts.append("</footer>\n</body>\n</html>\n")
    return "\n".join(parts)


def _table(result: Result) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("candidate classes", "images", "stock", "adapted", "difference, 95% CI")
    )
    lines = []
    for label, comparison in rows(result):
        cells = (
            escape(label.strip()),
            str(len(comparison.stock_correct)),
            percent(comparison.stock),
            percent(comparison.adapted),
            points(comparison.difference()),
        )
        headline = ' class="headline"' if comparison is result.comparison.mixed else ""
        label_cell, *numbers = cells
        lines.append(
            f'<tr{headline}><th scope="row">{label_cell}</th>'
            + "".join(f"<td>{number}</td>" for number in numbers)
            + "</tr>"
        )
    body = "\n".join(lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _section(title: str, changed: Sequence[Changed], trained: set[str]) -> str:
    heading = f"<section>\n<h2>{escape(title)}: {len(changed)}</h2>"
    if not changed:
        return f'{heading}\n<p class="quiet">None.</p>\n</section>'
    cards = "\n".join(_card(c, trained) for c in changed[:MAX_CARDS])
    more = f'\n<p class="quiet">And {len(changed) - MAX_CARDS} more.</p>' if len(changed) > MAX_CARDS else ""
    return f'{heading}\n<ul class="cards">\n{cards}\n</ul>{more}\n</section>'


def _card(changed: Changed, trained: set[str]) -> str:
    truth = changed.image.class_name
    kind = "" if truth in trained else " (new)"
    alt = f"{truth}, {changed.image.name}"
    return (
        f'<li><img src="{thumbnail(changed.image.read())}" alt="{escape(alt)}" loading="lazy">'
        f"<div><strong>{escape(truth)}{kind}</strong>"
        f"{_prediction('stock', changed.stock_name, changed.stock_probability, truth)}"
        f"{_prediction('adapted', changed.adapted_name, changed.adapted_probability, truth)}</div></li>"
    )


def _prediction(model: str, name: str, probability: float, truth: str) -> str:
    # A sign beside the colour, for accessibility.
    sign, look = ("✓", "right") if name == truth else ("✗", "wrong")
    return f'<span class="{look}">{sign} {model}: {escape(name)}, {100 * probability:.0f}%</span>'


def thumbnail(data: bytes) -> str:
    """Return a small JPEG as a data URI."""
    image = open_image(data, shortest_side=SIDE)
    image.thumbnail((SIDE, SIDE))
    jpeg = BytesIO()
    image.save(jpeg, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(escape(name) for name in names)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
