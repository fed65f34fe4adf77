"""A search, from what was asked for to the answer."""

import hashlib
import time
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import numpy as np

from ae_search.contract import Index, ModelRef
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.web.asking import Asked
from ae_search.web.cursors import Cursor
from ae_search.web.folding import LOOK_BACK, folded
from ae_search.web.listings import Page, Row
from ae_search.web.problems import Problem
from ae_search.web.service import Service

# Neighbours that can be listed for one question; with views, each of 33 finds as many.
DEPTH, DEPTH_VIEWS = 100_000, 3_000


async def answer(service: Service, asked: Asked) -> dict[str, Any]:
    """Return the answer to a question.

    Raises:
        Problem: A key is not there, the cursor is none, or the question does not fit the index.
        AeSearchError: Image, index or model server are not as they should be.
    """
    began, given = time.perf_counter(), asked.parameters
    try:
        page, offset, model = await _page(service, asked)
    except ConfigurationError as error:
        raise await _unknown(service, asked) or error from error
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
    plain = await _plain(service, asked)
    if not offset and page.rows:
        service.metrics.found(asked.by, page.rows[0].neighbour.similarity)
    more = Cursor(offset + len(page.rows), asked.digest(), model.fingerprint[:16]) if page.goes_on else None
    return {
        "query": asked.told(),
        "model": {"name": model.name, "version": model.version, "fingerprint": model.fingerprint},
        "plain": plain,
        "verdict": _verdict(found) if given.originals else None,
        "neighbours": found,
        "next": None if more is None else str(more),
        "more": page.cut,
        "took_ms": round(1000 * (time.perf_counter() - began), 3),
    }


async def find(service: Service, asked: Asked, k: int, exact: bool) -> list[Row]:
    """Return the first `k` rows."""
    given = asked.parameters
    options: dict[str, Any] = {"where": asked.where, "effort": given.effort, "exact": exact}
    if given.originals and asked.file is not None:
        judged = await service.search.originals(asked.file, k, **options)
        return [Row(one.neighbour, one.verdict, one.score) for one in judged]
    if asked.file is not None or asked.is_by_example:
        found = await service.search.search(
            asked.file, k, like=asked.like, unlike=given.unlike, views=given.views, **options
        )
    elif asked.latent is not None:
        found = await service.in_thread(_by_latent, service.index, asked, k, options)
    else:
        found = await service.in_thread(service.index.search_by_key, given.key, k, **options)
    return list(map(Row, found))


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


async def _page(service: Service, asked: Asked) -> tuple[Page, int, ModelRef]:
    """Return a page, how many rows came before it, and the model whose latents were compared."""
    given, finds = asked.parameters, partial(find, service, asked)
    if given.cursor is None:
        page = await service.listings.first(finds, given.k, exact=given.exact)
        # A search by image knows; to ask the index would cost another turn of a thread.
        known = service.search.model if asked.file is not None else None
        return page, 0, known or await service.model()
    model = await service.model()
    cursor = Cursor.parse(given.cursor, asked.digest(), model.fingerprint[:16])
    page = await service.listings.later(
        finds,
        given.k,
        cursor.offset,
        name=f"{cursor.asked} {model.fingerprint}",
        exact=given.exact,
        depth=DEPTH_VIEWS if given.views or given.originals else DEPTH,
    )
    return page, cursor.offset, model


def _by_latent(index: Index, asked: Asked, k: int, options: dict[str, Any]) -> Any:
    fingerprint = asked.fingerprint or index.model.fingerprint
    try:
        return index.search(np.asarray(asked.latent, np.float64), k, fingerprint=fingerprint, **options)[0]
    except ValueError as error:  # all else was checked
        raise Problem("BadRequest", f"latent: {error}") from error
    except ModelMismatchError as error:
        if asked.fingerprint is None:
            raise
        told = "The index holds latents of another model than the one that this latent comes from."
        raise Problem("ModelMismatchError", told, status=HTTPStatus.CONFLICT) from error


async def _unknown(service: Service, asked: Asked) -> Problem | None:
    """Return the problem that a key is not there, None where all are."""
    keys = list(dict.fromkeys([*asked.like, *asked.parameters.unlike]))
    known = await service.in_thread(service.index.known, keys)
    missing = [key for key in keys if key not in known]
    return Problem("NotFound", f"The index has no item {missing[0]!r:.200}.") if missing else None


async def _plain(service: Service, asked: Asked) -> bool | None:
    if not asked.parameters.plain or asked.file is None:
        return None
    plain = await service.search.plain(asked.file)
    if plain and asked.parameters.cursor is None:
        service.metrics.plain()
    return plain


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
