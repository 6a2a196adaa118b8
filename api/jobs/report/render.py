"""The report as a page: what a person reads first is on top. It refers to nothing outside itself."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from api.jobs.report.charts import alpha_curve, reliability_chart
from api.jobs.report.schemas import AccuraciesOut, IntervalOut, PictureReport, ReportOut

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --quiet: #59636e; --line: #d1d9e0; --card: #f6f8fa;
  --good: #116329; --bad: #a40e26; --a: #0550ae; --b: #8250df; --c: #953800;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0d1117; --ink: #e6edf3; --quiet: #9198a1; --line: #3d444d; --card: #161b22;
    --good: #56d364; --bad: #ff7b72; --a: #79c0ff; --b: #d2a8ff; --c: #ffa657;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 64rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
}
h1 { margin: 0 0 .5rem; font-size: 1.4rem; line-height: 1.3; }
h2 { margin: 2rem 0 .25rem; font-size: 1.15rem; }
p { margin: .5rem 0; max-width: 46rem; }
.quiet, footer { color: var(--quiet); font-size: .9rem; }
.better { color: var(--good); }
.worse { color: var(--bad); }
ul.advice { padding-left: 1.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
td { white-space: nowrap; }
th:first-child { text-align: left; }
tbody th { min-width: 8rem; font-weight: normal; overflow-wrap: break-word; }
td.right { font-weight: 700; color: var(--good); }
td.wrong { font-weight: 700; color: var(--bad); }
td.none { color: var(--quiet); }
ul.pictures {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem;
  margin: .75rem 0; padding: 0; list-style: none;
}
ul.pictures li {
  border: 1px solid var(--line); border-radius: .5rem; background: var(--card); overflow: hidden;
  break-inside: avoid;
}
ul.pictures img { display: block; width: 100%; height: 9rem; object-fit: contain; background: #fff; }
ul.pictures div { padding: .4rem .6rem; font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere; }
svg { width: 100%; max-width: 36rem; height: auto; font-size: 11px; }
svg text { fill: var(--quiet); }
.grid { stroke: var(--line); }
.chosen { stroke: var(--ink); stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 2; }
.line.a { stroke: var(--a); } .dot.a, text.a { fill: var(--a); }
.line.b { stroke: var(--b); } .dot.b, text.b { fill: var(--b); }
.line.c { stroke: var(--c); } .dot.c, text.c { fill: var(--c); }
footer { margin-top: 2.5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  table, svg { break-inside: avoid; }
}
"""


_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
MAX_COLUMNS = 30
"""Of a confusion matrix that people can read."""
OTHERS_SHOWN = 8


def render_page(report: ReportOut, name: str | None, pictures: Mapping[int, str]) -> str:
    """Args:
    pictures: `data:` URLs by position.
    """
    title = f"Report on {name}" if name else "Report"
    sections = (
        _top(report),
        _accuracies(report),
        _suspects(report, pictures),
        _classes(report),
        _confusion(report),
        _mistakes(report, pictures),
        _curve(report),
        _calibration(report),
    )
    took = report.seconds
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<p class="quiet">{escape(title)}</p>{"".join(sections)}</main>'
        f"<footer>{escape(report.job_id)} · {escape(report.model_id)} · alpha {report.alpha:g} · training "
        f"{took.training:.0f} s, report {took.report:.0f} s</footer></body></html>"
    )


def _top(report: ReportOut) -> str:
    advice = "".join(f"<li>{escape(a.detail)}</li>" for a in report.advice)
    return (
        f'<h1 class="{report.verdict}">{escape(report.headline)}</h1><ul class="advice">{advice}</ul>'
        f'<p class="quiet">{escape(report.measured_on.how)}</p>'
    )


def _accuracies(report: ReportOut) -> str:
    some = ", ".join(report.other_names[:OTHERS_SHOWN])
    rows = (
        ("Only the trained names to choose from", report.trained_names),
        (f"{len(report.other_names)} other names as well", report.all_names),
        ("Pictures of new names", report.new_names),
    )
    body = "".join(_accuracy_row(label, measured) for label, measured in rows if measured is not None)
    if not body:
        return ""
    return (
        _table(
            "How many pictures are named rightly",
            ("pictures", "stock", "preview", "adapted", "adapted − stock"),
            body,
        )
        + '<p class="quiet">In brackets the 95 % interval; differences are in points. The preview is a '
        f"classifier without training. The other names: {escape(some)}"
        f"{' …' if len(report.other_names) > OTHERS_SHOWN else '.'}{_brier(report.brier_gain)}</p>"
    )


def _brier(of: IntervalOut | None) -> str:
    if of is None:
        return ""
    shown = (f"{x:+.2f}".replace("-", "−") for x in (of.value, of.low, of.high))
    how = "{} [{}, {}]".format(*shown)
    return f" Its probabilities are nearer to the truth by {how} (Brier score)."


