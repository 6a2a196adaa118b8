"""Routes and static files of the page, with a strict Content-Security-Policy: nothing from other hosts.

The page needs no key, but its API requests do once the service has keys.
"""

import hashlib
import os
from functools import cache
from io import BytesIO
from os import PathLike
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.http.problems import InvalidRequest
from api.jobs.report.style import STYLE_SOURCE
from api.threads import REQUESTS

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {STYLE_SOURCE}",  # a report that the page opens with a key has the page's policy
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no user's text becomes markup
    )
)
DOCS_POLICY = POLICY.partition("; require-trusted-types-for")[0]
"""Policy of /docs. Swagger UI makes markup of the API's description, and shows responses as text."""
MAX_URL = 500
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # revalidated, so that an update of the service is seen at once
}


class PageFiles(StaticFiles):
    """Files with the page's headers."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        path = Path(full_path)
        if path.suffix not in MEDIA_TYPES:
            raise HTTPException(404)
        headers = {**PAGE_HEADERS, "ETag": _etag(path)}
        response = FileResponse(
            path, status_code, headers, media_type=MEDIA_TYPES[path.suffix], stat_result=stat_result
        )
        # Installed files may have the times of any version, so only the digest decides.
        del response.headers["last-modified"]
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return Response(status_code=304, headers=headers)
        return response


@cache
def _etag(path: Path) -> str:
    return f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}"'


files = PageFiles(directory=STATIC)
swagger = PageFiles(packages=[("fastapi_offline", "static")])
router = APIRouter(include_in_schema=False)


@router.get("/")
async def index(request: Request) -> Response:
    return await files.get_response("index.html", request.scope)


@router.get("/docs")
async def docs(request: Request) -> Response:
    response = await files.get_response("docs.html", request.scope)
    response.headers["Content-Security-Policy"] = DOCS_POLICY
    return response


@router.get("/qr")
@REQUESTS.runs
def qr_code(url: str = "") -> Response:
    """Return the QR code of an https address as SVG, for *Use on phone*."""
    import segno  # this module is loaded before the service listens

    if not url.startswith("https://") or len(url) > MAX_URL:
        detail = (
            f"url must begin with https:// and have at most {MAX_URL} characters. Send the page's address."
        )
        raise InvalidRequest(detail, at="/url")
    image = BytesIO()
    segno.make_qr(url).save(image, "svg", scale=4, light="#fff")
    return Response(image.getvalue(), headers=PAGE_HEADERS, media_type=MEDIA_TYPES[".svg"])
