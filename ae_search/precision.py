"""How many of a query's neighbours are right, and the least work that finds as many as were asked for."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ae_search.contract import RecallPoint

Flags = npt.NDArray[np.bool_]

_REFINEMENTS = 3


def precision(relevant: Flags, found: Flags | None = None) -> npt.NDArray[np.float64]:
    """Return the share of each query's neighbours that are relevant.

    Args:
        relevant: Whether each neighbour is, `[q, k]`: whether it has the query's label, and not merely none as well.
        found: Whether there is a neighbour at that rank, `[q, k]`; at all of them unless given.

    Returns:
        float64 `[q]` in [0, 1]; 0 where a query has no neighbour.
    """
    counts = np.full(len(relevant), relevant.shape[1]) if found is None else found.sum(axis=1)
    shares: npt.NDArray[np.float64] = relevant.sum(axis=1) / np.maximum(1, counts)
    return shares


def meets(point: RecallPoint, recall: float) -> bool:
    """Tell whether a measurement meets a recall: its lower bound by one standard error does.

    The smallest `effort` whose bare measurement meets it would be picked by its luck, and fall short on other
    queries in half of the cases.
    """
    return point.recall - point.error >= recall


def climb(enough: Callable[[int], bool], start: int, cap: int) -> None:
    """Try efforts: double until it is enough, then halve the last step a few times."""
    low, high = 0, min(start, cap)
    while not enough(high) and high < cap:
        low, high = high, min(2 * high, cap)
    if not low:
        return
    for _ in range(_REFINEMENTS):
        middle = (low + high) // 2
        if middle in (low, high):
            return
        low, high = (low, middle) if enough(middle) else (middle, high)
