"""What POST /classify answers."""

from collections.abc import Sequence
from typing import Any

from api.classify.schemas import ConfidenceOut, PictureResult
from core.clip.errors import BadImage
from core.clip.inference.calibration import Confidence
from core.serving.service import Subject
from core.serving.types import ClassifyResult
from core.store.db.tables import Model

NO_RESULT = dict.fromkeys(PictureResult.model_fields)


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
    judged = zip(answer.sets, answer.likeness, answer.rejected, strict=True)
    for file, result in zip(files, answer.results, strict=True):
        if isinstance(result, BadImage):
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
