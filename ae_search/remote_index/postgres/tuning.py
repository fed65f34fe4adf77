"""Choosing the effort of the graph: the fewest candidates among which the asked share of the true neighbours is."""

import time
from typing import Any

import numpy as np
from pgvector import Vector
from psycopg import sql

from ae_search.contract import RecallPoint
from ae_search.nearest.comparing import Query, compare, queries
from ae_search.precision import climb, meets
from ae_search.remote_index.asking import TUNED_K, unit
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.options import MAX_EFFORT
from ae_search.remote_index.postgres.rows import latents_of
from ae_search.remote_index.postgres.schema import ordered_by, table_of
from ae_search.remote_index.postgres.state import Manifest

# The true neighbours of each take a look at every latent.
_QUERIES, _QUERIES_OF_MANY, _MANY = 250, 100, 200_000
_TIMED = 30

_SAMPLE = "SELECT id, latent FROM {} WHERE id = ANY(%s) AND at = 0 ORDER BY id"
_TRUE = "SELECT latent FROM {} WHERE (id, at) <> (%s, 0) ORDER BY {} LIMIT %s"
_FOUND = "SELECT id, at, latent FROM {} ORDER BY {} LIMIT %s"


class Sample:
    """Latents of a generation that serve as queries, and how far their true neighbours are.

    Args:
        session: A session in which one statement may take long.
        generation: Number of the generation.
        manifest: What it holds.
        counts: Its latents, and the id after its last one.
    """

    def __init__(self, session: Session, generation: int, manifest: Manifest, counts: tuple[int, int]) -> None:
        self._session, self._manifest, self._table = session, manifest, table_of(generation)
        self._exact_ms = 0.0
        latents, next_id = counts
        wanted = _QUERIES if latents <= _MANY else _QUERIES_OF_MANY
        rng = np.random.default_rng(manifest.seed)
        # Several times as many: some are drawn twice, and some have been removed.
        drawn = np.unique(rng.integers(max(1, next_id), size=8 * wanted)).tolist()
        session.use_graph(None)
        there = self._rows(sql.SQL(_SAMPLE).format(self._table), [drawn])
        found = [there[at] for at in rng.permutation(len(there))[:wanted].tolist()]
        self.ids = [row[0] for row in found]
        self.queries: list[Query] = queries(latents_of([row[1] for row in found], manifest.latent_dim))
        self.k = min(TUNED_K, latents - 1)
        self.radii = self._radii()

    def measure(self, effort: int) -> RecallPoint:
        """Measure recall and the median time of a query; beyond pgvector's limit all latents are compared."""
        if effort > MAX_EFFORT:
            return RecallPoint(effort, 1.0, 0.0, self._exact_ms)
        self._session.use_graph(effort)
        near = sql.SQL(_FOUND).format(self._table, nearness_in_graph(self._manifest))
        asked = [[self._asked(query), self.k + 1] for query in self.queries]
        shares = []
        for item, query, radius, found in zip(self.ids, self.queries, self.radii, self._all(near, asked), strict=True):
            others = [row for row in found if row[:2] != (item, 0)][: self.k]
            shares.append(sum(distance <= radius for distance in self._distances(query, others)) / self.k)
        latency_ms = self._median_ms(near, asked)
        self._session.use_graph(None)
        error = float(np.std(shares) / np.sqrt(len(shares)))
        return RecallPoint(effort, float(np.mean(shares)), round(error, 6), latency_ms)

    def _radii(self) -> list[float]:
        """Return how far the last true neighbour of each query is."""
        manifest = self._manifest
        column, operator, _ = ordered_by(manifest.metric, manifest.latent_dim, halfvec=False)
        rough = sql.SQL(f"({{}} {operator} %s::vector) + 0.0::float8").format(column)
        select = sql.SQL(_TRUE).format(self._table, rough)
        # A few more: rounding must not decide which one is the last.
        asked = [[item, self._asked(query), self.k + 5] for item, query in zip(self.ids, self.queries, strict=True)]
        self._exact_ms = self._median_ms(select, asked[:3])
        found = zip(self.queries, self._all(select, asked), strict=True)
        return [sorted(self._distances(query, [(0, 0, row[0]) for row in rows]))[self.k - 1] for query, rows in found]

    def _asked(self, query: Query) -> Vector:
        return Vector(unit(query, self._manifest.metric))

    def _all(self, select: sql.Composed, asked: list[list[Any]]) -> list[list[tuple[Any, ...]]]:
        """Return the rows of one statement for each of some values; they travel together."""
        with self._session.pipeline():
            cursors = [self._session.execute(select, values, binary=True) for values in asked]
            return [cursor.fetchall() for cursor in cursors]

    def _median_ms(self, select: sql.Composed, asked: list[list[Any]]) -> float:
        seconds = []
        for values in asked[:_TIMED]:
            began = time.perf_counter()
            self._rows(select, values)
            seconds.append(time.perf_counter() - began)
        return round(1e3 * float(np.median(seconds)), 4) if seconds else 0.0

    def _distances(self, query: Query, rows: list[tuple[Any, ...]]) -> list[float]:
        if not rows:
            return []
        latents = latents_of([row[2] for row in rows], self._manifest.latent_dim)
        return [one[0] for one in compare(query, range(len(rows)), latents, self._manifest.metric)]

    def _rows(self, select: sql.Composed, values: list[Any]) -> list[tuple[Any, ...]]:
        return self._session.execute(select, values, binary=True).fetchall()


def nearness_in_graph(manifest: Manifest) -> sql.Composed:
    """Return the expression by which the graph orders latents; its value is the query."""
    column, operator, kind = ordered_by(manifest.metric, manifest.latent_dim, halfvec=manifest.options.halfvec)
    return sql.SQL(f"{{}} {operator} %s::vector::{kind.split('_')[0]}").format(column)


def nearest_in_graph(
    session: Session, generation: int, manifest: Manifest, query: Query, limit: int
) -> list[tuple[Any, ...]]:
    """Return id, number and value of the latents that the graph finds near to a query, in a session bound to it."""
    select = sql.SQL(_FOUND).format(table_of(generation), nearness_in_graph(manifest))
    return session.execute(select, [Vector(unit(query, manifest.metric)), limit], binary=True).fetchall()


def tune(
    session: Session, generation: int, manifest: Manifest, counts: tuple[int, int]
) -> tuple[RecallPoint, tuple[RecallPoint, ...]]:
    """Find the smallest measured effort that meets the manifest's target.

    Args:
        session: A session in which one statement may take long.
        generation: Number of the generation.
        manifest: What it holds.
        counts: Its latents, and the id after its last one.

    Returns:
        The point to use, and all points by effort.
    """
    most = MAX_EFFORT + 1
    if counts[0] < 2 or not (sample := Sample(session, generation, manifest, counts)).queries:
        only = RecallPoint(most, 1.0, 0.0, 0.0)
        return only, (only,)
    points: dict[int, RecallPoint] = {}

    def enough(effort: int) -> bool:
        points[effort] = sample.measure(effort)
        return meets(points[effort], manifest.target_recall)

    climb(enough, 1, most)
    curve = tuple(points[effort] for effort in sorted(points))
    good = [point for point in curve if meets(point, manifest.target_recall)]
    return (good[0] if good else curve[-1]), curve
