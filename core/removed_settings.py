"""Settings of earlier versions that no longer exist, with what replaces them."""

from collections.abc import Mapping

FIXED = "a fixed value"
REPLACEMENTS = {
    "BODY_BYTES": "CLIPCITE_MEMORY_BYTES",
    "DECODE_BYTES": FIXED,
    "MAX_JSON_BYTES": "CLIPCITE_MEMORY_BYTES",
    "MAX_WAITING_IMAGES": FIXED,
    "MODEL_LOAD_SECONDS": FIXED,
    "PINNED_MODELS": "nothing: the first request loads a model",
    "RESERVED_WORKERS": "the fair queue",
    "SWEEP": "nothing: files are deleted by record",
    "SWEEP_DAYS": "nothing: files are deleted by record",
    "TEXT_CACHE_BYTES": FIXED,
    "UPLOAD_IDLE_SECONDS": FIXED,
}


def removed_settings_warning(environment: Mapping[str, str]) -> str | None:
    """Return one sentence about all removed settings in the environment, or None."""
    found = [
        f"CLIPCITE_{name} (replaced by {replacement})"
        for name, replacement in REPLACEMENTS.items()
        if f"CLIPCITE_{name}" in environment
    ]
    return f"Ignored settings that no longer exist: {', '.join(found)}. Unset them." if found else None
