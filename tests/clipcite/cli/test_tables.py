"""Tables on narrow terminals: names and ids stay whole."""

import csv
import io

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipcite.cli.classify import predictions_csv, tally
from clipcite.cli.render.tables import (
    model_facts,
    print_table,
    table_of,
)
from clipcite.cli.render.verdict import verdict
from clipcite.types.classify import CLASSIFICATION_EXAMPLE, Classification
from clipcite.types.models import MODEL_EXAMPLE, Model
from clipcite.types.report import AllClasses, ComparedAccuracies, Interval, MeasuredOn, Metrics, Verdict
from clipcite.types.tables import as_csv
from core.clip.evaluation.report_text import verdict_sentences

NAME = "autumn leaves of the northern garden"
UNIQUE = "01m8c5kg3vz163ez28ae3rygr9"


def printed(table: Table, width: int, terminal: bool = True) -> str:
    output = io.StringIO()
    print_table(Console(file=output, width=width, force_terminal=terminal, color_system=None), table)
    return output.getvalue()


def metrics(word: Verdict, stock: float, adapted: float, source: str = "test") -> Metrics:
    gain = adapted - stock
    gained = Interval(value=gain, low=gain - 0.09, high=gain + 0.08)
    compared = ComparedAccuracies(
        stock=stock, adapted=adapted, interval=(adapted - 0.07, adapted + 0.04), difference=gained
    )
    made = Metrics(
        measured_on=MeasuredOn(source=source, images=96, trained_images=192),
        verdict=word,
        trained_classes=compared,
        all_classes=AllClasses(trained=compared, all=compared),
    )
    made.sentences = verdict_sentences(made)
    return made


def model(name: str | None) -> Model:
    measured = metrics("no_clear_gain", 0.78, 0.94)
    return Model.model_validate(
        {
            **MODEL_EXAMPLE,
            "id": f"mdl_{UNIQUE}",
            "name": name,
            "version": 1,
            "aliases": [],
            "metrics": measured,
        }
    )


@pytest.fixture
def answer() -> Classification:
    """Return an answer about a trained image, a rejected one and an unreadable one."""
    kinds = (("long sleeve shirt", "trained", 0.9, 0.3), ("skirt", "new", 0.1, 0.2))
    predictions = [
        {"class_name": name, "kind": kind, "probability": probability, "similarity": similarity}
        for name, kind, probability, similarity in kinds
    ]
    damaged = {"code": "bad_image", "detail": "The file is damaged."}
    results = [
        {"file": "IMG_123456789_HDR.jpg", "predictions": predictions},
        {"file": "b.jpg", "predictions": predictions, "something_else": True},
        {"file": "c.jpg", "predictions": None, "error": damaged},
    ]
    names = [
        {"name": "long sleeve shirt", "kind": "trained", "offset": 0.1},
        {"name": "skirt", "kind": "new", "offset": 0},
    ]
    return Classification.model_validate({**CLASSIFICATION_EXAMPLE, "class_names": names, "results": results})


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1.jpg", "@a", "\ta", "\ra"])
def test_csv_has_no_formulas(text: str) -> None:
    assert next(csv.reader(io.StringIO(as_csv([[text, "a=b", 0.5]]), newline=""))) == [
        f"'{text}",
        "a=b",
        "0.5",
    ]


def test_predictions_as_csv_and_in_numbers(answer: Classification) -> None:
    header, *rows = csv.reader(io.StringIO(predictions_csv(answer)))
    assert header == ["image", "class", "probability"]
    assert rows[0] == ["IMG_123456789_HDR.jpg", "long sleeve shirt", "0.9000"]
    assert rows[-1][:2] == ["c.jpg", "unreadable: The file is damaged."]
    assert tally(answer) == "3 images: long sleeve shirt 1, something else 1, unreadable 1"


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (
            metrics("better", 0.78, 0.94, "cross_validation"),
            "Better. 94% correct (likely 87 to 98), estimated from 96 of your 192 photos, up from 78% ("
            "+16 points, 95% CI +7 to +24)",
        ),
        (metrics("evaluating", 0, 0), "Ready, evaluating. You can use it now. The verdict follows."),
        (None, "Ready, not evaluated. To get a verdict, add images to test/."),
    ],
)
def test_verdicts(measured: Metrics | None, words: str) -> None:
    assert words in Text.from_markup(verdict(measured)).plain


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_numbers_ids_and_names_are_whole_on_any_terminal(width: int) -> None:
    table = table_of("class", "image", "trained on", "recall before", "recall after", "precision")
    path, longest = "images/test/screw/IMG_000123.jpg", "x" * 70
    table.add_row("fabric with a small spot", path, "12", "83%", "100%", "92%")
    table.add_row("fabric", longest, "1,234", "–", "–", "–")
    shown = printed(table, width)
    words = ["fabric", "with", "a", "small", "spot", path, "12", "83%", "100%", "92%", "1,234"]
    assert {*words} <= {*shown.split()}
    assert shown.count("x") == 70
    assert f"{UNIQUE}\n" in printed(model_facts(model("shoes")), width).replace(" ", "")


def test_off_a_terminal_nothing_wraps() -> None:
    table = table_of("name", "job")
    table.add_row(" ".join([NAME] * 9), UNIQUE)
    _, line = printed(table, 80, terminal=False).splitlines()
    assert line.rstrip() == f"{' '.join([NAME] * 9)}  {UNIQUE}"
