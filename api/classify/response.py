"""Response of POST /classify."""

from typing import Any

from api.classify.request import ParsedBody
from clipcite.wire.predictions import Calibration, ImageResult
from core.clip.errors import BadImage
from core.clip.inference import calibration
from core.serving.service import Subject
from core.serving.types import ClassifyResult
from core.store.db.tables import Model

NO_RESULT = dict.fromkeys(ImageResult.model_fields)


def to_response(answer: ClassifyResult, reference: str, subject: Subject, body: ParsedBody) -> dict[str, Any]:
    """Return the fields of a ModelAnswer.

    The result is a plain dict, because validating thousands of predictions would take too long.

    Args:
        subject: what the reference resolved to.
        body: the request, whose options choose what is included.
    """
    model = subject if isinstance(subject, Model) else None
    results: list[dict[str, Any]] = []
    features = iter(answer.features)
    calibrated = zip(answer.sets, answer.in_distribution_score, answer.rejected, strict=True)
    for file, result in zip(body.files, answer.results, strict=True):
        if isinstance(result, BadImage):
            results.append(
                {**NO_RESULT, "file": file, "error": {"code": result.code, "detail": result.detail}}
            )
        else:
            prediction_set, in_distribution_score, rejected = next(calibrated, (None, None, None))
            results.append(
                {
                    "file": file,
                    "predictions": [vars(prediction) for prediction in result],
                    "prediction_set": prediction_set if body.options.coverage else None,
                    "in_distribution_score": in_distribution_score,
                    "rejected": rejected if body.options.reject else None,
                    "features": next(features, None),
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
        "rule": answer.rule,
        "calibration": _calibration(answer.calibration, answer.temperature),
        "class_names": [
            {"name": name, "kind": kind, "offset": answer.offsets[name]}
            for name, kind in answer.kinds.items()
        ],
        "results": results,
        "timing_ms": answer.timing_ms,
    }


def _calibration(fitted: calibration.Calibration | None, temperature: float | None) -> Calibration:
    if fitted is None:
        return Calibration(calibrated=False, temperature=temperature)
    return Calibration(
        calibrated=True,
        temperature=temperature,
        held_out_images=fitted.images,
        rejection_threshold=fitted.threshold,
    )
