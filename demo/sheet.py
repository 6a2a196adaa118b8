"""The HTML sheet of the images whose answer changed: gains and losses alike, in one file."""

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
"""Cards in one section: a sheet of thousands is no use to anyone."""
SECTIONS: tuple[tuple[Change, str], ...] = (
    ("gained", "Wrong before, right now"),
    ("lost", "Right before, wrong now"),
    ("still_wrong", "Wrong before and now, with another answer"),
)


def write_sheet(folder: Path, result: Result, notes: Sequence[str]) -> Path:
    """Write `index.html`, which needs no other file. `notes` stand at its end."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(sheet(result, notes), encoding="utf-8")
    return path


def sheet(result: Result, notes: Sequence[str]) -> str:
    of_change = {change: [c for c in result.changed if c.change == change] for change, _ in SECTIONS}
    right, wrong = result.unchanged()
    counts = "\n".join(
        f"<li><strong>{len(of_change[change])}</strong> {title.lower()}</li>" for change, title in SECTIONS
    )
    css = Path(__file__).with_name("sheet.css").read_text(encoding="utf-8")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>CLIP-CITE demo: what changed</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>",
        "<h1>What the adaptation changed</h1>",
        f"<p><strong>{escape(_capital(verdict_words(result)))}.</strong></p>",
        _table(result),
        f"<p>Of {len(result.images.test)} held-out images, with all {len(result.images.names)} names "
        f"allowed, {len(result.changed)} got another answer:</p>\n<ul>\n{counts}\n</ul>",
        f"<p>The others kept theirs: {right} right, {wrong} wrong.</p>",
        f'<p class="quiet">Trained names: {_list(result.images.trained_classes)}.'
        + (f" New names: {_list(result.images.new_classes)}." if result.images.new_classes else "")
        + "</p>",
    ]
    for change, title in SECTIONS:
        parts.append(_section(title, of_change[change], set(result.images.trained_classes)))
    parts.append("</main>\n<footer>")
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    parts.append("</footer>\n</body>\n</html>\n")
    return "\n".join(parts)


def _table(result: Result) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("names to choose from", "images", "stock", "adapted", "difference, 95&nbsp;% interval")
    )
    lines = []
    for what, comparison in rows(result):
        cells = (
            escape(what.strip()),
            str(len(comparison.stock_right)),
            percent(comparison.stock),
            percent(comparison.adapted),
            points(comparison.difference()),
        )
        headline = ' class="headline"' if comparison is result.comparison.mixed else ""
        what_cell, *figures = cells
        lines.append(
            f'<tr{headline}><th scope="row">{what_cell}</th>'
            + "".join(f"<td>{figure}</td>" for figure in figures)
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
        f"{_answer('stock', changed.stock_name, changed.stock_probability, truth)}"
        f"{_answer('adapted', changed.adapted_name, changed.adapted_probability, truth)}</div></li>"
    )


def _answer(network: str, name: str, probability: float, truth: str) -> str:
    # A sign besides the colour: not everybody sees the one, not every reader reads the other.
    sign, look = ("✓", "right") if name == truth else ("✗", "wrong")
    return f'<span class="{look}">{sign} {network}: {escape(name)}, {100 * probability:.0f}&nbsp;%</span>'


def thumbnail(data: bytes) -> str:
    """A small JPEG as a data URI."""
    image = open_image(data, shortest_side=SIDE)
    image.thumbnail((SIDE, SIDE))
    jpeg = BytesIO()
    image.save(jpeg, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(escape(name) for name in names)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
