"""The page's files, as they lie beside this one: no build, nothing from elsewhere, no data inside.

They are open to everybody; what they ask the API for needs a key where there are keys.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

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
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no text of anybody's becomes markup
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # kept, and asked for again: an update of the service is seen at once
}


@dataclass(frozen=True)
class Page:
    """A file and what is said about it."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "Page":
        body = path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:32]
        return cls(body, MEDIA_TYPES[path.suffix], f'"{digest}"')


@cache
def read_pages() -> dict[str, Page]:
    return {
        path.relative_to(STATIC).as_posix(): Page.read(path)
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }


def make_router() -> APIRouter:
    """The routes of the page, whose files are read once."""
    pages = read_pages()
    router = APIRouter(include_in_schema=False)

    def serve(request: Request, name: str) -> Response:
        page = pages.get(name)
        if page is None:
            raise HTTPException(404)
        headers = {**HEADERS, "ETag": page.etag}
        if page.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(page.body, media_type=page.media_type, headers=headers)

    @router.api_route("/", methods=["GET", "HEAD"])
    def index(request: Request) -> Response:
        return serve(request, "index.html")

    @router.api_route("/docs", methods=["GET", "HEAD"])
    def docs(request: Request) -> Response:
        return serve(request, "docs.html")

    @router.api_route("/page/{name:path}", methods=["GET", "HEAD"])
    def file(request: Request, name: str) -> Response:
        return serve(request, name)

    return router
