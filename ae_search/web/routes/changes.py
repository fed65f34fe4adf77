"""Changing the index: adding, describing, replacing and removing items."""

import json
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from ae_search.checked_json import parsed_object
from ae_search.contract import MAX_METADATA_BYTES, Index
from ae_search.web import changing
from ae_search.web.answers import Added, Removed, Updated
from ae_search.web.parameters import ChangedItems, Key, Keys, Label, NewItem
from ae_search.web.problems import Problem
from ae_search.web.responses import Json
from ae_search.web.routes.shared import (
    MAX_FILES,
    file_of,
    image_body,
    image_of,
    is_image,
    malformed,
    media_type_of,
    problems,
    service_of,
    some,
    unsupported,
)

router = APIRouter(tags=["changes"])

_NEW_ITEMS: TypeAdapter[list[NewItem]] = TypeAdapter(list[NewItem])
_FORM = {
    "type": "object",
    "properties": {
        "items": {
            "type": "string",
            "description": "JSON: a list of objects with key, and maybe label and metadata.",
            "examples": ['[{"key": "new/1.png", "label": "Bag"}]'],
        },
        "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
    },
    "required": ["items", "images"],
}
_ONE_FORM = {
    "type": "object",
    "properties": {"image": {"type": "string", "format": "binary"}},
    "required": ["image"],
}


@router.post(
    "/v1/items",
    status_code=201,
    response_model=Added,
    responses=problems(408, 409, 413, 415, 422, 502),
    operation_id="add_items",
    openapi_extra=image_body(_FORM),
)
async def add_items(
    request: Request,
    key: Annotated[Key | None, Query(description="With an image as the body.")] = None,
    label: Annotated[Label | None, Query()] = None,
    metadata: Annotated[str | None, Query(max_length=65536, examples=['{"price": 12.5}'])] = None,
) -> Response:
    """Add an item, whose image is the body, or many by a form: all of them or none."""
    service = service_of(request)
    if media_type_of(request) == "multipart/form-data":
        if key is not None or label is not None or metadata is not None:
            raise Problem("BadRequest", "With a form, keys, labels and metadata are in its field 'items'.")
        items, images = await _of_form(request)
    elif is_image(media_type_of(request)):
        if key is None:
            raise Problem("BadRequest", "key: an item needs a key.")
        items = [NewItem(key=key, label=label, metadata=_metadata(metadata))]
        images = [some(await request.body())]
    else:
        raise unsupported()

    def add(index: Index) -> int:
        return changing.add(index, service.blocking_encoder, items, images)

    return Json({"added": await service.write(add)}, status_code=201)


@router.patch(
    "/v1/items", response_model=Updated, responses=problems(404, 408, 413, 415), operation_id="describe_items"
)
async def describe_items(request: Request, body: ChangedItems) -> Response:
    """Change labels and metadata of items: all of them or none."""
    return Json({"updated": await service_of(request).write(partial(changing.describe, items=body.items))})


@router.put(
    "/v1/item/image",
    response_model=Updated,
    responses=problems(404, 408, 413, 415, 422, 502),
    operation_id="replace_image",
    openapi_extra=image_body(_ONE_FORM),
)
async def replace_image(request: Request, key: Annotated[Key, Query()]) -> Response:
    """Give an item another image."""
    service = service_of(request)
    image = await image_of(request)

    def replace(index: Index) -> None:
        changing.replace_image(index, service.blocking_encoder, key, image)

    await service.write(replace)
    return Json({"updated": 1})


@router.delete("/v1/item", status_code=204, responses=problems(404), operation_id="remove_item")
async def remove_item(request: Request, key: Annotated[Key, Query()]) -> Response:
    """Remove an item."""
    await service_of(request).write(partial(changing.remove, keys=[key]))
    return Response(status_code=204)


@router.post(
    "/v1/items/remove", response_model=Removed, responses=problems(404, 408, 413, 415), operation_id="remove_items"
)
async def remove_items(request: Request, body: Keys) -> Response:
    """Remove items: all of them or none."""
    return Json({"removed": await service_of(request).write(partial(changing.remove, keys=body.keys))})


async def _of_form(request: Request) -> tuple[list[NewItem], list[bytes]]:
    limit = service_of(request).options.limits.body_bytes
    async with request.form(max_files=MAX_FILES, max_fields=10, max_part_size=limit) as form:
        try:
            items = _NEW_ITEMS.validate_python(json.loads(str(form.get("items", ""))))
        except ValidationError as error:
            raise malformed(error.errors()) from error
        except (ValueError, RecursionError) as error:
            raise Problem("BadRequest", "The form's field 'items' must be JSON: a list of objects.") from error
        images = [await file_of(part, "images") for part in form.getlist("images")]
    if not items or len(items) != len(images):
        raise Problem("BadRequest", f"Each item needs an image. Received: {len(items)} items, {len(images)} images.")
    return items, images


def _metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return parsed_object(text, max_bytes=MAX_METADATA_BYTES)
    except (ValueError, RecursionError) as error:
        raise Problem("BadRequest", f"metadata must be a JSON object: {error}.") from error
