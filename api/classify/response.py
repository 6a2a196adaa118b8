"""What POST /classify answers."""

from collections.abc import Sequence
from typing import Any

from api.classify.schemas import Calibration, ImageResult
from core.clip.errors import BadImage
from core.clip.inference import calibration
from core.serving.service import Subject
from core.serving.types import ClassifyResult
from core.store.db.tables import Model

NO_RESULT = dict.fromkeys(ImageResult.model_fields)


def to_response(
    answer: ClassifyResult,
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
    judged = zip(answer.sets, answer.in_distribution_score, answer.rejected, strict=True)
    for file, result in zip(files, answer.results, strict=True):
        if isinstance(result, BadImage):
            results.append(
                {**NO_RESULT, "file": file, "error": {"code": result.code, "detail": result.detail}}
            )
        else:
            names, in_distribution_score, rejected = next(judged, (None, None, None))
            results.append(
                {
                    "file": file,
                    "predictions": [vars(prediction) for prediction in result],
                    "prediction_set": names if sets else None,
                    "in_distribution_score": in_distribution_score,
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
        "calibration": _calibration(answer.calibration),
        "class_names": [
            {"name": name, "kind": kind, "offset": answer.offsets[name]}
            for name, kind in answer.kinds.items()
        ],
        "results": results,
        "timing_ms": answer.timing_ms,
    }


def _calibration(known: calibration.Calibration | None) -> Calibration:
    if known is None:
        return Calibration(calibrated=False)
    return Calibration(
        calibrated=True,
        temperature=known.temperature,
        held_out_images=known.images,
        rejection_threshold=known.threshold,
    )
