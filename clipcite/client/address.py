"""Address and API key of the service, and conversions between httpx and this library."""

import ipaddress
import os
import ssl
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
from platformdirs import user_data_path

from clipcite.errors import APIConnectionError, InvalidAddress

DEFAULT_URL = "http://127.0.0.1:8000"


def settings_of(base_url: str | None, api_key: str | None, verify: Any = True) -> dict[str, Any]:
    """Return the arguments of an httpx client. Defaults: CLIPCITE_URL and CLIPCITE_API_KEY.

    Without an address, use the service with this user's data folder. Without a key, a loopback address gets
    the token of this machine's service, if any.

    Raises:
        InvalidAddress: the address is not an http or https URL, the key is malformed, or SSL_CERT_FILE is
            unreadable.
    """
    address = base_url or os.environ.get("CLIPCITE_URL") or local_address() or DEFAULT_URL
    key = api_key or os.environ.get("CLIPCITE_API_KEY") or None
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidAddress(
            f"{address!r} is not a valid address ({error}). Use a URL such as {DEFAULT_URL}."
        ) from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidAddress(f"{address!r} is not a valid address. Use a URL such as {DEFAULT_URL}.")
    try:
        loopback = ipaddress.ip_address(url.host).is_loopback  # a proxy could not reach it
    except ValueError:
        loopback = url.host == "localhost"
    if key is None and loopback:
        key = local_token()
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidAddress("The API key contains invalid characters. Copy the key again.")
    headers = {"User-Agent": f"clipcite/{_version()}", "Accept": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    file = os.environ.get("SSL_CERT_FILE")
    if verify is True and file and url.scheme == "https":
        try:
            # httpx can read this variable itself, but only together with variables for proxies.
            verify = ssl.create_default_context(cafile=file)
        except OSError as error:
            raise InvalidAddress(
                f"SSL_CERT_FILE={file} holds no readable certificates ({error}). Correct the path."
            ) from error
    return {
        "base_url": url,
        "headers": headers,
        "verify": verify,
        "trust_env": not loopback,
        "timeout": None,
    }


def local_address(data: Path | None = None) -> str | None:
    """Return the address of the running service with this data folder (default: CLIPCITE_DATA), or None."""
    return _read("serve.lock", data)


def local_token(data: Path | None = None) -> str | None:
    """Return the token of the service with this data folder (default: CLIPCITE_DATA), or None."""
    return _read("token", data)


def _read(file: str, data: Path | None) -> str | None:
    """Return the content of a file that the running service wrote to its data folder, or None."""
    folder = data or Path(os.environ.get("CLIPCITE_DATA") or user_data_path("clipcite"))
    try:
        return (folder / file).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def unreachable(base_url: httpx.URL, error: httpx.TransportError) -> APIConnectionError:
    """Return the exception for a transport error of httpx."""
    url = str(base_url).rstrip("/")
    if untrusted := untrusted_certificate(error):
        return APIConnectionError(
            f"The certificate of {url} is not trusted ({untrusted}). Set SSL_CERT_FILE to a file with the "
            "certificate of its authority."
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return APIConnectionError(
            f"Can't reach clipcite at {url}. Start it with `clipcite serve`, or set CLIPCITE_URL."
        )
    if isinstance(error, httpx.TimeoutException):
        return APIConnectionError(f"Timeout: no response from {url}. The service may be busy. Try again.")
    return APIConnectionError(f"Connection to {url} lost ({error or type(error).__name__}). Try again.")


def untrusted_certificate(error: BaseException | None) -> str | None:
    """Return why the service's certificate is not trusted, or None for any other error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return None if error is None else f"CERTIFICATE_VERIFY_FAILED: {error.verify_message}"


def _version() -> str:
    try:
        return version("clipcite")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0"
