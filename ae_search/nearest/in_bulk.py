"""Exact neighbours of very many queries in float32, by blocks: where ties and the last digit do not matter."""

import numpy as np
import numpy.typing as npt

from ae_search.contract import Metric

# No id: there is no such neighbour.
NONE = -1

# 2**22 float32 are 16 MiB: so large are a block of items and its scores, at most.
_BLOCK_FLOATS = 2**22
_BLOCK_ITEMS = 4096

Rows = npt.NDArray[np.generic]
Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


def top_k(queries: Rows, items: Rows, k: int, metric: Metric, *, skip: Ids | None = None) -> Ids:
    """Find the nearest items of each query by comparing it with every item, in float32.

    Args:
        queries: q vectors `[q, d]` of any real dtype.
        items: n vectors `[n, d]`, or n items of r vectors `[n, r, d]`, of which the nearest counts; maybe a memory map:
            they are read by blocks.
        k: Neighbours, at least 1.
        metric: "angular", by cosine similarity, or "euclidean".
        skip: For each query the id `[q]` of an item that must not be found, because it is the query, or -1.

    Returns:
        Ids `[q, k]`, the nearest first, equal ones by id; -1 after the last where there are fewer than k items. Where
        several items are equally near at the k-th place, any of them may be left out.
    """
    vectors = 1 if items.ndim == 2 else items.shape[1]
    centre = _centre(items, metric)
    prepared = _prepared(queries, metric, centre)
    own = np.full(len(queries), NONE) if skip is None else skip
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), NONE, np.int64)
    size = -(-int(np.clip(_BLOCK_FLOATS // max(1, items.shape[-1]), 256, _BLOCK_ITEMS)) // vectors)
    rows = max(1, _BLOCK_FLOATS // (size * vectors + k))
    # Written again and again: fresh memory would take longer than the products.
    products = np.empty((min(rows, len(queries)), size * vectors), np.float32)
    for start in range(0, len(items), size):
        block = _prepared(items[start : start + size].reshape(-1, items.shape[-1]), metric, centre)
        # An item's squared norm counts against it; all unit vectors have the same.
        penalty = np.vecdot(block, block) / 2 if metric == "euclidean" else None
        for first in range(0, len(queries), rows):
            part = slice(first, first + rows)
            found = np.matmul(prepared[part], block.T, out=products[: len(queries[part]), : len(block)])
            if penalty is not None:
                found -= penalty
            if vectors > 1:
                found = found.reshape(len(found), -1, vectors).max(axis=2)
            _hide(found, own[part] - start)
            _keep_best(scores[part], ids[part], found, start)
    return _in_order(scores, ids)


def _centre(items: Rows, metric: Metric) -> npt.NDArray[np.float32]:
    """Return what to subtract: distances stay as they are, and float32 keeps more of their digits."""
    if metric == "angular":
        return np.zeros(items.shape[-1], np.float32)
    return np.asarray(items[:4096].reshape(-1, items.shape[-1]).astype(np.float64).mean(axis=0), np.float32)


def _prepared(rows: Rows, metric: Metric, centre: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return float32 vectors whose products rank as the metric does."""
    floats = rows.astype(np.float32)
    if metric == "euclidean":
        return floats - centre
    lengths = np.sqrt(np.vecdot(floats, floats))[:, np.newaxis]
    return np.asarray(np.divide(floats, lengths, out=np.zeros_like(floats), where=lengths > 0), np.float32)


def _hide(scores: npt.NDArray[np.float32], columns: Ids) -> None:
    """Put a query's own item out of the running, where it is in this block."""
    here = np.flatnonzero((columns >= 0) & (columns < scores.shape[1]))
    scores[here, columns[here]] = -np.inf


def _best(scores: npt.NDArray[np.float32], k: int) -> Ids:
    """Return the columns of the k highest scores of each row, in no order; all where there are no more."""
    if scores.shape[1] <= k:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, -k, axis=1)[:, -k:]


def _better(found: Scores, least: Scores, k: int) -> tuple[Ids, Scores]:
    """Return columns and scores of what may be among the k best of each row: all above `least`, or the block's k best.

    After the first block few are above, and comparing is cheaper than partitioning.
    """
    above = np.flatnonzero(found > least)
    rows, columns = np.divmod(above, found.shape[1])
    counts = np.bincount(rows, minlength=len(found))
    if counts.max() > found.shape[1] // 8:
        best = _best(found, k)
        return best, np.take_along_axis(found, best, 1)
    # Column of the result: how many of its row came before.
    place = np.arange(len(above)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.zeros((len(found), counts.max()), np.int64)
    scores = np.full(table.shape, -np.inf, np.float32)
    table[rows, place], scores[rows, place] = columns, found.ravel()[above]
    return table, scores


def _keep_best(scores: npt.NDArray[np.float32], ids: Ids, found: npt.NDArray[np.float32], start: int) -> None:
    """Put what is better in a block of items, whose ids begin at `start`, in place of what was found before."""
    columns, candidates = _better(found, scores.min(axis=1, keepdims=True), scores.shape[1])
    both = np.concatenate([scores, candidates], axis=1)
    chosen = _best(both, scores.shape[1])
    ids[:] = np.take_along_axis(np.concatenate([ids, columns + start], axis=1), chosen, 1)
    scores[:] = np.take_along_axis(both, chosen, 1)


def _in_order(scores: npt.NDArray[np.float32], ids: Ids) -> Ids:
    ids[np.isneginf(scores)] = NONE
    return np.take_along_axis(ids, np.lexsort((ids, -scores)), 1)
