import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.jobs.report.render import render_page
from clipcite.types.report import Report, StoredReport
from core.clip.evaluation.label_issues import MIN_VOTE_ACCURACY, LabelIssue
from core.clip.evaluation.mistakes import MAX_SHOWN
from core.clip.evaluation.predictions import ClassScores, HeldOutPredictions, RejectionLimits
from core.clip.inference.calibration import FittedCalibration, fit_calibration
from core.clip.inference.pile import Support
from tests.core.clip.reports import NAMES, K, changed_by_hand, held_out, more_certain, report, report_fields

STORED = json.loads((Path(__file__).parents[1] / "report.json").read_text(encoding="utf-8"))
"""A report as it was stored when `build_report` made a dict."""
CALIBRATION = FittedCalibration(0.5, 30, temperature=2.0, nonconformity=(0.5,))


def rounded(found: object) -> Any:
    return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 9))


def test_a_stored_report_stays_readable_and_keeps_its_form() -> None:
    issue = LabelIssue(107, 0, 2, 0.9, 0.02)
    made = report_fields(held_out(images=6, new=2), source="test", label_issues=[issue])
    read = StoredReport(**STORED)
    assert rounded(read.model_dump(mode="json")) == rounded(made)
    assert STORED.keys() - made.keys() == {"summary"}  # now composed when it is read


def codes(made: Report) -> list[str]:
    return [recommendation.code for recommendation in made.recommendations]


def test_a_real_gain() -> None:
    made = report(held_out())
    assert made.verdict == "better"
    assert made.p < 0.001
    assert codes(made)[0] == "use_it"
    of = made.trained_classes
    assert of.stock.low < of.stock.value < of.adapted.value < of.adapted.high
    gain = of.adapted.value - of.stock.value
    assert of.adapted_against_stock.value == pytest.approx(gain)
    assert of.candidates == K
    assert made.all_classes.candidates == len(NAMES)
    assert made.new_classes is None
    assert made.distractor_classes == ["oak", "elm"]
    assert json.loads(json.dumps(report_fields(held_out())))["verdict"] == "better"


def test_a_gain_in_probabilities_alone() -> None:
    """Accuracy gains two of 36 images, while the probabilities get much nearer to the truth."""
    made = report(more_certain())
    gain = made.trained_classes.adapted_against_stock
    assert gain.low <= 0 < gain.value
    assert made.verdict == "better"
    assert made.more_certain == 36
    assert "1 of 1,000 cases or fewer" in made.recommendations[0].detail


def test_an_unproven_gain_recommends_more_images() -> None:
    made = report(changed_by_hand(4, 1, 15), source="test")
    assert made.recommendations[0].code == "evaluate"
    assert "not proven" in made.recommendations[0].detail
    assert "stay_with_stock" not in codes(made)


def test_no_gain() -> None:
    held = changed_by_hand(1, 2, 17)
    made = report(replace(held, fold_models=2))
    assert made.verdict == "no_clear_gain"
    assert codes(made)[:2] == ["stay_with_stock", "evaluate"]  # Fold models know less than the model.
    of_a_fifth = report(replace(held, fold_models=1))
    assert "evaluate" not in codes(of_a_fifth)


def test_changes_by_hand() -> None:
    """The most confident image of each class comes first."""
    truth = np.array([0, 0, 0, 1, 1, 2])
    stock, adapted = np.zeros((6, K)), np.zeros((6, K))
    stock[np.arange(6), [1, 1, 0, 2, 1, 0]] = 0.1
    adapted[np.arange(6), [0, 0, 0, 1, 2, 1]] = [0.3, 0.4, 0.1, 0.2, 0.5, 0.5]
    held = replace(
        held_out(images=6),
        truth=truth,
        stock=ClassScores(stock, stock, stock[:, :0]),
        adapted=ClassScores(adapted, adapted, adapted[:, :0]),
        positions=np.arange(10, 16),
    )
    made = report(held, trained_images=[5, 5, 2])
    assert [(c.position, c.class_name, c.before, c.predicted) for c in made.fixed] == [
        (11, "fox", "badger", "fox"),
        (13, "badger", "hare", "badger"),
        (10, "fox", "badger", "fox"),
    ]
    assert [(c.position, c.class_name, c.before, c.predicted) for c in made.broken] == [
        (14, "badger", "badger", "hare")
    ]
    assert made.fixed[0].probability == pytest.approx(np.exp(16) / (np.exp(16) + 2))  # 16 = 40 · 0.4


def test_changes_have_the_candidates_of_the_verdict() -> None:
    made = report(changed_by_hand(4, 2, 10, new=True), source="test", calibration=CALIBRATION)
    assert [c.class_name for c in made.fixed] == ["fox", "oak", "fox", "oak"]
    assert {c.before for c in made.fixed} == {"badger", "elm"}
    assert len(made.broken) == 2
    assert made.fixed[0].probability == pytest.approx(np.exp(0.2) / (np.exp(0.2) + 4))
    trained = report(changed_by_hand(4, 2, 10), source="test", calibration=CALIBRATION)
    assert trained.fixed[0].probability == pytest.approx(np.exp(0.2) / (np.exp(0.2) + 2))


