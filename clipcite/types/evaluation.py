"""Evaluation of a model on labelled images."""

from datetime import datetime

from pydantic import Field

from clipcite.types.base import Open, Resource, ResponseModel
from clipcite.types.problems import Notice
from clipcite.types.report import MAX_CONFUSION_CLASSES, SENTENCES, Interval, Verdict


class EvaluatedClass(ResponseModel):
    name: str
    images: int = Field(description="Number of images of the class.")
    correct: int = Field(description="Number of these images that the model classifies correctly.")
    stock_correct: int = Field(
        0, description="Number of these that the pre-trained model classifies correctly."
    )


class Mistake(ResponseModel):
    """Wrong prediction."""

    file: str
    class_name: str = Field(description="Label of the image.")
    predicted: str
    probability: float = Field(description="Probability of the predicted class.")


class Evaluation(Resource):
    """Accuracy of a model on test images. Candidates are the classes of the model and of the images.

    It is kept with the model until the next one.
    """

    images: int = Field(description="Number of evaluated images.")
    correct: int
    accuracy: float
    interval: tuple[float, float] = Field(description="95% confidence interval of the accuracy.")
    stock_accuracy: float = Field(description="Accuracy of the pre-trained model, with the same classes.")
    difference: Interval | None = Field(
        None, description="Accuracy minus that of the pre-trained model, paired by image."
    )
    verdict: Open[Verdict] = Field(
        "not_evaluated", description="Comparison with the pre-trained model, by an exact sign test."
    )
    sentences: list[str] = Field(default_factory=list, description=SENTENCES)
    classes: list[EvaluatedClass] = Field(description="Classes of the images, and those predicted.")
    confusion_matrix: list[list[int]] | None = Field(
        None,
        description="Confusion matrix: a row per true class, a column per predicted one, as in `classes`; "
        f"null for more than {MAX_CONFUSION_CLASSES} classes.",
    )
    mistakes: list[Mistake] = Field(description="Wrong predictions, most confident first.")
    warnings: list[Notice]
    created_at: datetime | None = None
