"""Evaluation of a model: the summary in a job and its model, and the report."""

from typing import Literal

from pydantic import Field

from clipcite.types.base import Open, Resource, ResponseModel

Verdict = Literal[
    "better", "probably_better", "no_clear_gain", "probably_worse", "worse", "evaluating", "not_evaluated"
]
SENTENCES = "The verdict with its numbers, for people. The first sentence has at most three words."

PROMOTED = (
    "Whether the name may refer to this model. It refers to the highest promoted version, or else to the "
    "highest one that is null. False: see `not_promoted`. Null until the job has ended."
)
NOT_PROMOTED = (
    "Why `promoted` is false: `worse` or `probably_worse` than the pre-trained model, or `replaced` by an "
    "older version. `PATCH /models/{id}` promotes it all the same."
)


MAX_CONFUSION_CLASSES = 200
"""Maximum number of classes in a confusion matrix."""


class Interval(ResponseModel):
    """Value with its 95% confidence interval."""

    value: float
    low: float
    high: float


class ComparedAccuracies(ResponseModel):
    """Accuracies (0 to 1) of the stock and the adapted model on the same images."""

    stock: float
    adapted: float
    interval: tuple[float, float] | None = Field(None, description="95% confidence interval of `adapted`.")
    difference: Interval | None = Field(None, description="Adapted minus stock, paired by image.")


class AllClasses(ResponseModel):
    """Accuracies with all classes as candidates."""

    trained: ComparedAccuracies | None = Field(None, description="On images of trained classes.")
    new: ComparedAccuracies | None = Field(None, description="On images of new classes.")
    all: ComparedAccuracies | None = Field(None, description="On all images.")


class MeasuredOn(ResponseModel):
    """Images on which the accuracies were measured."""

    source: str = Field(description="`test`, `cross_validation`, or `none` if nothing was measured.")
    images: int = Field(description="Number of evaluated images.")
    trained_images: int = Field(description="Number of training images.")
    fold_models: int = Field(
        0, description="Number of fold models that were evaluated; two have half of the training images each."
    )


class Metrics(Resource):
    """Summary of the evaluation; the report has more."""

    measured_on: MeasuredOn = Field(
        default_factory=lambda: MeasuredOn(source="none", images=0, trained_images=0)
    )
    trained_classes: ComparedAccuracies | None = Field(
        None, description="Images of trained classes, with these as candidates."
    )
    new_classes: ComparedAccuracies | None = Field(
        None, description="Images of new classes, with these as candidates."
    )
    all_classes: AllClasses | None = Field(None, description="All classes as candidates.")
    verdict: Open[Verdict] = Field(
        description="Comparison of the adapted model with stock; `evaluating` before the evaluation."
    )
    sentences: list[str] = Field(default_factory=list, description=SENTENCES)


class Accuracies(ResponseModel):
    """Accuracies on the same images with the same candidates."""

    images: int = Field(description="Number of images.")
    candidates: int = Field(description="Number of classes to choose from.")
    stock: Interval = Field(description="Accuracy of the stock model.")
    adapted: Interval = Field(description="Accuracy of the adapted model.")
    adapted_against_stock: Interval = Field(description="Adapted minus stock, paired by image.")


class Recommendation(ResponseModel):
    code: Open[Literal["use_it", "stay_with_stock", "add_images", "check_images", "evaluate"]]
    detail: str = Field(description="The recommendation, for people.")
    class_names: list[str] = Field(default_factory=list, description="Classes that it concerns.")


class ReportMeasuredOn(ResponseModel):
    """Images of the evaluation."""

    source: Open[Literal["test", "cross_validation", "none"]] = Field(
        description="Test images, cross-validation, or none for lack of images."
    )
    images: int = Field(description="Number of evaluated images.")
    trained_images: int = Field(description="Number of training images.")
    how: str = Field(description="The procedure, for people.")


class ClassReport(ResponseModel):
    name: str
    trained_images: int = Field(description="Number of training images; 0 of a new class.")
    images: int = Field(description="Number of evaluated images.")
    recall: float | None = Field(
        None, description="Share of the class's images that are predicted as the class."
    )
    precision: float | None = Field(
        None,
        description="Share of the images predicted as the class that belong to it; null without predictions.",
    )
    stock_recall: float | None = Field(None, description="Recall of the stock model.")


class ImageReport(ResponseModel):
    position: int = Field(description="Position of the image in the upload, training images first.")
    file_name: str | None = None
    class_name: str = Field(description="Label of the image.")
    predicted: str = Field(description="Predicted class.")
    probability: float = Field(description="Probability of the predicted class.")


