"""Corrections of a model, and its evaluation on labelled images."""

from datetime import datetime

from pydantic import Field

from clipcite.types.base import Resource, ResponseModel
from clipcite.types.problems import Notice

MAX_FEEDBACK = 2_000
"""Maximum number of corrections of a model."""


class Feedback(Resource):
    """Correction of a model: an image with its true class."""

    id: str
    file_name: str
    class_name: str = Field(description="True class of the image, trained or new.")
    sha256: str = Field(description="SHA-256 of the file. Sending the same image again replaces its class.")
    bytes: int
    created_at: datetime
    position: int = Field(description="Position for its thumbnail: GET /jobs/{job_id}/images/{position}.")


class FeedbackList(ResponseModel):
    data: list[Feedback]


class EvaluatedClass(ResponseModel):
    name: str
    images: int = Field(description="Number of images of the class.")
    correct: int = Field(description="Number of these images that the model classifies correctly.")


class Mistake(ResponseModel):
    """Wrong prediction."""

    file: str
    class_name: str = Field(description="Label of the image.")
    predicted: str
    probability: float = Field(description="Probability of the predicted class.")


class Evaluation(Resource):
    """Accuracy of a model on test images. Candidates are the classes of the model and of the images."""

    images: int = Field(description="Number of evaluated images.")
    correct: int
    accuracy: float
    interval: tuple[float, float] = Field(description="95% confidence interval of the accuracy.")
    stock_accuracy: float = Field(description="Accuracy of the pre-trained model, with the same classes.")
    classes: list[EvaluatedClass] = Field(description="Classes of the images.")
    mistakes: list[Mistake] = Field(description="Wrong predictions, most confident first.")
    warnings: list[Notice]
