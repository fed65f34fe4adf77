"""Looking at items."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from ae_search.contract import Index
from ae_search.errors import ConfigurationError
from ae_search.web.answers import FieldsAnswer, Item, ItemsAnswer, LabelsAnswer
from ae_search.web.counting import fields, label_counts, labels
from ae_search.web.finding import picture_version, thumbnails
from ae_search.web.item_lists import page_of_items
from ae_search.web.parameters import ItemParameters, Key, LabelText
from ae_search.web.problems import Problem
from ae_search.web.responses import Json
from ae_search.web.routes.shared import problems, service_of

router = APIRouter(tags=["items"])

_IMMUTABLE = "private, max-age=31536000, immutable"


@router.get("/v1/items", response_model=ItemsAnswer, responses=problems(409), operation_id="list_items")
async def list_items(request: Request, parameters: Annotated[ItemParameters, Query()]) -> Response:
    """List items, in the order of the index."""
    return Json(await page_of_items(service_of(request), parameters))


@router.get("/v1/item", response_model=Item, responses=problems(404), operation_id="get_item")
async def get_item(request: Request, key: Annotated[Key, Query()]) -> Response:
    """Return an item."""

    def look(index: Index) -> dict[str, Any]:
        label, metadata = index.details([key])[0]
        return {"key": key, "label": label, "metadata": metadata, "thumbnail": thumbnails(index, [key])[0]}

    service = service_of(request)
    try:
        return Json(await service.in_thread(look, service.index))
    except ConfigurationError as error:
        raise Problem("NotFound", f"The index has no item {key!r:.200}.") from error


@router.get(
    "/v1/thumbnail",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The caller has it already."},
        **problems(404),
    },
    operation_id="get_thumbnail",
)
async def get_thumbnail(
    request: Request,
    key: Annotated[Key, Query()],
    v: Annotated[str | None, Query(max_length=64, description="What it looked like; see `thumbnail`.")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the picture of an item."""
    service = service_of(request)
    picture = await service.in_thread(service.index.thumbnail, key)
    if picture is None:
        raise Problem("NotFound", f"The index has no picture of {key!r:.200}.")
    version = picture_version(picture)
    headers = {
        "etag": f'"{version}"',
        "cache-control": _IMMUTABLE if v == version else "private, no-cache",
        "content-security-policy": "default-src 'none'",
    }
    if f'"{version}"' in (if_none_match or ""):
        return Response(status_code=304, headers=headers)
    return Response(picture, media_type="image/jpeg", headers=headers)


@router.get("/v1/labels", response_model=LabelsAnswer, responses=problems(), operation_id="list_labels")
async def list_labels(request: Request, find: Annotated[LabelText, Query()] = "") -> Response:
    """Count the items of each label; `items` counts all of the index."""
    service = service_of(request)
    return Json(await service.in_thread(labels, await service.counted("labels", label_counts), find))


@router.get("/v1/fields", response_model=FieldsAnswer, responses=problems(), operation_id="list_fields")
async def list_fields(request: Request) -> Response:
    """Tell which fields the metadata of the first items have, and which values are frequent."""
    return Json(await service_of(request).counted("fields", fields))