class ChangedImage(ImageReport):
    """An image that only one of the two models, pre-trained and adapted, classifies correctly."""

    before: str = Field(description="Prediction of the stock model. The adapted model's is `predicted`.")


class RejectionLimit(ResponseModel):
    """What `something_else` of `POST /classify` does to the evaluated images at one threshold."""

    share: float = Field(
        description="Expected share of new images of the classes below the limit; `something_else` uses 0.05."
    )
    threshold: float = Field(description="Compare it with `likeness`.")
    kept: float | None = Field(None, description="Share of the images of trained classes that pass.")
    marked: float | None = Field(None, description="Share of the images of new classes that are marked.")


class Reliability(ResponseModel):
    """Calibration of the probabilities, with the trained classes as candidates."""

    calibrated: bool = Field(description="True with at least 30 held-out images.")
    temperature: float | None = Field(None, description="Temperature that `POST /classify` uses.")
    error_before: float | None = Field(
        None, description="Expected calibration error without the temperature."
    )
    error_after: float | None = Field(
        None,
        description="Expected calibration error with a temperature fitted on the other half of the images.",
    )


class StoredReport(ResponseModel):
    """Report as the trainer writes it, without the ids of its job and file names."""

    verdict: Open[
        Literal["better", "probably_better", "no_clear_gain", "probably_worse", "worse", "not_evaluated"]
    ] = Field(description="Comparison of the adapted model with stock.")
    p: float | None = Field(
        None,
        description="One-sided p of the signed-rank test behind the verdict, in the direction of the "
        "change in accuracy; null if not evaluated.",
    )
    more_certain: int | None = Field(
        None,
        description="Number of images on which the adapted model is nearer to the true class than stock.",
    )
    recommendations: list[Recommendation]
    measured_on: ReportMeasuredOn
    alpha: float = Field(description="Alpha of the evaluation, the model's default.")
    overall: Accuracies | None = Field(
        None,
        description="Accuracies behind the verdict: all images, with the trained classes and the classes of "
        "the images as candidates.",
    )
    trained_classes: Accuracies | None = Field(
        None, description="Images of trained classes, with the trained classes as candidates."
    )
    all_classes: Accuracies | None = Field(
        None, description="Images of trained classes, with new or distractor classes as further candidates."
    )
    new_classes: Accuracies | None = Field(
        None, description="Images of new classes, with the new classes as candidates."
    )
    distractor_classes: list[str] = Field(description="Candidates that were not trained.")
    classes: list[ClassReport] = Field(
        description="Trained classes, then new ones of the test images, with the candidates of `overall`."
    )
    confusion_matrix: list[list[int]] | None = Field(
        None,
        description="Confusion matrix: a row per true class, a column per predicted one, as in `classes`; "
        f"null for more than {MAX_CONFUSION_CLASSES} classes.",
    )
    fixed: list[ChangedImage] = Field(
        default_factory=list,
        description="All images that stock got wrong and the adapted model gets right. The most confident "
        "image of each class comes first, then the second of each, and so on.",
    )
    broken: list[ChangedImage] = Field(
        default_factory=list,
        description="All images that stock got right and the adapted model gets wrong, in the same order.",
    )
    mistakes: list[ImageReport] = Field(description="Wrong predictions, most confident first; at most 24.")
    label_issues: list[ImageReport] = Field(
        description="Possible label issues: training images that models without them assign to another "
        "class; at most 24."
    )
    label_issues_note: str | None = Field(
        None,
        description="Why `label_issues` is empty at a low accuracy, where most would be false; else null.",
    )
    calibration: Reliability
    rejection: list[RejectionLimit] = Field(
        default_factory=list,
        description="Limits of `something_else`, ascending; empty without two images per class.",
    )

    def images(self) -> list[ImageReport]:
        """Return all images that it names. One may occur several times."""
        return [*self.fixed, *self.broken, *self.label_issues, *self.mistakes]


class Report(Resource, StoredReport):
    """Evaluation of a job, on images that were not used to train the evaluated model.

    Intervals are at 95%. Differences are paired by image.
    """

    object: Literal["report"] = "report"
    job_id: str
    model_id: str
    sentences: list[str] = Field(default_factory=list, description=SENTENCES)

    @property
    def summary(self) -> str:
        """The sentences in one text."""
        return " ".join(self.sentences)
