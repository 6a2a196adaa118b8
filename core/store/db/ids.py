"""Identifiers that sort by creation time: `job_06bz…`. Secrets of webhooks."""

import secrets
import time
from base64 import b64encode

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
_RANDOM_BITS = 80


def new_webhook_secret() -> str:
    """Return a secret in the format of Standard Webhooks."""
    return f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"


def new_id(prefix: str) -> str:
    """Return `prefix`, an underscore and 26 characters: 48 bits of milliseconds, then 80 random bits."""
    number = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    digits = [_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(digits)}"
