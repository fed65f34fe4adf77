"""Latents checked, and compared one by one: exact to the last bit, so that equal ones come out equal."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ae_search.contract import MAX_LATENTS_PER_ITEM, Latents, Metric

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

# One neighbour as (distance, id, cosine similarity), so that sorting puts the nearest first and equal ones by id.
Found = tuple[float, int, float]

# Annoy multiplies two squared norms in float32 (annoylib.h, Angular::distance); beyond this they overflow.
MAX_MAGNITUDE = 1e7
# A squared norm below which no value can be beyond it, whatever was rounded in float32.
_SURELY_BELOW = MAX_MAGNITUDE**2 / 2

# Each row by itself, unlike a matrix product, so that equal rows come out equal to the last bit.
_dot = np.vecdot

# 512 KiB of float64: what is compared at a time stays in a core's own cache from one step to the next.
_FLOATS_AT_A_TIME = 1 << 16


class Query(NamedTuple):
    """One latent, ready to be compared.

    Attributes:
        latent: The latent, float32 `[d]`.
        wide: The same as float64 `[d]`.
        square: Its squared norm.
    """

    latent: Latents
    wide: Floats
    square: float


def queries(latents: Latents) -> list[Query]:
    """Make checked latents `[n, d]` ready."""
    wide = latents.astype(np.float64)
    return list(map(Query, latents, wide, _dot(wide, wide).tolist()))


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


def checked_rows(latents: npt.ArrayLike, keys: Sequence[str], latent_dim: int) -> Latents:
    """Return the latents of some items as float32 `[n, r, d]`.

    Args:
        latents: `[n, d]`, or `[n, r, d]` for r latents of each item; one latent `[d]` is that of one item.
        keys: The n keys.
        latent_dim: d.

    Raises:
        ValueError: They have another size, or are not finite; the text names the key.
    """
    array = as_float32(latents)
    if array.ndim == 3:
        count, each, _ = array.shape
        if not 1 <= each <= MAX_LATENTS_PER_ITEM:
            raise ValueError(f"An item has 1 to {MAX_LATENTS_PER_ITEM} latents. Received: {each}.")
        flat = array.reshape(count * each, array.shape[2])
        if array.shape[2] != latent_dim or count != len(keys):
            raise ValueError(
                f"Expected latents of shape [{len(keys)}, r, {latent_dim}]. Received: shape={array.shape}."
            )
        checked_rows(flat, [key for key in keys for _ in range(each)], latent_dim)
        return array
    bad = first_bad_row(array) if array.ndim == 2 and len(array) == len(keys) else None
    if bad is not None:
        raise ValueError(
            f"Expected finite latents, at most {MAX_MAGNITUDE:g} in magnitude. Received others for {keys[bad]!r}."
        )
    try:
        rows = checked_latents(array, latent_dim)
    except ValueError as error:
        raise ValueError(f"{error} The block begins with key {keys[0] if keys else None!r}.") from None
    if len(rows) != len(keys):
        raise ValueError(f"Expected as many latents as keys. Received: {len(rows)}, {len(keys)}.")
    return rows[:, np.newaxis]


def as_float32(latents: npt.ArrayLike) -> Latents:
    """Return latents as float32, those too large for it as infinity."""
    if isinstance(latents, np.ndarray) and latents.dtype == np.float32:
        return latents
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
    # NaN fails the comparisons. The first one is for a single query: it takes a fifth of the time of the second.
    if len(latents) == 1 and np.vdot(row := latents[0], row) < _SURELY_BELOW:  # which overflows without a warning
        return None
    if not latents.size or np.abs(latents).max() <= MAX_MAGNITUDE:
        return None
    return int(np.argmin((np.abs(latents) <= MAX_MAGNITUDE).all(axis=1)))


def rows_at(vectors: npt.NDArray[Any], numbers: Ids | Sequence[int]) -> npt.NDArray[Any]:
    """Return some of `[n, d]`, in a third of the time that an index of numbers takes where the rows are packed."""
    # `take` would copy all of an array whose rows are not, as those within Annoy's nodes.
    numbers = np.asarray(numbers, np.intp)
    return vectors.take(numbers, axis=0) if vectors.flags.c_contiguous else vectors[numbers]


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
    dots: list[float] = _dot(many, query.wide).tolist()
    squares: list[float] = _dot(many, many).tolist()
    own, root = query.square, math.sqrt
    found = []
    # Plain floats: for ten items NumPy would spend most of its time on being called.
    for item, dot, square in zip(ids, dots, squares, strict=True):
        norms = square * own
        cosine = dot / root(norms) if norms else 0.0
        if cosine > 1.0:
            cosine = 1.0
        elif cosine < -1.0:
            cosine = -1.0
        found.append((root(2.0 - 2.0 * cosine), item, cosine))
    if metric == "angular":
        return found
    many -= query.wide
    distances: list[float] = np.sqrt(_dot(many, many)).tolist()
    return [(distance, item, cosine) for distance, (_, item, cosine) in zip(distances, found, strict=True)]


def compare_many(latents: Latents, ids: npt.ArrayLike, vectors: npt.NDArray[Any], metric: Metric) -> list[list[Found]]:
    """Compare each latent with its own items, to the last bit as `compare` does, at half the cost for a dozen.

    Args:
        latents: Float32 `[m, d]`.
        ids: k ids for each of them, `[m, k]`.
        vectors: The latents of all items `[n, d]`.
        metric: "angular" or "euclidean".

    Returns:
        For each latent the nearest first, equal distances by id.
    """
    numbers = np.asarray(ids)
    rows = max(1, _FLOATS_AT_A_TIME // max(1, numbers[:1].size * vectors.shape[1]))
    found: list[list[Found]] = []
    for start in range(0, len(numbers), rows):
        some = slice(start, start + rows)
        columns = _compared(latents[some], numbers[some], vectors, metric)
        found += [list(zip(*row, strict=True)) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return found


def _compared(
    latents: Latents, numbers: Ids, vectors: npt.NDArray[Any], metric: Metric
) -> tuple[npt.NDArray[Any], ...]:
    """Return distances, ids and cosine similarities, all `[m, k]`, the nearest first."""
    many = rows_at(vectors, numbers).astype(np.float64)  # [m, k, d]
    own = latents.astype(np.float64)[:, np.newaxis]
    norms = _dot(many, many) * _dot(own, own)
    cosines = np.divide(_dot(many, own), np.sqrt(norms), out=np.zeros_like(norms), where=norms > 0.0)
    np.clip(cosines, -1.0, 1.0, out=cosines)
    if metric == "angular":
        distances = np.sqrt(2.0 - 2.0 * cosines)
    else:
        many -= own
        distances = np.sqrt(_dot(many, many))
    if (distances[:, :-1] < distances[:, 1:]).all():
        return distances, numbers, cosines
    order = np.lexsort((numbers, distances))
    return tuple(np.take_along_axis(values, order, axis=1) for values in (distances, numbers, cosines))
