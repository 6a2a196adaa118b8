"""S3-compatible storage: access, timeouts and retries."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store

if TYPE_CHECKING:  # these are in obstore's type hints only
    from obstore.store import ClientConfig, RetryConfig, S3Config

RETRY_SECONDS = 20
"""Time limit for retries after 5xx responses, lost connections and timeouts. API requests must not take much
longer. Workers have retries of their own."""
SILENCE_SECONDS = 15
"""Read timeout of an attempt."""


@dataclass(frozen=True)
class BucketAccess:
    """Access to a bucket. None stands for the AWS variables (`AWS_ACCESS_KEY_ID` …) or the machine's role."""

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)


def open_bucket(url: str, access: BucketAccess) -> S3Store:
    """Return the store at `s3://bucket/prefix`, without a request. Invalid URLs raise obstore's errors."""
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
        "timeout": timedelta(minutes=10),  # whole response: large weights on a slow connection
        "allow_http": True,  # used only if the operator's endpoint has http://, in a private network
    }
    retry: RetryConfig = {
        # More than fit into the time limit: after jitter, eight retries may take a second only.
        "max_retries": 200,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=4),
            "base": 2,
        },
        "retry_timeout": timedelta(seconds=RETRY_SECONDS),
    }
    return S3Store.from_url(url, config=config, client_options=options, retry_config=retry)
