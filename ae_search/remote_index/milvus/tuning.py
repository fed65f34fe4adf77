"""Choosing the effort of the graph: the fewest candidates among which the asked share of the true neighbours is."""

import time

import numpy as np

from ae_search.contract import RecallPoint
from ae_search.nearest.comparing import Found, Query, compare, queries
from ae_search.nearest.exact import Rough, nearest
from ae_search.precision import climb, meets
from ae_search.remote_index.asking import TUNED_K, unit
from ae_search.remote_index.milvus.options import MAX_EFFORT
from ae_search.remote_index.milvus.reading import Reader
from ae_search.remote_index.milvus.rows import latents_of, scaled_queries
from ae_search.remote_index.milvus.schema import ITEMS, ROWS_PER_ITEM
from ae_search.remote_index.milvus.searching import SPARE
from ae_search.remote_index.milvus.server import Row, Server
from ae_search.remote_index.milvus.state import State

_QUERIES, _QUERIES_OF_MANY, _MANY = 250, 100, 200_000
_TIMED = 30
_SOME = ("pk", "scale", "latent")


class Sample:
    """Latents of a generation that serve as queries, and how far their true neighbours are: one look at every latent.

    Args:
        server: The server.
        reader: Reads rows.
        state: The generation.
    """

    def __init__(self, server: Server, reader: Reader, state: State) -> None:
        self._server, self._reader, self._state = server, reader, state
        manifest = state.manifest
        rows = self._drawn()
        self.numbers = [int(row["pk"]) for row in rows]
        self.queries: list[Query] = queries(latents_of(rows, manifest.latent_dim))
        self.k = min(TUNED_K, state.latents - 1)
        began = time.perf_counter()
        self.radii = self._radii()
        self._exact_ms = 1e3 * (time.perf_counter() - began) / max(1, len(rows))

    def measure(self, effort: int) -> RecallPoint:
        """Measure recall and the median time of a query; beyond Milvus's limit all latents are compared."""
        if effort > MAX_EFFORT:
            return RecallPoint(effort, 1.0, 0.0, round(self._exact_ms, 4))
        manifest = self._state.manifest
        shares = []
        answers = [
            row for at in range(0, len(self.queries), 50) for row in self._found(self.queries[at : at + 50], effort)
        ]
        for number, query, radius, found in zip(self.numbers, self.queries, self.radii, answers, strict=True):
            others = [row for row in found if int(row["pk"]) != number][: self.k]
            latents = latents_of(others, manifest.latent_dim)
            distances = [one[0] for one in compare(query, range(len(others)), latents, manifest.metric)]
            shares.append(sum(distance <= radius for distance in distances) / self.k)
        seconds = []
        for query in self.queries[:_TIMED]:
            began = time.perf_counter()
            self._found([query], effort)
            seconds.append(time.perf_counter() - began)
        error = float(np.std(shares) / np.sqrt(len(shares)))
        latency_ms = round(1e3 * float(np.median(seconds)), 4)
        return RecallPoint(effort, float(np.mean(shares)), round(error, 6), latency_ms)

    def _drawn(self) -> list[Row]:
        state = self._state
        wanted = _QUERIES if state.latents <= _MANY else _QUERIES_OF_MANY
        rng = np.random.default_rng(state.manifest.seed)
        # Several times as many: some are drawn twice, and some have been removed.
        drawn = state.drawn(rng, 8 * wanted) * ROWS_PER_ITEM
        if not drawn.size:
            return []
        there = self._reader.stored(state, f"pk in [{', '.join(map(str, drawn.tolist()))}]", ("pk",), "session")
        chosen = sorted(int(there[at]["pk"]) for at in rng.permutation(len(there))[:wanted].tolist())
        if not chosen:
            return []
        return self._reader.stored(state, f"pk in [{', '.join(map(str, chosen))}]", _SOME, "session")

    def _radii(self) -> list[float]:
        """Return how far the last true neighbour of each query is."""
        manifest = self._state.manifest
        best: list[list[Found]] = [[] for _ in self.queries]
        if not self.queries or self.k < 1:
            return []
        for rows in self._reader.pages(self._state, "session", _SOME):
            numbers = np.array([int(row["pk"]) for row in rows], np.int64)
            prepared = Rough.of(latents_of(rows, manifest.latent_dim), manifest.metric)
            near = nearest(self.queries, prepared, self.k + 1, manifest.metric, numbers)
            for own, number, found in zip(best, self.numbers, near, strict=True):
                own += [one for one in found if one[1] != number]
                own.sort()
                del own[self.k :]
        return [own[self.k - 1][0] for own in best]

    def _found(self, asked: list[Query], effort: int) -> list[list[Row]]:
        manifest = self._state.manifest
        units = np.array([unit(query, manifest.metric) for query in asked], np.float32)
        # As a search for so many does.
        limit = self.k + SPARE
        return self._server.search(
            self._state.collection,
            scaled_queries(units, manifest.latent_dim),
            _SOME,
            partition=ITEMS,
            level="session",
            limit=limit,
            effort=max(effort, limit),
        )


def tune(server: Server, reader: Reader, state: State) -> tuple[RecallPoint, tuple[RecallPoint, ...]]:
    """Find the smallest measured effort that meets the manifest's target.

    Returns:
        The point to use, and all points by effort.
    """
    most = MAX_EFFORT + 1
    if state.latents < 2 or not (sample := Sample(server, reader, state)).queries:
        only = RecallPoint(most, 1.0, 0.0, 0.0)
        return only, (only,)
    points: dict[int, RecallPoint] = {}

    def enough(effort: int) -> bool:
        points[effort] = sample.measure(effort)
        return meets(points[effort], state.manifest.target_recall)

    # Milvus looks at a candidate for each row that it returns, at least: below this, all efforts are one.
    climb(enough, TUNED_K + SPARE, most)
    curve = tuple(points[effort] for effort in sorted(points))
    good = [point for point in curve if meets(point, state.manifest.target_recall)]
    return (good[0] if good else curve[-1]), curve
