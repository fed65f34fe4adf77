"""Searching, and the images that are kept for it."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from ae_search.checked_json import parsed_object
from ae_search.image_file import check_image, for_graph, read_head
from ae_search.web.answers import ExplainAnswer, SearchAnswer, Upload
from ae_search.web.asking import Asked
from ae_search.web.explaining import explanation
from ae_search.web.finding import answer
from ae_search.web.parameters import Digest, ExplainBody, SearchBody, SearchParameters
from ae_search.web.problems import Problem
from ae_search.web.responses import Json
from ae_search.web.routes.shared import (
    checked,
    described,
    file_of,
    image_body,
    image_of,
    is_image,
    media_type_of,
    named_once,
    parameters_of,
    problems,
    service_of,
    some,
    unsupported,
)
from ae_search.web.service import Service
from ae_search.web.uploads import Uploads

router = APIRouter(tags=["search"])

_JSON_BYTES = 4 * 2**20
_LISTS = ("like", "unlike", "label")
_PARAMETERS = described(SearchParameters)
_FORM = {
    "type": "object",
    "properties": {"image": {"type": "string", "format": "binary"}},
    "required": ["image"],
}
# What browsers show, by what the head of a file says.
_SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "BMP": "image/bmp", "WEBP": "image/webp"}

_ANSWERS = problems(404, 409, 422, 502)


@router.get(
    "/v1/search",
    response_model=SearchAnswer,
    responses=_ANSWERS,
    operation_id="search",
    openapi_extra={"parameters": _PARAMETERS},
)
async def search(request: Request) -> Response:
    """Find the items that are most similar to an item, to an image that is kept, or to examples."""
    service, parameters = service_of(request), parameters_of(request, SearchParameters, _LISTS)
    return Json(await answer(service, await _with_kept(service, parameters)))


@router.post(
    "/v1/search",
    response_model=SearchAnswer,
    responses=_ANSWERS | problems(404, 408, 409, 413, 415, 422, 502),
    operation_id="search_by_body",
    openapi_extra={
        "parameters": _PARAMETERS,
        **image_body(_FORM, {"$ref": "#/components/schemas/SearchBody"}, needed=False),
    },
)
async def search_by_body(request: Request) -> Response:
    """Find the items that are most similar to an image: the body, or the file `image` of a form; or ask in JSON."""
    service, media_type = service_of(request), media_type_of(request)
    parameters = parameters_of(request, SearchParameters, _LISTS)
    if media_type == "application/json":
        asked = await _with_kept(service, _merged(parameters, await request.body()))
    elif media_type == "multipart/form-data":
        parameters, image = await _of_form(request, parameters)
        asked = await _of_image(service, parameters, image)
    elif is_image(media_type):
        asked = await _of_image(service, parameters, some(await request.body()))
    elif not media_type and not await request.body():
        asked = await _with_kept(service, parameters)
    else:
        raise unsupported()
    return Json(await answer(service, asked))


@router.post(
    "/v1/explain",
    response_model=ExplainAnswer,
    responses=problems(404, 408, 413, 422, 502),
    operation_id="explain",
)
async def explain(request: Request, body: ExplainBody) -> Response:
    """Show why an item is similar to what was searched for: needs a model with a decoder."""
    service = service_of(request)
    asked = SearchBody(key=body.key, image=body.image, like=body.like, unlike=body.unlike)
    return Json(await explanation(service, await _with_kept(service, asked), body))


@router.post(
    "/v1/uploads",
    status_code=201,
    response_model=Upload,
    responses=problems(408, 413, 415, 422),
    operation_id="keep_image",
    openapi_extra=image_body(_FORM),
)
async def keep_image(request: Request) -> Response:
    """Keep an image for a while, so that it can be searched with by its digest."""
    service = service_of(request)
    image = await image_of(request)
    digest = await _keep(service, image)
    shown = await service.in_thread(for_graph, image, "image")
    head = read_head(shown)
    return Json({"image": digest, "width": head.width, "height": head.height, "bytes": len(image)}, status_code=201)


@router.get(
    "/v1/uploads/{digest}",
    response_class=Response,
    responses={
        200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _SHOWN.values()}},
        **problems(404, 422),
    },
    operation_id="kept_image",
)
async def kept_image(request: Request, digest: Annotated[Digest, Path()]) -> Response:
    """Return an image that is kept, as a browser can show it."""
    service = service_of(request)
    image = await _kept(service, digest)
    shown = await service.in_thread(for_graph, image, "image")
    headers = {"cache-control": "private, max-age=86400, immutable", "content-security-policy": "default-src 'none'"}
    return Response(shown, media_type=_SHOWN[read_head(shown).form], headers=headers)


async def _of_image(service: Service, parameters: SearchParameters, image: bytes) -> Asked:
    if parameters.image is not None:
        raise Problem("BadRequest", "The image is in the body, or it is kept; not both.")
    if parameters.keep:
        digest = await _keep(service, image)
    else:
        digest = hashlib.sha256(image).hexdigest()
    return Asked.of(parameters, file=image, image=digest)


async def _with_kept(service: Service, parameters: SearchParameters | SearchBody) -> Asked:
    asked = Asked.of(parameters)
    return asked if asked.image is None else asked.with_file(await _kept(service, asked.image))


async def _keep(service: Service, image: bytes) -> str:
    def keep(uploads: Uploads) -> str | None:
        check_image(image, "image")
        return uploads.keep(image)

    digest = await service.in_thread(keep, _uploads(service))
    if digest is None:
        raise Problem("TooLarge", "This image is larger than all that is kept.")
    return digest


async def _kept(service: Service, digest: str) -> bytes:
    image = await service.in_thread(_uploads(service).read, digest)
    if image is None:
        raise Problem("NotFound", "This image is not kept any more; send it again.")
    return image


def _uploads(service: Service) -> Uploads:
    if service.uploads is None:
        raise Problem("Forbidden", "This service keeps no images.")
    return service.uploads


def _merged(parameters: SearchParameters, body: bytes) -> SearchBody:
    """Return what JSON asks for, beside what the address does."""
    try:
        raw = parsed_object(body, max_bytes=_JSON_BYTES, finite=True)
        given = parameters.model_dump(exclude_unset=True)
        if isinstance(given.get("where"), str):
            given["where"] = parsed_object(given["where"], max_bytes=_JSON_BYTES)
    except (ValueError, RecursionError) as error:
        raise Problem("BadRequest", f"The body must be a JSON object: {error}.") from error
    return checked(SearchBody, given | raw)


async def _of_form(request: Request, parameters: SearchParameters) -> tuple[SearchParameters, bytes]:
    """Return what a form asks for, beside what the address does, and its image."""
    async with request.form(max_files=1, max_fields=1000) as form:
        image = await file_of(form.get("image"), "image")
        fields = named_once(((name, value) for name, value in form.multi_items() if isinstance(value, str)), _LISTS)
    return checked(SearchParameters, parameters.model_dump(exclude_unset=True) | fields), image
