"""Choosing `search_k`: the least work that finds the asked share of the true neighbours."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ae_search.contract import Latents
from ae_search.index.exact import Floats, Ids, compare, nearest
from ae_search.index.forest import Forest
from ae_search.index.manifest import RecallPoint

# Recall is measured for this many neighbours.
TUNED_K = 10

_QUERIES = 200
_REFINEMENTS = 3


@dataclass(frozen=True)
class Sample:
    """Items that serve as queries, and how far their true neighbours are.

    Attributes:
        ids: Ids `[q]` of the items.
        k: Neighbours that count, the item itself left out.
        radii: Distances `[q]` of the k-th true neighbour.
    """

    ids: Ids
    k: int
    radii: Floats


def draw_sample(forest: Forest, seed: int) -> Sample:
    """Draw up to 200 items and search their neighbours exactly; the forest must hold at least two."""
    n = len(forest.vectors)
    ids = np.sort(np.random.default_rng(seed).choice(n, size=min(_QUERIES, n), replace=False))
    k = min(TUNED_K, n - 1)
    # An item is among its own nearest, so the k-th of the others is the one after.
    _, distances, _ = nearest(forest.vectors[ids], forest.vectors, k + 1, forest.metric)
    return Sample(ids, k, distances[:, k])


def measure_recall(forest: Forest, sample: Sample, search_k: int) -> RecallPoint:
    """Measure recall and the median time of one query.

    A neighbour counts as true if it is no further away than the k-th true one, so that equally
    near items may stand in for each other (as in ann-benchmarks).
    """
    hits, seconds = 0, []
    for item, radius in zip(sample.ids.tolist(), sample.radii, strict=True):
        latent: Latents = forest.vectors[item]
        row = latent.tolist()
        start = time.perf_counter()
        found = forest.candidates(row, sample.k + 1, search_k)
        seconds.append(time.perf_counter() - start)
        others = [other for other in found if other != item][: sample.k]
        distances, _ = compare(latent, forest.vectors[others], forest.metric)
        hits += int(np.count_nonzero(distances <= radius))
    return RecallPoint(search_k, hits / (sample.k * len(sample.ids)), round(1e3 * float(np.median(seconds)), 4))


def tune(forest: Forest, *, recall: float, n_trees: int, seed: int) -> tuple[RecallPoint, tuple[RecallPoint, ...]]:
    """Find the smallest measured `search_k` that meets a recall.

    Args:
        forest: The forest.
        recall: Asked recall in (0, 1].
        n_trees: Its trees.
        seed: Seed of the sample.

    Returns:
        The point to use (the largest one, if none meets the recall) and all points by `search_k`.
    """
    if len(forest.vectors) == 1:
        only = RecallPoint(forest.exhaustive_search_k, 1.0, 0.0)
        return only, (only,)
    sample = draw_sample(forest, seed)
    points: dict[int, RecallPoint] = {}

    def enough(search_k: int) -> bool:
        points[search_k] = measure_recall(forest, sample, search_k)
        return points[search_k].recall >= recall

    _climb(enough, max(1, sample.k * n_trees // 4), forest.exhaustive_search_k)
    curve = tuple(points[search_k] for search_k in sorted(points))
    good = [point for point in curve if point.recall >= recall]
    return (good[0] if good else curve[-1]), curve


def _climb(enough: Callable[[int], bool], start: int, cap: int) -> None:
    """Double until it is enough, then halve the last step a few times."""
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
