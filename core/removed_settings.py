"""Settings of earlier versions that no longer exist, with what replaces them."""

from collections.abc import Mapping

FIXED = "a fixed value"
LEASE = "a value that follows from CLIPCITE_LEASE_SECONDS"
KEEP = "CLIPCITE_KEEP_DAYS"
NO_QUOTA = "nothing: CLIPCITE_MAX_STORED_BYTES and CLIPCITE_MAX_RUNNING_JOBS limit an owner"
REPLACEMENTS = {
    "BACKBONE_FOLDER": "CLIPCITE_BACKBONES with local-dir:FOLDER",
    "BODY_BYTES": "CLIPCITE_MEMORY_BYTES",
    "CHECKPOINT_SECONDS": LEASE,
    "DECODE_BYTES": FIXED,
    "DISPATCH_AHEAD": FIXED,
    "DISPATCH_SECONDS": LEASE,
    "HEARTBEAT_SECONDS": LEASE,
    "KEEP_AUDIT_DAYS": KEEP,
    "KEEP_EVENTS_DAYS": KEEP,
    "KEEP_IMAGES_DAYS": KEEP,
    "KEEP_JOBS_DAYS": KEEP,
    "KEEP_MODELS_DAYS": "nothing: models are kept until they are deleted",
    "KEEP_WEBHOOKS_DAYS": KEEP,
    "LIVENESS_FILE": "CLIPCITE_METRICS_PORT",
    "MAX_CLASSIFY_IMAGES": FIXED,
    "MAX_CLASS_NAMES": FIXED,
    "MAX_JSON_BYTES": "CLIPCITE_MEMORY_BYTES",
    "MAX_MODELS": NO_QUOTA,
    "MAX_QUEUED_JOBS": NO_QUOTA,
    "MAX_STREAMS": FIXED,
    "MAX_WAITING_IMAGES": FIXED,
    "MODEL_LOAD_SECONDS": FIXED,
    "PINNED_MODELS": "nothing: the first request loads a model",
    "REDISPATCH_SECONDS": LEASE,
    "REQUESTS_PER_MINUTE": "a limit in the reverse proxy",
    "RESERVED_WORKERS": "the fair queue",
    "S3_ACCESS_KEY": "AWS_ACCESS_KEY_ID",
    "S3_ENDPOINT": "AWS_ENDPOINT_URL",
    "S3_REGION": "AWS_REGION",
    "S3_SECRET_KEY": "AWS_SECRET_ACCESS_KEY",
    "STALL_SECONDS": LEASE,
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
