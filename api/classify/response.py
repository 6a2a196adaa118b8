"""What POST /classify answers."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from core.clip.errors import BadPicture
from core.clip.inference.calibration import Confidence
from core.serving.references import Subject
from core.serving.types import Answer
from core.store.db.tables import Model

Kind = Literal["trained", "new"]


class ClassKind(BaseModel):
    name: str
    kind: Kind
    offset: float = Field(description="What new_names_balance took off this name's similarities.")


class PredictionOut(BaseModel):
    class_name: str
    kind: Kind
    probability: float
    similarity: float


class PictureError(BaseModel):
    code: str
    detail: str


class PictureResult(BaseModel):
    file: str | None
    predictions: list[PredictionOut] | None = None
    names: list[str] | None = Field(None, description="With `coverage`: the set that holds the true name.")
    likeness: float | None = Field(
        None,
        description="Where `confidence` is calibrated: how much it looks like the nearest of the trained "
        "classes, its name and its pictures. Below `least_likeness` the picture is rejected.",
    )
    rejected: bool | None = Field(None, description="With `reject`: it looks like none of the names.")
    error: PictureError | None = None


class ConfidenceOut(BaseModel):
    """Known for a model that was measured on 30 pictures or more, asked for exactly its trained names as it
    stands. Elsewhere a probability says which name fits better, not how often it is right."""

    calibrated: bool = Field(description="Whether `probability` is how often such an answer is right.")
    temperature: float | None = None
    held_out: int | None = Field(None, description="Pictures that it was fitted on.")
    least_likeness: float | None = Field(None, description="Below it a picture is rejected.")


class Timing(BaseModel):
    decode: float
    encode: float
    total: float


class WarningOut(BaseModel):
    code: str
    detail: str


EXAMPLE: JsonDict = {
    "model": "mdl_01m883zfhkxd2329sa0r05wkw7",
    "reference": "animals@prod",
    "name": "animals",
    "version": 3,
    "preview": False,
    "backbone": "starter",
    "alpha": 0.5,
    "confidence": {"calibrated": False, "temperature": None, "held_out": None, "least_likeness": None},
    "class_names": [
        {"name": "red fox", "kind": "trained", "offset": 0.11},
        {"name": "hedgehog", "kind": "new", "offset": 0.07},
    ],
    "results": [
        {
            "file": "a.jpg",
            "predictions": [
                {"class_name": "red fox", "kind": "trained", "probability": 0.93, "similarity": 0.31},
                {"class_name": "hedgehog", "kind": "new", "probability": 0.07, "similarity": 0.245},
            ],
            "names": None,
            "likeness": None,
            "rejected": None,
            "error": None,
        }
    ],
    "timing_ms": {"decode": 2.1, "encode": 11.0, "total": 14.2},
    "warnings": [],
}


class ModelAnswer(BaseModel):
    """What one model says."""

    model: str = Field(description="Its id, the job's if it is a preview, or `stock…` as it was asked for.")
    reference: str = Field(description="What was asked for.")
    name: str | None
    version: int | None
    preview: bool = Field(description="The answer is of a job's pictures: the job has no model (yet).")
    backbone: str
    alpha: float
    confidence: ConfidenceOut
    class_names: list[ClassKind]
    results: list[PictureResult]
    timing_ms: Timing


class ClassifyOut(ModelAnswer):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    warnings: list[WarningOut]


class ComparisonOut(BaseModel):
    """The answer to `models`: one for each, in their order, on the same pictures and names."""

    comparison: list[ModelAnswer]
    warnings: list[WarningOut]


NO_RESULT = dict.fromkeys(PictureResult.model_fields)


def fields_of(
    answer: Answer,
    reference: str,
    subject: Subject,
    files: Sequence[str | None],
    *,
    sets: bool,
    rejects: bool,
) -> dict[str, Any]:
    """Those of a ModelAnswer, complete: to check thousands of our own predictions would take longer than to
    make them. `subject` is what the reference meant; `sets` and `rejects` say whether they were asked for."""
    model = subject if isinstance(subject, Model) else None
    results: list[dict[str, Any]] = []
    judged = zip(answer.sets, answer.likeness, answer.rejected, strict=True)
    for file, result in zip(files, answer.results, strict=True):
        if isinstance(result, BadPicture):
            results.append(
                {**NO_RESULT, "file": file, "error": {"code": result.code, "detail": result.detail}}
            )
        else:
            names, likeness, rejected = next(judged, (None, None, None))
            results.append(
                {
                    "file": file,
                    "predictions": [vars(prediction) for prediction in result],
                    "names": names if sets else None,
                    "likeness": likeness,
                    "rejected": rejected if rejects else None,
                    "error": None,
                }
            )
    return {
        "model": answer.model,
        "reference": reference,
        "name": model.name if model else None,
        "version": model.version if model else None,
        "preview": answer.preview,
        "backbone": answer.backbone,
        "alpha": answer.alpha,
        "confidence": _confidence(answer.confidence),
        "class_names": [
            {"name": name, "kind": kind, "offset": answer.offsets[name]}
            for name, kind in answer.kinds.items()
        ],
        "results": results,
        "timing_ms": answer.timing_ms,
    }


def _confidence(known: Confidence | None) -> ConfidenceOut:
    if known is None:
        return ConfidenceOut(calibrated=False)
    return ConfidenceOut(
        calibrated=True,
        temperature=known.temperature,
        held_out=known.pictures,
        least_likeness=known.least,
    )
