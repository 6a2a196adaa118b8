"""S3-compatible storage: access, timeouts and retries."""

import os
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.store import S3Store

if TYPE_CHECKING:  # only obstore's type hints have these
    from obstore.store import ClientConfig, RetryConfig, S3Config

RETRY_SECONDS = 20
"""Time limit for retries after 5xx responses, lost connections and timeouts. API requests must not take much
longer. Workers have retries of their own."""
SILENCE_SECONDS = 15
"""Read timeout of an attempt."""


def open_bucket(url: str) -> S3Store:
    """Return the store at `s3://bucket/prefix`, without a request. Invalid URLs raise obstore's errors.

    Credentials come from AWS variables (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID` …) or from the
    machine's role.
    """
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=3),
        "read_timeout": timedelta(seconds=SILENCE_SECONDS),
        "timeout": timedelta(minutes=10),  # whole response: large weights on a slow connection
        "allow_http": True,  # used only if the operator's endpoint has http://, in a private network
    }
    retry: RetryConfig = {
        # More than usually fit into the time limit: with jitter, eight retries may take only a second.
        "max_retries": 200,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=4),
            "base": 2,
        },
        "retry_timeout": timedelta(seconds=RETRY_SECONDS),
    }
    return S3Store.from_url(url, config=_shared_credentials(), client_options=options, retry_config=retry)


def _shared_credentials() -> "S3Config":
    """Return the keys in AWS_SHARED_CREDENTIALS_FILE, unless other keys are set. obstore does not read it.

    Raises:
        OSError: the file has no keys.
    """
    path = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    if path is None or "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    profile = os.environ.get("AWS_PROFILE", "default")
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(path).read_text(encoding="utf-8"))
        keys = parser[profile]
        return {
            "access_key_id": keys["aws_access_key_id"],
            "secret_access_key": keys["aws_secret_access_key"],
        }
    except (OSError, ValueError, KeyError, ConfigParserError):  # never quoted: the text may contain a key
        raise OSError(f"{path} has no keys of the profile {profile}") from None