def test_without_images_nothing_is_evaluated() -> None:
    made = report(HeldOutPredictions.none(held_out().candidates), source="none")
    assert (made.verdict, made.p, made.fixed, made.broken) == ("not_evaluated", None, [], [])
    assert made.summary == "Ready, not evaluated. There are too few images to leave some out of training."
    assert codes(made)[0] == "evaluate"
    assert (made.overall, made.trained_classes, made.confusion_matrix) == (None, None, None)
    assert [(c.trained_images, c.images, c.recall) for c in made.classes] == [(20, 0, None)] * K


@pytest.mark.parametrize("new", [0, 20])
def test_all_tables_add_up_to_the_accuracy(new: int) -> None:
    made = report(held_out(0.5, 0.8, images=60, new=new), source="test", trained_images=[20, 20, 2])
    images = made.overall.images
    right = round(made.overall.adapted.value * images)
    matrix = np.array(made.confusion_matrix)
    assert (matrix.sum(), matrix.trace()) == (images, right)
    assert [row.name for row in made.classes] == list(NAMES if new else NAMES[:K])
    assert sum(row.images * row.recall for row in made.classes) == pytest.approx(right)
    assert sum(row.images * row.stock_recall for row in made.classes) == pytest.approx(
        made.overall.stock.value * images
    )
    assert len(made.mistakes) == min(MAX_SHOWN, images - right)
    assert [row.trained_images for row in made.classes][K:] == [0] * (2 if new else 0)
    for step in made.recommendations:
        assert not {"oak", "elm"} & {*step.class_names}


def test_thresholds_of_reject() -> None:
    held = held_out(images=6, new=4)
    known = np.array([[1, 1, 1, 0]] * 3 + [[1, 0, 0, 0]] * 3 + [[1, 1, 0, 0]] * 2 + [[0, 0, 0, 0]] * 2, bool)
    limits = RejectionLimits(Support(np.zeros((0, 1)), np.zeros(0)), np.array([0.3, 0.4, 0.5, 0.6]))
    made = report(replace(held, known=known), limits=limits)
    assert [(row.share, row.kept, row.marked) for row in made.rejection] == [
        (0.01, 1.0, 0.5),
        (0.05, 0.5, 0.5),
        (0.1, 0.5, 1.0),
        (0.2, 0.0, 1.0),
    ]
    assert [row.threshold for row in made.rejection] == pytest.approx([0.3, 0.4, 0.5, 0.6])
    assert report(replace(held_out(), known=known[[0] * 60]), limits=limits).rejection[0].marked is None
    assert report(held, limits=limits).rejection == []


def test_classes_and_confusion_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    named = np.array([0, 0, 1, 1, 1, 1])
    scores = np.zeros((6, len(NAMES)))
    scores[np.arange(6), named] = 0.1
    given = ClassScores(scores[:, :K], scores, scores[:, K:])
    base = held_out(images=6)
    held = replace(base, truth=truth, stock=given, adapted=given, positions=np.arange(6))
    made = report(held, trained_images=[5, 5, 2])
    assert made.confusion_matrix == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]
    fox, badger, hare = made.classes
    assert (fox.recall, fox.precision) == (pytest.approx(2 / 3), 1.0)
    assert (badger.recall, badger.precision) == (1.0, 0.5)
    assert (hare.recall, hare.precision, hare.images) == (0.0, None, 1)
    assert [(m.position, m.class_name, m.predicted) for m in made.mistakes] == [
        (2, "fox", "badger"),
        (5, "hare", "badger"),
    ]
    more = next(a for a in made.recommendations if a.code == "add_images")
    assert more.class_names == ["hare"]


@pytest.mark.parametrize(
    ("trained", "advice"),
    [([20, 3, 20], "Add images of badger, which have"), ([3, 3, 3], "of every class. 4 to 16")],
)
def test_few_images_are_named_only_if_other_classes_have_more(trained: list[int], advice: str) -> None:
    made = report(changed_by_hand(6, 0, 14), trained_images=trained)
    [more] = [each.detail for each in made.recommendations if each.code == "add_images"]
    assert advice in more


def test_a_report_says_why_it_lists_no_label_issues() -> None:
    made = report(held_out(), label_accuracy=0.414)
    assert made.label_issues_note is not None
    assert made.label_issues_note.startswith(
        "Too early to find wrong labels: models without them recognise only 41%"
    )
    assert f"Below {100 * MIN_VOTE_ACCURACY:.0f}%" in made.label_issues_note
    assert report(held_out(), label_accuracy=MIN_VOTE_ACCURACY).label_issues_note is None


