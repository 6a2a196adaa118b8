"""Routes of the web page. The page needs no key, but its API requests do once the service has keys."""

from fastapi import APIRouter, Request, Response

from api.web.static_files import PageFiles

files = PageFiles()
router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    return await files.get_response("index.html", request.scope)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    return await files.get_response("docs.html", request.scope)
