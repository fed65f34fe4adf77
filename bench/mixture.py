"""Latents of any number, drawn as a stream: they never sit in memory together."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from bench.datasets import CENTRE_DIMS, CENTRES, CLUSTER_DIMS, CLUSTER_SCALE, DIM, NOISE_SCALE, K, basis

SEED = 42
QUERIES = 500
ADDED = 10_000

_BLOCK = 32_768


@dataclass(frozen=True)
class Mixture:
    """A seeded mixture of Gaussians, as `bench.datasets.synthetic` draws it, but block by block.

    Attributes:
        items: How many latents.
    """

    items: int

    def blocks(self) -> Iterator[Latents]:
        """Yield the items, float32 `[n, 128]`."""
        centres, bases, shares = self._clusters()
        for start in range(0, self.items, _BLOCK):
            yield _draw(min(_BLOCK, self.items - start), (SEED, 1, start), centres, bases, shares)

    def queries(self, count: int = QUERIES) -> Latents:
        """Return latents that are no items, float32 `[count, 128]`."""
        return _draw(count, (SEED, 2), *self._clusters())

    def added(self) -> Latents:
        """Return latents to add, float32 `[10000, 128]`."""
        return _draw(ADDED, (SEED, 3), *self._clusters())

    def radii(self) -> npt.NDArray[np.float64]:
        """Return the angular distance of each query's 10th true neighbour, by comparing with every item."""
        queries = _units(self.queries())
        best = np.full((QUERIES, K), -np.inf, np.float32)
        for block in self.blocks():
            scores = queries @ _units(block).T
            best = np.partition(np.hstack([best, np.partition(scores, -K, axis=1)[:, -K:]]), -K, axis=1)[:, -K:]
        return np.sqrt(np.maximum(2.0 - 2.0 * best.min(axis=1).astype(np.float64), 0.0))

    def _clusters(self) -> tuple[Any, Any, Any]:
        rng = np.random.default_rng(SEED)
        centres = rng.standard_normal((CENTRES, CENTRE_DIMS)) @ basis(rng, CENTRE_DIMS, DIM)
        weights = rng.lognormal(0.0, 1.0, CENTRES)
        widths = CLUSTER_SCALE * rng.lognormal(0.0, 0.25, CENTRES)
        bases = [(width * basis(rng, CLUSTER_DIMS, DIM)).astype(np.float32) for width in widths]
        return centres.astype(np.float32), bases, weights / weights.sum()


def _draw(count: int, seed: tuple[int, ...], centres: Any, bases: Any, shares: Any) -> Latents:
    rng = np.random.default_rng(seed)
    cluster_of = rng.choice(len(shares), size=count, p=shares)
    latents: Latents = rng.standard_normal((count, DIM), dtype=np.float32)
    latents *= NOISE_SCALE / math.sqrt(DIM)
    latents += centres[cluster_of]
    order = np.argsort(cluster_of, kind="stable")
    ends = np.cumsum(np.bincount(cluster_of, minlength=len(shares)))
    spread = rng.standard_normal((count, CLUSTER_DIMS), dtype=np.float32)
    for cluster in np.unique(cluster_of).tolist():
        rows = order[ends[cluster - 1] if cluster else 0 : ends[cluster]]
        latents[rows] += spread[rows] @ bases[cluster]
    return latents


def _units(rows: Latents) -> Latents:
    units: Latents = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units
