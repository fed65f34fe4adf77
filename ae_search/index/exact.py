"""Exact search in NumPy: the yardstick for the forest, and the search through what is not in it yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, Metric
from ae_search.index.comparing import Found, Query, compare

Ids = npt.NDArray[np.int64]

# 16,384 latents of 128 float64 are 16 MB, and 256 rows of as many float32 scores 16 MB.
_ITEMS_PER_BLOCK = 16_384
_QUERIES_PER_BLOCK = 256


@dataclass(frozen=True)
class Rough:
    """Latents prepared for a quick float32 comparison by one matrix product.

    Attributes:
        vectors: The latents, float32 `[m, d]`.
        scaled: Unit vectors (angular) or the latents themselves (euclidean), float32 `[m, d]`.
        squares: Squared norms `[m]` for euclidean distances, else None.
    """

    vectors: Latents
    scaled: Latents
    squares: Latents | None

    @classmethod
    def of(cls, vectors: Latents, metric: Metric) -> Self:
        """Prepare latents `[m, d]`."""
        wide = vectors.astype(np.float64)
        squares = np.vecdot(wide, wide)
        if metric == "euclidean":
            return cls(vectors, vectors, squares.astype(np.float32))
        norms = np.sqrt(squares)[:, np.newaxis]
        units = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0.0)
        return cls(vectors, units.astype(np.float32), None)

    def joined(self, more: Self) -> "Rough":
        """Return these and then some more."""
        squares = None if self.squares is None else np.concatenate([self.squares, more.squares])
        return Rough(np.concatenate([self.vectors, more.vectors]), np.concatenate([self.scaled, more.scaled]), squares)

    def rows(self, at: Ids) -> "Rough":
        """Return those at some positions."""
        return Rough(self.vectors[at], self.scaled[at], None if self.squares is None else self.squares[at])

    def squared(self, of: "Rough") -> tuple[Latents, float]:
        """Return squared distances `[q, m]` to these `[m]` from those `[q]`, less what a row has in common.

        The second value bounds how far two of them may be off against each other.
        """
        products = of.scaled @ self.scaled.T
        products *= -2.0
        # Rounding of a float32 dot product of d terms, Higham, Accuracy and Stability of Numerical Algorithms, ch. 3.1.
        unit = 2.4e-7 * (self.vectors.shape[1] + 8)
        if self.squares is None or of.squares is None:
            return products, 2.0 * unit
        products += self.squares
        return products, unit * float(of.squares.max(initial=0.0) + self.squares.max(initial=0.0)) * 2.0


def nearest(
    rows: list[Query], items: Latents | Rough, k: int, metric: Metric, ids: Ids | None = None
) -> list[list[Found]]:
    """Find the exact neighbours of each query.

    Args:
        rows: q queries.
        items: Latents `[n, d]`, maybe a memory map (it is read by blocks), or some that are prepared already.
        k: Neighbours for each query, at least 1; all items where there are fewer.
        metric: "angular" or "euclidean".
        ids: Ids `[n]`, ascending, of prepared items; or ids of the rows of `items` to look at. None for 0 to n - 1.

    Returns:
        For each query the nearest first, equal distances by id.
    """
    best: list[list[Found]] = []
    for start in range(0, len(rows), _QUERIES_PER_BLOCK):
        block = rows[start : start + _QUERIES_PER_BLOCK]
        prepared = Rough.of(np.array([query.floats for query in block], np.float32), metric)
        found: list[list[Found]] = [[] for _ in block]
        for numbers, part in _parts(items, ids, metric):
            _merge_nearest(found, block, prepared, numbers, part, k, metric)
        best += found
    return best


def _parts(items: Latents | Rough, ids: Ids | None, metric: Metric) -> Iterator[tuple[Ids, Rough]]:
    """Yield ids and prepared latents, block by block."""
    if isinstance(items, Rough):
        if len(items.vectors):
            yield (np.arange(len(items.vectors)) if ids is None else ids), items
        return
    count = len(items) if ids is None else len(ids)
    for start in range(0, count, _ITEMS_PER_BLOCK):
        end = min(start + _ITEMS_PER_BLOCK, count)
        numbers = np.arange(start, end) if ids is None else ids[start:end]
        yield numbers, Rough.of(items[start:end] if ids is None else items[numbers], metric)


def _merge_nearest(
    found: list[list[Found]], block: list[Query], prepared: Rough, numbers: Ids, part: Rough, k: int, metric: Metric
) -> None:
    """Put the nearest of some items among those found for each query so far."""
    squared, slack = part.squared(prepared)
    last = min(k, len(numbers)) - 1
    limits = np.partition(squared, last, axis=1)[:, last] + slack
    for row, query in enumerate(block):
        chosen = np.flatnonzero(squared[row] <= limits[row])
        found[row] += compare(query, numbers[chosen].tolist(), part.vectors[chosen], metric)
        found[row].sort()
        del found[row][k:]
