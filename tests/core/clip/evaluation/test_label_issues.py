import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.evaluation.label_issues import cross_fit_scores, find_label_issues
from core.clip.inference.calibration import softmax

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
