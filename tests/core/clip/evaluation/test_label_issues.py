import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipcite.types.images import Image
from core.clip.config import AdaptConfig
from core.clip.evaluation.context import EvalContext, TrainingSet
from core.clip.evaluation.label_issues import (
    MIN_VOTE_ACCURACY,
    agreed_label_issues,
    cross_fit_scores,
    find_label_issues,
)
from core.clip.inference.calibration import softmax
from core.clip.models.backbone import Backbone

CLASSES = 4


def features(each: int, seed: int = 0) -> tuple[Tensor, list[int]]:
    """Draw images around the directions of their classes. The directions are the prompts' features."""
    generator = torch.Generator().manual_seed(seed)
    labels = [label for label in range(CLASSES) for _ in range(each)]
    noise = 0.25 * torch.randn(len(labels), 16, generator=generator)
    return F.normalize(torch.eye(CLASSES, 16)[labels] + noise, dim=-1), labels


def test_planted_label_issues_are_found() -> None:
    seen, truth = features(12)
    labels = list(truth)
    planted = [3, 17, 30, 45]
    for i in planted:
        labels[i] = (labels[i] + 1) % CLASSES
    answers = cross_fit_scores(seen, labels, np.arange(len(labels)), torch.eye(CLASSES, 16), seed=0)
    one, other = (softmax(40 * repeat) for repeat in answers)
    found = find_label_issues(
        (one, other),
        np.array(labels),
        np.arange(100, 100 + len(labels)),
    )
    assert {s.position - 100 for s in found} == set(planted)
    for label_issue in found:
        assert label_issue.suggested_label == truth[label_issue.position - 100]
        assert label_issue.label == labels[label_issue.position - 100]
        assert label_issue.probability > label_issue.label_probability
    margins = [s.probability - s.label_probability for s in found]
    assert margins == sorted(margins, reverse=True)


def test_images_of_a_burst_do_not_vote_for_each_other() -> None:
    """Eight images of one photo have the same wrong label."""
    seen, labels = features(12)
    frames = F.normalize(seen[:1] + 0.001 * torch.randn(8, 16), dim=-1)
    seen, labels = torch.cat([seen, frames]), [*labels, *[1] * 8]
    photos = np.array([*range(48), *[48] * 8])
    answers = cross_fit_scores(seen, labels, photos, torch.eye(CLASSES, 16), seed=0)
    one, other = (softmax(40 * repeat) for repeat in answers)
    found = find_label_issues((one, other), np.array(labels), np.arange(len(labels)))
    assert {issue.position for issue in found} >= set(range(48, 56))


def test_clean_labels_are_left_alone() -> None:
    seen, labels = features(12)
    answers = cross_fit_scores(seen, labels, np.arange(len(labels)), torch.eye(CLASSES, 16), seed=0)
    one, other = (softmax(40 * repeat) for repeat in answers)
    assert find_label_issues((one, other), np.array(labels), np.arange(len(labels))) == []


def test_an_image_does_not_vote_for_itself() -> None:
    """Prompts carry no information, and one class has a single image, its only evidence."""
    seen, labels = features(6)
    seen, labels = torch.cat([seen, -seen[:1]]), [*labels, CLASSES]
    head = F.normalize(torch.ones(CLASSES + 1, 16), dim=-1)
    for answers in cross_fit_scores(seen, labels, np.arange(len(labels)), head, seed=0):
        assert answers.shape == (25, CLASSES + 1)
        assert answers[-1].argmax() != CLASSES


def test_all_fold_models_must_agree() -> None:
    sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.9, 0.1]])
    unsure = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    labels = np.array([0, 0, 1, 1])  # The last fold model predicts class 0.
    places = np.arange(4)
    assert [s.position for s in find_label_issues((sure, sure), labels, places)] == [3]
    assert find_label_issues((sure, unsure), labels, places) == []


def test_no_label_issues_at_a_low_accuracy(tiny: Backbone) -> None:
    """Two planted labels are found among images that are recognised, and not if many are not."""
    for noise, recognised in ((0.1, True), (1.0, False)):
        generator = torch.Generator().manual_seed(3)
        truth = [label for label in range(CLASSES) for _ in range(12)]
        seen = torch.eye(CLASSES, 16)[truth] + noise * torch.randn(len(truth), 16, generator=generator)
        labels = [(label + 1) % CLASSES if i in {3, 17} else label for i, label in enumerate(truth)]
        names = tuple("abcd")
        images = [torch.zeros(0)] * len(labels)
        files = [Image(b"", names[label]) for label in labels]
        given = TrainingSet(names, [12] * 4, files, range(48), images, labels, F.normalize(seen, dim=-1))
        context = EvalContext(tiny, given, AdaptConfig())
        issues, accuracy = agreed_label_issues(context, torch.eye(CLASSES, 16), None)
        assert (accuracy >= MIN_VOTE_ACCURACY) == recognised
        assert {issue.position for issue in issues} == ({3, 17} if recognised else set())
