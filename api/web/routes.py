"""The web page. It is open to everybody; its requests to the API need a key where there are keys."""

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
