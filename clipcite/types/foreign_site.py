"""Detection of requests from outside this machine, for a server without keys, token and secret."""

import re
from collections.abc import Mapping

LOOPBACK_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
PROXY_HEADERS = re.compile(
    r"forwarded|via|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip|(x-forwarded|x-envoy|tailscale)-.*"
)
"""Headers by which a proxy announces itself."""


def foreign_reason(headers: Mapping[str, str]) -> str | None:
    """Return why the request may come from outside this machine, or None.

    This protects a server without keys from proxies, DNS rebinding and pages of other sites.

    Args:
        headers: the headers of the request, with names in lower case.
    """
    proxy = next(filter(PROXY_HEADERS.fullmatch, headers), None)
    if proxy is not None:
        return f"it came through a proxy (header {proxy})"
    host = headers.get("host", "")
    if not LOOPBACK_HOST.fullmatch(host):
        return "its Host is not this machine"
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in {f"http://{host}".lower(), f"https://{host}".lower()}:
        return "its Origin is another site"
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return "another site sent it through a browser"
    return None
