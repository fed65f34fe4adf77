"""A search, from what was asked for to the answer."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ae_search.contract import Index, ModelRef
from ae_search.errors import ConfigurationError
from ae_search.trust import Trusted
from ae_search.web.asking import Asked
from ae_search.web.cursors import Cursor
from ae_search.web.folding import LOOK_BACK, folded
from ae_search.web.listings import Page, Row
from ae_search.web.searching import Searching, missing
from ae_search.web.service import Service

# Neighbours that can be listed for one question; with views, each of 33 finds as many.
DEPTH, DEPTH_VIEWS = 100_000, 3_000


async def answer(service: Service, asked: Asked) -> dict[str, Any]:
    """Return the answer to a question.

    Raises:
        Problem: A key is not there, the cursor is none, or the question does not fit the index.
        AeSearchError: Image, index or model server are not as they should be.
    """
    # While the model server decodes the image, another core can look at it too.
    plain = asyncio.create_task(_plain(service, asked))
    try:
        return await _answer(service, asked, plain)
    finally:
        plain.cancel()
        await asyncio.gather(plain, return_exceptions=True)


async def _answer(service: Service, asked: Asked, looking: "asyncio.Task[bool | None]") -> dict[str, Any]:
    began, given, search = time.perf_counter(), asked.parameters, Searching(service, asked)
    try:
        page, offset, model = await _page(service, asked, search)
    except ConfigurationError as error:
        raise await missing(service, [*asked.like, *given.unlike]) or error from error
    keys = [row.neighbour.key for row in page.rows]
    found = [_told(row, offset + at) for at, row in enumerate(page.rows, start=1)]
    if given.fold:
        before = [row.neighbour.key for row in page.before[-LOOK_BACK:]]
        every = await service.in_thread(folded, service.index, before + keys, await service.calibration())
        for one, head in zip(found, every[len(before) :], strict=True):
            one["folded_under"] = head
    if given.thumbnails:
        for one, address in zip(found, await service.in_thread(thumbnails, service.index, keys), strict=True):
            one["thumbnail"] = address
    plain = await looking
    if plain and given.cursor is None:
        service.metrics.plain()
    trusted = None if offset else search.trusted
    if not offset:
        await _note(service, asked, page.rows, trusted)
    more = Cursor(offset + len(page.rows), asked.digest(), model.fingerprint[:16]) if page.goes_on else None
    return {
        "query": asked.told(),
        "model": {"name": model.name, "version": model.version, "fingerprint": model.fingerprint},
        "plain": plain,
        "trust": None if trusted is None else trusted.trust.to_json(),
        "verdict": _verdict(found) if given.originals else None,
        "neighbours": found,
        "next": None if more is None else str(more),
        "more": page.cut,
        "took_ms": round(1000 * (time.perf_counter() - began), 3),
    }


def thumbnails(index: Index, keys: Sequence[str]) -> list[str | None]:
    """Return the address of the thumbnail of each item, which holds what it looks like; None where it has none."""
    pictures = map(index.thumbnail, keys)
    return [
        None if picture is None else f"/v1/thumbnail?key={quote(key, safe='')}&v={picture_version(picture)}"
        for key, picture in zip(keys, pictures, strict=True)
    ]


def picture_version(picture: bytes) -> str:
    """Return what tells a picture from the one that was there before."""
    return hashlib.sha256(picture).hexdigest()[:16]


async def _page(service: Service, asked: Asked, search: Searching) -> tuple[Page, int, ModelRef]:
    """Return a page, how many rows came before it, and the model whose latents were compared."""
    given = asked.parameters
    if given.cursor is None:
        page = await service.listings.first(search, given.k, exact=given.exact)
        # A search by image knows; to ask the index would cost another turn of a thread.
        known = service.search.model if asked.file is not None else None
        return page, 0, known or await service.model()
    model = await service.model()
    cursor = Cursor.parse(given.cursor, asked.digest(), model.fingerprint[:16])
    page = await service.listings.later(
        search,
        given.k,
        cursor.offset,
        name=f"{cursor.asked} {model.fingerprint}",
        exact=given.exact,
        depth=DEPTH_VIEWS if given.views or given.originals else DEPTH,
    )
    return page, cursor.offset, model


async def _note(service: Service, asked: Asked, rows: Sequence[Row], trusted: Trusted | None) -> None:
    """Count a query, and write it into the log."""
    if rows:
        service.metrics.found(asked.by, rows[0].neighbour.similarity)
    if trusted is not None:
        service.metrics.trusted(trusted.trust)
        if service.query_log is not None:
            await service.in_thread(service.query_log.add, trusted)


async def _plain(service: Service, asked: Asked) -> bool | None:
    if not asked.parameters.plain or asked.file is None:
        return None
    return await service.search.plain(asked.file)


def _told(row: Row, rank: int) -> dict[str, Any]:
    neighbour = row.neighbour
    told: dict[str, Any] = {
        "rank": rank,
        "key": neighbour.key,
        "label": neighbour.label,
        "similarity": neighbour.similarity,
        "distance": neighbour.distance,
        "metadata": neighbour.metadata,
    }
    if row.verdict is not None:
        told |= {"verdict": row.verdict, "score": row.score}
    return told


def _verdict(found: Sequence[dict[str, Any]]) -> str:
    return str(found[0]["verdict"]) if found else "not here"
