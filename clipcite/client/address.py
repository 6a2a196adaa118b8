"""Where the service is, and with which key; and what httpx says, in our words."""

import ipaddress
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from clipcite.client.errors import APIConnectionError, ClipCiteError
from clipcite.client.request import Answer, Request

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 10
WRITE_SECONDS = 60


class InvalidAddress(ClipCiteError):
    """The service's address is no URL of http or https."""


def settings_of(base_url: str | None, api_key: str | None) -> dict[str, Any]:
    """Arguments of an httpx client. What is None comes from CLIPCITE_URL and CLIPCITE_API_KEY.

    Raises:
        InvalidAddress.
    """
    address = base_url or os.environ.get("CLIPCITE_URL") or DEFAULT_URL
    key = api_key or os.environ.get("CLIPCITE_API_KEY") or None
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidAddress(f"{address!r} is no address ({error}). One is like {DEFAULT_URL}.") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidAddress(f"{address!r} is no address. One is like {DEFAULT_URL}.")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidAddress("The API key has characters that no key has; copy it again.")
    headers = {"User-Agent": f"clipcite/{_version()}", "Accept": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return {"base_url": url, "headers": headers, "trust_env": not _is_loopback(url.host), "timeout": None}


def timeouts(request: Request) -> httpx.Timeout:
    return httpx.Timeout(request.answer_seconds, connect=CONNECT_SECONDS, write=WRITE_SECONDS)


def headers_of(request: Request) -> dict[str, str]:
    if request.body is None:
        return dict(request.headers)
    length = {} if request.body.size is None else {"Content-Length": str(request.body.size)}
    return {**request.headers, "Content-Type": request.body.content_type, **length}


def answer_of(response: httpx.Response) -> Answer:
    """The answer, once its body was read."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content)


def unreachable(base_url: httpx.URL, error: httpx.TransportError) -> APIConnectionError:
    """What to tell a person."""
    url = str(base_url).rstrip("/")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return APIConnectionError(
            f"Nothing answers at {url} ({error}). Start the service with `clipcite serve`, or set the "
            "address with --url, CLIPCITE_URL or Client(base_url)."
        )
    if isinstance(error, httpx.TimeoutException):
        return APIConnectionError(f"{url} took too long to answer; it may be busy. Try again.")
    return APIConnectionError(f"The connection to {url} broke ({error or type(error).__name__}). Try again.")


def _is_loopback(host: str) -> bool:
    """A proxy of the environment can't reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _version() -> str:
    try:
        return version("clipcite")
    except PackageNotFoundError:  # from a checkout, not installed
        return "0"
