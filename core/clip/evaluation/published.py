"""The published network itself, asked about pictures that it was not trained on."""

from collections.abc import Sequence

from core.clip.data.images import Shot
from core.clip.evaluation.context import Subject
from core.clip.evaluation.predictions import HeldOut, ask
from core.clip.inference.prototypes import Preview
from core.clip.models.imagenet_classes import other_names
from core.clip.prompts import same_class
from core.clip.training.progress import Reporter

OTHERS = 20
"""Names that are candidates beside the trained ones, where there are no new ones."""


def ask_tests(
    subject: Subject,
    tests: Sequence[tuple[int, Shot]],
    alpha: float,
    reporter: Reporter,
    *,
    curve: Sequence[float],
) -> HeldOut:
    """Ask the published network. The candidates are its names and those of the tests, or others from
    ImageNet where the tests have none that is new and there is a curve to draw."""
    names = list(subject.trained.class_names)
    spelling = {same_class(name): name for name in names}
    truths = [spelling.setdefault(same_class(shot.class_name), shot.class_name) for _, shot in tests]
    names = list(dict.fromkeys([*names, *truths]))
    if curve and len(names) == len(subject.trained.class_names):
        names += other_names(names, OTHERS)
    shots = subject.weights.shots
    assert shots is not None  # these weights were just made
    return ask(
        subject.backbone,
        subject.weights,
        subject.candidates(names),
        Preview(shots.features[0].float(), shots.labels),
        [shot.source for _, shot in tests],
        [names.index(name) for name in truths],
        [position for position, _ in tests],
        alpha=alpha,
        curve=curve,
        reporter=reporter,
        limits=subject.limits,
    )
