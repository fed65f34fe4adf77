"""Distances and exact search in NumPy: the yardstick for the forest."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, Metric

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

# 16,384 latents of 128 float64 are 16 MB, and 256 rows of as many distances 32 MB.
_ITEMS_PER_BLOCK = 16_384
_QUERIES_PER_BLOCK = 256

# Annoy multiplies two squared norms in float32 (annoylib.h, Angular::distance); beyond this they overflow.
MAX_MAGNITUDE = 1e7


def checked_latents(latents: npt.ArrayLike, latent_dim: int) -> Latents:
    """Return latents as float32 `[n, d]`; one latent `[d]` becomes one row.

    Raises:
        ValueError: Wrong size, or a value that is not finite or beyond 1e7.
    """
    array = as_float32(latents)
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.shape[1] != latent_dim:
        raise ValueError(f"Expected latents of shape [n, {latent_dim}]. Received: shape={np.shape(latents)}.")
    if (row := first_bad_row(array)) is not None:
        raise ValueError(
            f"Expected finite latents, at most {MAX_MAGNITUDE:g} in magnitude. Received: row {row} with other values."
        )
    return array


def as_float32(latents: npt.ArrayLike) -> Latents:
    """Return latents as float32, those too large for it as infinity."""
    with np.errstate(over="ignore"):
        return np.asarray(latents, dtype=np.float32)


def first_bad_row(latents: Latents) -> int | None:
    """Return the first row of `[n, d]` with a value that is not finite or beyond 1e7."""
    # NaN fails the comparison.
    if not latents.size or np.abs(latents).max() <= MAX_MAGNITUDE:
        return None
    return int(np.argmin((np.abs(latents) <= MAX_MAGNITUDE).all(axis=1)))


def compare(latent: npt.NDArray[Any], vectors: npt.NDArray[Any], metric: Metric) -> tuple[Floats, Floats]:
    """Compare one latent with some others, equal ones coming out equal to the last bit.

    Args:
        latent: `[d]`.
        vectors: `[m, d]`.
        metric: "angular", which is sqrt(2 - 2 cos) as in Annoy, or "euclidean".

    Returns:
        Distances `[m]` and cosine similarities `[m]` in [-1, 1]; a zero latent has similarity 0 with everything.
    """
    one, many = latent.astype(np.float64), vectors.astype(np.float64)
    # Summed by rows, not by a matrix product: BLAS may round equal rows differently.
    similarity = np.clip((_unit(many) * _unit(one)).sum(axis=-1), -1.0, 1.0)
    if metric == "angular":
        return np.sqrt(2.0 - 2.0 * similarity), similarity
    return np.sqrt(np.square(many - one).sum(axis=-1)), similarity


def nearest(latents: Latents, vectors: Latents, k: int, metric: Metric) -> tuple[Ids, Floats, Floats]:
    """Find the exact neighbours.

    Args:
        latents: Queries `[q, d]`.
        vectors: Items `[n, d]`; may be a memory map, it is read by blocks.
        k: Neighbours for each query, in [1, n].
        metric: "angular" or "euclidean".

    Returns:
        Ids, distances and cosine similarities, each `[q, k]`, by distance and then by id.
    """
    best = np.empty((3, len(latents), k))
    for start in range(0, len(latents), _QUERIES_PER_BLOCK):
        rows = slice(start, start + _QUERIES_PER_BLOCK)
        best[:, rows] = _nearest_of_block(latents[rows], vectors, k, metric)
    return best[0].astype(np.int64), best[1], best[2]


def _nearest_of_block(latents: Latents, vectors: Latents, k: int, metric: Metric) -> Floats:
    best = [np.empty((3, 0)) for _ in latents]
    for start in range(0, len(vectors), _ITEMS_PER_BLOCK):
        block = vectors[start : start + _ITEMS_PER_BLOCK]
        squared, slack = _rough_squares(latents, block, metric)
        last = min(k, len(block)) - 1
        limits = np.partition(squared, last, axis=1)[:, last] + slack
        for row, latent in enumerate(latents):
            chosen = np.flatnonzero(squared[row] <= limits[row])
            found = np.stack([chosen + start, *compare(latent, block[chosen], metric)])
            best[row] = _first(np.concatenate([best[row], found], axis=1), k)
    return np.stack(best, axis=1) if best else np.empty((3, 0, k))


def _first(found: Floats, k: int) -> Floats:
    """Return the k best columns of (id, distance, similarity)."""
    return found[:, np.lexsort((found[0], found[1]))[:k]]


def _rough_squares(latents: Latents, block: Latents, metric: Metric) -> tuple[Floats, float]:
    """Return squared distances `[q, b]` by one matrix product, and how far they may be off."""
    queries, items = latents.astype(np.float64), block.astype(np.float64)
    if metric == "angular":
        queries, items = _unit(queries), _unit(items)
        return 2.0 - 2.0 * (queries @ items.T), 1e-10
    norms = np.square(queries).sum(axis=1)[:, np.newaxis], np.square(items).sum(axis=1)
    return norms[0] - 2.0 * (queries @ items.T) + norms[1], 1e-10 * float(norms[0].max() + norms[1].max())


def _unit(vectors: Floats) -> Floats:
    norms = np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True))
    units: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0.0)
    return units
