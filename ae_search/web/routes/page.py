"""The page."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from ae_search.web.pages import FIRST, PageFile, page_files
from ae_search.web.problems import Problem


def page_router() -> APIRouter:
    """Return the routes of the page, whose files are read now."""
    router, files = APIRouter(include_in_schema=False), page_files()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def first(request: Request) -> Response:
        return _answer(request, files.get(FIRST))

    @router.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def other(request: Request, name: str) -> Response:
        return _answer(request, files.get(name))

    return router


def _answer(request: Request, file: PageFile | None) -> Response:
    if file is None:
        raise Problem("NotFound")
    headers = {"etag": file.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if not _takes_gzip(request):
        return Response(file.content, media_type=file.media_type, headers=headers)
    return Response(file.packed, media_type=file.media_type, headers=headers | {"content-encoding": "gzip"})


def _takes_gzip(request: Request) -> bool:
    """Tell whether a browser takes gzip; one that says anything more about it gets the file as it is."""
    return "gzip" in [part.strip() for part in request.headers.get("accept-encoding", "").lower().split(",")]
