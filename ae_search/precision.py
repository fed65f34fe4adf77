"""Precision@k: how many of a query's neighbours are right."""

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]


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
