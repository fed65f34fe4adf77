"""Which queries are items of the index, told by their content: another picture may well have the same key."""

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from ae_search.nearest import NONE, Ids, top_k

# The same picture in a batch of another size comes out a little different; another picture does not come so near.
ROUNDING = 1e-4
# Looked at more closely, since float32 may rank an almost equal one first.
_CLOSEST = 4


def own_items(latents: Latents, items: Latents, namesakes: Ids) -> Ids:
    """Return which item has the content of each query, as the model sees it: the same latent but for rounding.

    Of several such items, which are copies of one another, it is the one with the query's key, else the nearest.

    Args:
        latents: Latents of the queries, float32 `[q, d]`.
        items: Latents of the items, float32 `[n, r, d]`, by the same model.
        namesakes: Id of the item with each query's key `[q]`, -1 where there is none.

    Returns:
        Ids `[q]`, -1 where no item is the query.
    """
    candidates = namesakes[:, np.newaxis]
    own = _same(latents, items, candidates)
    rest = np.flatnonzero(own == NONE)
    if len(rest):
        nearest = top_k(latents[rest], items, _CLOSEST, "euclidean")
        own[rest] = _same(latents[rest], items, nearest)
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
