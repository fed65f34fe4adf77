"""Distances and exact search in NumPy: the yardstick for the forest, and the search through what is not in it yet."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, Metric

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

# One neighbour as (distance, id, cosine similarity), so that sorting puts the nearest first and equal ones by id.
Found = tuple[float, int, float]

# 16,384 latents of 128 float64 are 16 MB, and 256 rows of as many float32 scores 16 MB.
_ITEMS_PER_BLOCK = 16_384
_QUERIES_PER_BLOCK = 256

# Annoy multiplies two squared norms in float32 (annoylib.h, Angular::distance); beyond this they overflow.
MAX_MAGNITUDE = 1e7

_einsum = np.einsum
_sqrt = math.sqrt


class Query(NamedTuple):
    """One latent, ready to be compared.

    Attributes:
        floats: The latent as d Python floats, which is what Annoy reads fastest.
        latent: The same as float64 `[d]`.
        square: Its squared norm.
    """

    floats: list[float]
    latent: Floats
    square: float


def queries(latents: npt.ArrayLike, latent_dim: int) -> list[Query]:
    """Check latents and make each one ready.

    Args:
        latents: `[n, d]`, or one latent `[d]`.
        latent_dim: d.

    Raises:
        ValueError: Wrong size, or a value that is not finite or beyond 1e7.
    """
    rows = latents if isinstance(latents, np.ndarray) and latents.dtype == np.float32 else as_float32(latents)
    if rows.shape == (latent_dim,):
        wide = rows.astype(np.float64)
        square = float(wide.dot(wide))
        if not square <= MAX_MAGNITUDE**2:
            check_finite(rows[np.newaxis])
        return [Query(rows.tolist(), wide, square)]
    if rows.ndim != 2 or rows.shape[1] != latent_dim:
        raise ValueError(f"Expected latents of shape [n, {latent_dim}]. Received: shape={np.shape(latents)}.")
    wide = rows.astype(np.float64)
    squares: list[float] = _einsum("ij,ij->i", wide, wide).tolist()
    # A sum of squares within the bound vouches for each value; NaN fails the comparison.
    if not all(square <= MAX_MAGNITUDE**2 for square in squares):
        check_finite(rows)
    return list(map(Query, rows.tolist(), wide, squares))


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
    check_finite(array)
    return array


def as_float32(latents: npt.ArrayLike) -> Latents:
    """Return latents as float32, those too large for it as infinity."""
    with np.errstate(over="ignore"):
        return np.asarray(latents, dtype=np.float32)


def check_finite(latents: Latents) -> None:
    """Check the values of `[n, d]`.

    Raises:
        ValueError: One is not finite or beyond 1e7 in magnitude; the text names the row.
    """
    if (row := first_bad_row(latents)) is not None:
        raise ValueError(
            f"Expected finite latents, at most {MAX_MAGNITUDE:g} in magnitude. Received: row {row} with other values."
        )


def first_bad_row(latents: Latents) -> int | None:
    """Return the first row of `[n, d]` with a value that is not finite or beyond 1e7."""
    # NaN fails the comparison.
    if not latents.size or np.abs(latents).max() <= MAX_MAGNITUDE:
        return None
    return int(np.argmin((np.abs(latents) <= MAX_MAGNITUDE).all(axis=1)))


def compare(query: Query, ids: Iterable[int], vectors: npt.NDArray[Any], metric: Metric) -> list[Found]:
    """Compare one latent with some items, equal ones coming out equal to the last bit.

    Args:
        query: The latent.
        ids: m ids.
        vectors: Their latents `[m, d]`.
        metric: "angular", whose distance is sqrt(2 - 2 cos) as in Annoy, or "euclidean".

    Returns:
        Distance, id and cosine similarity of each item, in the order given; a zero latent has similarity 0 with
        everything.
    """
    many = vectors.astype(np.float64)
    # Not a matrix product: BLAS may round equal rows differently.
    dots: list[float] = _einsum("ij,j->i", many, query.latent).tolist()
    squares: list[float] = _einsum("ij,ij->i", many, many).tolist()
    own = query.square
    found = []
    # Plain floats: for ten items NumPy would spend most of its time on being called.
    for item, dot, square in zip(ids, dots, squares, strict=True):
        norms = square * own
        cosine = dot / _sqrt(norms) if norms else 0.0
        if cosine > 1.0:
            cosine = 1.0
        elif cosine < -1.0:
            cosine = -1.0
        found.append((_sqrt(2.0 - 2.0 * cosine), item, cosine))
    if metric == "angular":
        return found
    many -= query.latent
    distances: list[float] = np.sqrt(_einsum("ij,ij->i", many, many)).tolist()
    return [(distance, item, cosine) for distance, (_, item, cosine) in zip(distances, found, strict=True)]


def compare_many(
    block: list[Query], ids: list[list[int]], vectors: npt.NDArray[Any], metric: Metric
) -> list[list[Found]]:
    """Compare each latent with its own items, to the last bit as `compare` does, at half the cost for a dozen or more.

    Args:
        block: m queries.
        ids: k ids for each of them.
        vectors: The latents of all items `[n, d]`.
        metric: "angular" or "euclidean".

    Returns:
        For each query the nearest first, equal distances by id.
    """
    numbers = np.array(ids)
    many = vectors[numbers].astype(np.float64)  # [m, k, d]
    own = np.stack([query.latent for query in block])
    norms = _einsum("mkd,mkd->mk", many, many) * np.array([query.square for query in block])[:, np.newaxis]
    dots = _einsum("mkd,md->mk", many, own)
    cosines = np.divide(dots, np.sqrt(norms), out=np.zeros_like(norms), where=norms > 0.0)
    np.clip(cosines, -1.0, 1.0, out=cosines)
    if metric == "angular":
        distances = np.sqrt(2.0 - 2.0 * cosines)
    else:
        many -= own[:, np.newaxis]
        distances = np.sqrt(_einsum("mkd,mkd->mk", many, many))
    order = np.lexsort((numbers, distances))
    columns = (np.take_along_axis(values, order, axis=1).tolist() for values in (distances, numbers, cosines))
    return [list(zip(*rows, strict=True)) for rows in zip(*columns, strict=True)]


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
        squares = _einsum("ij,ij->i", wide, wide)
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