def _accuracy_row(label: str, measured: AccuraciesOut) -> str:
    cells = [_percent(measured.stock), _percent(measured.preview)]
    gain = measured.adapted_against_stock
    cells += [_percent(measured.adapted) if measured.adapted else "–", _points(gain) if gain else "–"]
    return (
        f"<tr><th>{escape(label)}</th><td>{measured.images}</td>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _suspects(report: ReportOut, pictures: Mapping[int, str]) -> str:
    if not report.suspects:
        return ""
    return (
        "<h2>Training pictures to look at</h2><p>Networks that had not seen them take these for another "
        "class than the one that was given. Some of the labels may be wrong.</p>"
        + _gallery(report.suspects, pictures, "given as", "looks like")
    )


def _classes(report: ReportOut) -> str:
    rows = "".join(
        f"<tr><th>{escape(c.name)}</th><td>{c.trained_images}</td><td>{c.images}</td>"
        f"<td>{_share(c.recall)}</td><td>{_share(c.stock_recall)}</td><td>{_share(c.precision)}</td></tr>"
        for c in report.classes
    )
    return (
        _table("Class by class", ("trained on", "asked about", "recall", "recall, stock", "precision"), rows)
        + '<p class="quiet">Recall: how many of its pictures get the name. '
        "Precision: how many of the pictures that get the name are its own.</p>"
    )


def _confusion(report: ReportOut) -> str:
    if report.confusion is None or len(report.classes) > MAX_COLUMNS:
        return ""
    names = [c.name for c in report.classes]

    def cell(i: int, j: int, count: int) -> str:
        kind = "none" if not count else "right" if i == j else "wrong"
        return f'<td class="{kind}">{count}</td>'

    rows = "".join(
        f"<tr><th>{escape(names[i])}</th>{''.join(cell(i, j, n) for j, n in enumerate(row))}</tr>"
        for i, row in enumerate(report.confusion)
    )
    words = '<p class="quiet">A row for each class, a column for each answer.</p>'
    return _table("What is taken for what", names, rows, words)


def _table(heading: str, columns: Sequence[str], rows: str, words: str = "") -> str:
    """Under its heading, in a box that is scrolled on a phone, by keyboard too."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return (
        f'<h2>{heading}</h2>{words}<div class="wide" role="region" aria-label="{heading}" tabindex="0">'
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _mistakes(report: ReportOut, pictures: Mapping[int, str]) -> str:
    if not report.mistakes:
        return ""
    return "<h2>The surest wrong answers</h2>" + _gallery(report.mistakes, pictures, "is", "named")


def _gallery(shown: Sequence[PictureReport], pictures: Mapping[int, str], is_: str, named: str) -> str:
    def card(picture: PictureReport) -> str:
        url = pictures.get(picture.position)
        file = escape(picture.file_name or f"picture {picture.position}")
        image = f'<img src="{url}" alt="{file}">' if url else ""
        return (
            f"<li>{image}<div>{is_} <b>{escape(picture.class_name)}</b>, {named} "
            f"<b>{escape(picture.answered)}</b> ({100 * picture.probability:.0f} %)<br>"
            f'<span class="quiet">{file}</span></div></li>'
        )

    return f'<ul class="pictures">{"".join(map(card, shown))}</ul>'


def _curve(report: ReportOut) -> str:
    text = min((p.text_similarity for p in report.curve), default=1.0)
    return (
        "<h2>From stock to fine-tuned</h2><p>alpha mixes the stock network (0) and the fine-tuned one (1). "
        "More of it knows the trained names better and forgets more of the rest; the dashed line is where "
        "this "
        f"model stands. /classify takes any other.</p>{alpha_curve(report.curve, report.alpha)}<p "
        f'class="quiet">The text features of 50 untrained names keep a cosine of at least {text:.3f} with '
        "those of the stock network.</p>"
    )


def _calibration(report: ReportOut) -> str:
    of = report.calibration
    if of.error_before is None:
        return ""
    said = (
        f"Probabilities are off by {100 * of.error_before:.0f} points on average. There were too few "
        "pictures (30 are needed) to correct that."
    )
    if of.calibrated and of.error_after is not None:
        said = (
            f"Probabilities as they come are off by {100 * of.error_before:.0f} points on average, and by "
            f"{100 * of.error_after:.0f} with a temperature of {of.temperature:.2f}, which /classify uses "
            "for the trained names."
        )
    return f"<h2>Can a probability be believed?</h2><p>{said}</p>{reliability_chart(of.bins)}"


def _percent(value: IntervalOut) -> str:
    """`90 % [83, 95]`"""
    value_, low, high = (f"{100 * x:.0f}" for x in (value.value, value.low, value.high))
    return f'{value_} % <span class="quiet">[{low}, {high}]</span>'


def _points(value: IntervalOut) -> str:
    """`+43 [+31, +56]`"""
    shown = (f"{100 * x:+.0f}".replace("-", "−") for x in (value.value, value.low, value.high))
    return '{} <span class="quiet">[{}, {}]</span>'.format(*shown)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
