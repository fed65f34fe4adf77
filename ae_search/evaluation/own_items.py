"""Which queries are items of the index, told by their content: another picture may well have the same key."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from ae_search.data import Source
from ae_search.data.digests import content_digest
from ae_search.errors import ImageError
from ae_search.nearest import NONE, Ids, top_k

# The latent of a query's pixels, which are whole numbers, is so far from that of its file at most, relative to its
# length: 0.01 was seen for photographs, 0.025 for noise. The nearest other picture was 0.13 away, or more.
ROUNDING = 0.03
# Looked at more closely, since float32 may rank an almost equal one first.
_CLOSEST = 4


def contents_of(source: Source, positions: Sequence[int]) -> list[str | None]:
    """Return the digest of the content of each of some images, None where it cannot be read any more."""
    found: dict[int, str] = {}
    for position in sorted(positions):  # some sources are read in their order only
        try:
            found[position] = content_digest(source.read(position))
        except ImageError:
            continue
    return [found.get(position) for position in positions]


def by_content(contents: Sequence[str | None], items: Sequence[str | None], namesakes: Ids) -> Ids:
    """Return which item has the content of each query, by digests.

    If several such items are copies of one another, the one with the query's key counts, else the first.

    Args:
        contents: Digests of the queries, None where one is not known.
        items: Digests of the items, None where one is not known.
        namesakes: Id of the item with each query's key `[q]`, -1 where there is none.

    Returns:
        Ids `[q]`, -1 where no item is the query.
    """
    first: dict[str, int] = {}
    for at, digest in enumerate(items):
        if digest is not None:
            first.setdefault(digest, at)
    own = namesakes.copy()
    for row, digest in enumerate(contents):
        if digest is None or own[row] == NONE or items[own[row]] != digest:
            own[row] = NONE if digest is None else first.get(digest, NONE)
    return own


def by_latent(latents: Latents, items: Latents, namesakes: Ids) -> Ids:
    """Return which item has the content of each query as the model sees it: the same latent but for rounding.

    Among several such items, the one with the query's key counts, else the nearest.

    Args:
        latents: Latents of the queries, float32 `[q, d]`.
        items: Latents of the items, float32 `[n, r, d]`, by the same model.
        namesakes: As for `by_content`.

    Returns:
        Ids `[q]`, -1 where no item is the query.
    """
    own = _same(latents, items, namesakes[:, np.newaxis])
    rest = np.flatnonzero(own == NONE)
    if len(rest) and len(items):
        own[rest] = _same(latents[rest], items, top_k(latents[rest], items, _CLOSEST, "euclidean"))
    return own


def _same(latents: Latents, items: Latents, candidates: Ids) -> Ids:
    """Return the nearest of some candidates `[q, c]` that is the same but for rounding, -1 where there is none."""
    distances: npt.NDArray[np.float64] = np.full(candidates.shape, np.inf)
    for column, ids in enumerate(candidates.T):
        there = np.flatnonzero(ids != NONE)
        apart = np.linalg.norm(items[ids[there]].astype(np.float64) - latents[there, np.newaxis], axis=2)
        distances[there, column] = apart.min(axis=1)
    nearest = distances.argmin(axis=1)
    rows = np.arange(len(latents))
    same = distances[rows, nearest] <= ROUNDING * np.linalg.norm(latents, axis=1)
    return np.where(same, candidates[rows, nearest], NONE)
