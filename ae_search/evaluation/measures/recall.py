"""What the index's approximate search finds of what exact search finds, on the latents of real queries."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ae_search.contract import Index, Latents, Neighbour
from ae_search.evaluation.results import IndexRecall, RecallAtEffort

K = 10
QUERIES = 1000
TIMED_QUERIES = 100
# The curve's effort, as multiples of the tuned one.
CURVE = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)


def measure_recall(index: Index, latents: Latents, own: Sequence[str | None]) -> IndexRecall:
    """Compare the index's search with exact search, at the tuned `effort` and around it.

    A neighbour counts as true if it is no further away than the 10th true one, as where an index is tuned.

    Args:
        index: The index.
        latents: Latents of the queries, float32 `[q, d]`, q at least 1; up to 1000 are used.
        own: For each of them the key of the item that it is, which is not counted as a neighbour, or None.
    """
    latents, own = latents[:QUERIES], own[:QUERIES]
    tuned = index.info().effort
    # One more than counts, where a query may find itself.
    k = K + 1 if any(key is not None for key in own) else K
    true = _others(index.search(latents, k, exact=True), own)
    radii = [found[-1].distance if found else 0.0 for found in true]

    def measure(effort: int) -> tuple[RecallAtEffort, list[float]]:
        found = _others(index.search(latents, k, effort=effort), own)
        shares = np.array([_share(*one) for one in zip(found, true, radii, strict=True)])
        timed = latents if effort == tuned else latents[:TIMED_QUERIES]
        ms = _latencies(index, timed, effort)
        error = float(shares.std() / np.sqrt(len(shares)))
        return RecallAtEffort(effort, float(shares.mean()), round(error, 6), round(float(np.median(ms)), 4)), ms

    measured = [measure(effort) for effort in sorted({max(1, round(tuned * factor)) for factor in CURVE})]
    point, ms = next(one for one in measured if one[0].effort == tuned)
    return IndexRecall(
        recall_at_10=point.recall,
        effort=tuned,
        median_ms=point.latency_ms,
        p99_ms=round(float(np.percentile(ms, 99)), 4),
        queries=len(latents),
        curve=tuple(one[0] for one in measured),
    )


def _others(found: list[list[Neighbour]], own: Sequence[str | None]) -> list[list[Neighbour]]:
    """Leave out the queries themselves."""
    return [[n for n in row if n.key != key][:K] for row, key in zip(found, own, strict=True)]


def _share(found: list[Neighbour], true: list[Neighbour], radius: float) -> float:
    return sum(n.distance <= radius for n in found) / len(true) if true else 1.0


def _latencies(index: Index, latents: npt.NDArray[np.float32], effort: int) -> list[float]:
    """Return the time of each search by itself, in ms."""
    ms = []
    for latent in latents:
        began = time.perf_counter()
        index.search(latent, K, effort=effort)
        ms.append(1e3 * (time.perf_counter() - began))
    return ms
