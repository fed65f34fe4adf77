"""Items in the order of the index, page after page."""

from typing import Any

from ae_search.contract import Index, Where
from ae_search.web.asking import where_of
from ae_search.web.cursors import Cursor, asked_digest
from ae_search.web.finding import thumbnails
from ae_search.web.parameters import ItemParameters
from ae_search.web.service import Service

# Beyond so many items, their keys are asked for again for each page.
_KEPT_KEYS = 200_000
# In place of a model: a list of items compares no latents.
_ITEMS = "items"


async def page_of_items(service: Service, parameters: ItemParameters) -> dict[str, Any]:
    """Return a page of items.

    Raises:
        Problem: The filter or the cursor is none.
    """
    where = where_of(parameters.where, parameters.label)
    asked, offset = asked_digest(_ITEMS, where), 0
    if parameters.cursor is not None:
        offset = Cursor.parse(parameters.cursor, asked, _ITEMS).offset
    keys = await _keys(service, where, asked)
    page = keys[offset : offset + parameters.limit]
    items = await service.in_thread(_told, service.index, page, parameters.thumbnails)
    end = offset + len(page)
    return {"items": items, "next": str(Cursor(end, asked, _ITEMS)) if end < len(keys) else None}


async def _keys(service: Service, where: Where | None, asked: str) -> list[str]:
    def look(index: Index) -> list[str]:
        return index.keys(where=where)

    if len(service.index) > _KEPT_KEYS:
        return await service.in_thread(look, service.index)
    return await service.counted(f"keys {asked}", look)


def _told(index: Index, keys: list[str], with_thumbnails: bool) -> list[dict[str, Any]]:
    known = index.known(keys)  # some may have gone since the keys were listed
    there = [key for key in keys if key in known]
    told: list[dict[str, Any]] = [
        {"key": key, "label": label, "metadata": metadata}
        for key, (label, metadata) in zip(there, index.details(there), strict=True)
    ]
    if with_thumbnails:
        for one, address in zip(told, thumbnails(index, there), strict=True):
            one["thumbnail"] = address
    return told