def test_calibration_needs_images() -> None:
    held = held_out()
    fitted = fit_calibration(held.adapted.trained_only, held.truth, logit_scale=40.0, alpha=0.5)
    calibrated = report(held, calibration=fitted).calibration
    assert calibrated.calibrated
    assert calibrated.error_after is not None
    without = report(held).calibration
    assert (without.calibrated, without.temperature, without.error_after) == (False, None, None)
    assert without.error_before == pytest.approx(calibrated.error_before)


def test_a_large_confusion_matrix_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report(held_out()).confusion_matrix is not None
    monkeypatch.setattr("core.clip.evaluation.report.MAX_CONFUSION_CLASSES", 2)
    made = report(held_out())
    assert made.confusion_matrix is None
    assert [found.recall for found in made.classes] == [found.recall for found in report(held_out()).classes]
    assert all(found.recall is not None for found in made.classes)


SENTENCES = {
    "Better. 87% correct (likely 76 to 93), estimated from your 60 photos, up from 55% (+32 points, 95% "
    "CI +15 to +47). If it may also answer with 2 names of other things, 87% are correct; before the "
    "training, 55% were.": (held_out(), "cross_validation"),  # stored by an older version
    "Better. 87% correct (likely 76 to 93), measured on your 60 photos with models that were trained on "
    "half of them, up from 55% (+32 points, 95% CI +15 to +47). Your model is trained on all of them and "
    "is probably better. If it may also answer with 2 names of other things, 87% are correct; before the "
    "training, 55% were.": (replace(held_out(), fold_models=2), "cross_validation"),
    "Better. 87% correct (likely 76 to 93), measured on your 60 photos with a model that was trained "
    "without them, up from 55% (+32 points, 95% CI +15 to +47). If it may also answer with 2 names of "
    "other things, 87% are correct; before the training, 55% were.": (
        replace(held_out(), fold_models=1),
        "cross_validation",
    ),
    "Better. 87% correct (likely 76 to 93) on your 60 test images, up from 55% (+32 points, 95% CI +15 "
    "to +47). Of the new classes alone: 80%, up from 50%.": (held_out(0.5, 0.9, 40, new=20), "test"),
    "Better. 58% correct (likely 42 to 73) on your 36 test images, up from 53% (+6 points, 95% CI −6 to "
    "+19). It is more certain of the right class on 36 of 36 images. If it may also answer with 2 names "
    "of other things, 58% are correct; before the training, 53% were (the change is not proven).": (
        more_certain(),
        "test",
    ),
    "Probably better. 95% correct (likely 79 to 99), estimated from your 20 photos, up from 80% (+15 "
    "points, 95% CI −13 to +41). If it may also answer with 2 names of other things, 95% are correct; "
    "before the training, 80% were (the change is not proven).": (
        changed_by_hand(4, 1, 15),
        "cross_validation",
    ),
    "No measurable difference. 95% correct (likely 79 to 99), estimated from your 20 photos, unchanged "
    "from 95% (+0 points, 95% CI −22 to +22). If it may also answer with 2 names of other things, 95% "
    "are correct; before the training, 95% were (the change is not proven).": (
        changed_by_hand(1, 1, 18),
        "cross_validation",
    ),
    "No measurable difference. 88% correct (likely 66 to 97) on your 16 test images, up from 75% (+12 "
    "points, 95% CI −24 to +46). Of the new classes alone: 88%, up from 75%.": (
        changed_by_hand(4, 2, 10, new=True),
        "test",
    ),
    "Probably worse. 75% correct (likely 54 to 90) on your 20 test images, down from 100% (−25 points, "
    "95% CI −49 to +1). If it may also answer with 2 names of other things, 75% are correct; before the "
    "training, 100% were (the change is not proven).": (changed_by_hand(0, 5, 15), "test"),
    "Worse. 55% correct (likely 34 to 75) on your 20 test images, down from 100% (−45 points, 95% CI "
    "−68 to −14). If it may also answer with 2 names of other things, 55% are correct; before the "
    "training, 100% were.": (changed_by_hand(0, 9, 11), "test"),
}


@pytest.mark.parametrize("words", SENTENCES)
def test_the_verdict_in_words(words: str) -> None:
    held, source = SENTENCES[words]
    made = report(held, source=source, trained_images=[len(held.truth), 0, 0])
    assert made.summary == words
    assert [each[-1] for each in made.sentences] == ["."] * len(made.sentences)
    shown = render_page(made, {}, name=None, backbone="starter", date=None, service_url="/")
    assert f"<h1><b>{made.sentences[0]}</b> {' '.join(made.sentences[1:])}</h1>" in shown
    likely = re.findall(r"<dd.*?>(likely .*?)</dd>", shown)
    assert re.search(r"likely \d+ to \d+", words)[0] in likely
    before, now = re.findall(r"<dt>(?:Before|After)</dt><dd>(\d+)%", shown)
    assert re.findall(r"(\d+)% correct.*?from (\d+)%", words) == [(now, before)]
