"""The manifest of stored weights: their origin and their SHA-256. Needs no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from clipcite.types.adapt import DeltaFormat
from core.clip.errors import CorruptWeights

WEIGHTS = "weights.safetensors"
MANIFEST = "manifest.json"
MANIFEST_FORMAT = 3


@dataclass(frozen=True)
class Manifest:
    """Origin and SHA-256 of stored weights, saved as JSON."""

    sha256: str
    """SHA-256 of the weights file. safetensors alone does not detect a flipped bit."""
    bytes: int
    backbone: str
    backbone_sha256: str
    image_size: int
    class_names: tuple[str, ...]
    config: Mapping[str, Any]
    delta_format: DeltaFormat
    format: int = MANIFEST_FORMAT


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(data: bytes) -> Manifest:
    """Parse a manifest.

    Raises:
        CorruptWeights: the manifest is damaged or has another format.
    """
    try:
        fields = json.loads(data)
        if fields["format"] == MANIFEST_FORMAT:
            manifest = Manifest(**{**fields, "class_names": tuple(fields["class_names"])})
            if manifest.delta_format in get_args(DeltaFormat):
                return manifest
            raise CorruptWeights(
                f"The model is stored as {manifest.delta_format!r}, which this version does not read. Adapt "
                "again."
            )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptWeights(
            "The manifest of the model is damaged. Restore the file, or adapt again."
        ) from error
    raise CorruptWeights(
        f"The model has format {fields['format']!r}; this version reads {MANIFEST_FORMAT}. Adapt again."
    )
