"""Exact search in NumPy: the yardstick for the forest, and the search through what is not in it yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from ae_search.contract import Latents, Metric
from ae_search.index.search.comparing import Found, Ids, Query, compare

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
        vectors = np.concatenate([self.vectors, more.vectors])
        if self.squares is None or more.squares is None:
            return Rough(vectors, np.concatenate([self.scaled, more.scaled]), None)
        # Euclidean distances take the latents as they are.
        return Rough(vectors, vectors, np.concatenate([self.squares, more.squares]))

    def rows(self, at: Ids | slice) -> "Rough":
        """Return those at some positions."""
        vectors = self.vectors[at]
        if self.squares is None:
            return Rough(vectors, self.scaled[at], None)
        return Rough(vectors, vectors, self.squares[at])

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
        prepared = Rough.of(np.array([query.latent for query in block]), metric)
        found: list[list[Found]] = [[] for _ in block]
        for numbers, part in _parts(items, ids, metric):
            _merge_nearest(found, block, prepared, numbers, part, k, metric)
        best += found
    return best


def _parts(items: Latents | Rough, ids: Ids | None, metric: Metric) -> Iterator[tuple[Ids, Rough]]:
    """Yield ids and prepared latents, block by block."""
    count = len(ids) if ids is not None else len(items.vectors if isinstance(items, Rough) else items)
    for start in range(0, count, _ITEMS_PER_BLOCK):
        part = slice(start, min(start + _ITEMS_PER_BLOCK, count))
        numbers = np.arange(part.start, part.stop) if ids is None else ids[part]
        if isinstance(items, Rough):
            yield numbers, items.rows(part)
        else:
            yield numbers, Rough.of(items[part] if ids is None else items[numbers], metric)


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
