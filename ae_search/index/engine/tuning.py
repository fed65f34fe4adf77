"""Choosing the effort of an engine: the least work that finds the asked share of the true neighbours."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ae_search.contract import RecallPoint
from ae_search.cores import cores
from ae_search.index.engine import Engine
from ae_search.index.options import EngineOptions
from ae_search.nearest.comparing import Query, compare, queries, rows_at
from ae_search.nearest.exact import nearest
from ae_search.precision import climb, meets

# Recall is measured for this many neighbours.
TUNED_K = 10

_QUERIES = 500
_TIMED_QUERIES = 100


@dataclass(frozen=True)
class Sample:
    """Latents of a base that serve as queries, and how far their true neighbours are.

    Attributes:
        ids: Numbers of the q latents.
        queries: The latents.
        k: Neighbours that count, the latent itself left out.
        radii: Distance of the k-th true neighbour of each.
    """

    ids: list[int]
    queries: list[Query]
    k: int
    radii: list[float]


def draw_sample(base: Engine, seed: int) -> Sample:
    """Draw up to 500 latents and search their neighbours exactly; the base must hold at least two."""
    n = len(base.vectors)
    ids = np.sort(np.random.default_rng(seed).choice(n, size=min(_QUERIES, n), replace=False))
    k = min(TUNED_K, n - 1)
    rows = queries(base.vectors[ids])
    # A latent is among its own nearest, so the k-th of the others is the one after.
    radii = [found[k][0] for found in nearest(rows, base.vectors, k + 1, base.shape.metric)]
    return Sample(ids.tolist(), rows, k, radii)


def measure_recall(base: Engine, sample: Sample, effort: int) -> RecallPoint:
    """Measure recall and the median time of one query.

    A neighbour counts as true if it is no further away than the k-th true one, so that equally
    near items may stand in for each other (as in ann-benchmarks).
    """

    def share(at: int) -> float:
        query, item = sample.queries[at], sample.ids[at]
        found = base.candidates(query.latent, sample.k + 1, effort)
        others = [other for other in found if other != item]
        compared = sorted(compare(query, others, rows_at(base.vectors, others), base.shape.metric))[: sample.k]
        return sum(distance <= sample.radii[at] for distance, _, _ in compared) / sample.k

    with ThreadPoolExecutor(cores()) as pool:
        shares = np.array(list(pool.map(share, range(len(sample.ids)))))
    seconds = []
    for query in sample.queries[:_TIMED_QUERIES]:
        start = time.perf_counter()
        base.candidates(query.latent, sample.k, effort)
        seconds.append(time.perf_counter() - start)
    error = float(shares.std() / np.sqrt(len(shares)))
    return RecallPoint(effort, float(shares.mean()), round(error, 6), round(1e3 * float(np.median(seconds)), 4))


def tune(
    base: Engine, options: EngineOptions, *, recall: float, seed: int
) -> tuple[RecallPoint, tuple[RecallPoint, ...]]:
    """Find the smallest measured `effort` that meets a recall.

    Args:
        base: The engine's base.
        options: What it was built with.
        recall: Asked recall in (0, 1].
        seed: Seed of the sample.

    Returns:
        The point to use (the largest one, if none meets the recall) and all points by `effort`.
    """
    if len(base.vectors) < 2:
        only = RecallPoint(base.most_effort, 1.0, 0.0, 0.0)
        return only, (only,)
    sample = draw_sample(base, seed)
    points: dict[int, RecallPoint] = {}

    def enough(effort: int) -> bool:
        points[effort] = measure_recall(base, sample, effort)
        return meets(points[effort], recall)

    climb(enough, base.first_effort(sample.k, options), base.most_effort)
    curve = tuple(points[effort] for effort in sorted(points))
    good = [point for point in curve if meets(point, recall)]
    return (good[0] if good else curve[-1]), curve
