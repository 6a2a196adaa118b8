"""S3-compatible storage: how a bucket is reached, and for how long we insist."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store

if TYPE_CHECKING:  # these are in obstore's type hints only
    from obstore.store import ClientConfig, RetryConfig, S3Config

RETRY_SECONDS = 20
"""5xx, cut connections and silence are answered by another try until so long after the first. A request
for an image's bytes must not take much longer; the worker insists beyond that by itself."""
SILENCE_SECONDS = 15
"""A server that says nothing for so long is given up, for that try."""


@dataclass(frozen=True)
class BucketAccess:
    """What is None comes from the usual variables (`AWS_ACCESS_KEY_ID` and so on) or the machine's role."""

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)


def open_bucket(url: str, access: BucketAccess) -> S3Store:
    """The store at `s3://bucket/prefix`. Nothing is sent yet. Raises obstore's errors on a bad URL."""
    config: S3Config = {}
    if access.endpoint is not None:
        config["endpoint"] = access.endpoint
    if access.region is not None:
        config["region"] = access.region
    if access.access_key is not None:
        config["access_key_id"] = access.access_key
    if access.secret_key is not None:
        config["secret_access_key"] = access.secret_key
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=3),
        "read_timeout": timedelta(seconds=SILENCE_SECONDS),
        "timeout": timedelta(minutes=10),  # of the whole answer: large weights on a slow line
        "allow_http": True,  # only where the operator's endpoint says so: a store in the same house
    }
    retry: RetryConfig = {
        "max_retries": 8,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=4),
            "base": 2,
        },
        "retry_timeout": timedelta(seconds=RETRY_SECONDS),
    }
    return S3Store.from_url(url, config=config, client_options=options, retry_config=retry)
