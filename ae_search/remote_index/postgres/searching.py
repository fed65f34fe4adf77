"""Searching: the graph where it finds enough, all that meet a filter where they are few, else all items."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pgvector import Vector
from psycopg import sql

from ae_search.contract import Latents, Neighbour
from ae_search.nearest.comparing import Found, Query, compare, queries
from ae_search.remote_index.asking import TUNED_K, unit
from ae_search.remote_index.postgres.conditions import NOTHING, SqlCondition
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.options import MAX_EFFORT
from ae_search.remote_index.postgres.reading import live, rows_of
from ae_search.remote_index.postgres.rows import latents_of
from ae_search.remote_index.postgres.schema import ordered_by, table_of
from ae_search.remote_index.postgres.state import State
from ae_search.remote_index.rows import check_texts

# So many latents of 128 are compared in about the time of a few searches of the graph, and without a miss.
NARROW = 10_000
# Statements that are on their way at once.
_AT_A_TIME = 64
# More rows than are wanted, so that rounding does not decide who is among them.
_SPARE = 16
_WIDENING = 4

Mode = Literal["graph", "few", "all"]

_ROW = "t.id, t.at, t.latent, t.key, t.label, t.metadata::text"
_GRAPH = (
    "SELECT 0::float8 AS rough, 0::bigint AS total, {row} FROM {table} t WHERE {condition} ORDER BY {nearness} LIMIT %s"
)
# An item counts by its nearest latent, which need not be the one that the graph came across.
_GRAPH_OF_SEVERAL = """
SELECT 0::float8 AS rough, 0::bigint AS total, {row} FROM {table} t
WHERE t.id IN (SELECT id FROM (SELECT id FROM {table} WHERE {condition} ORDER BY {nearness} LIMIT %s) near)
"""
_FEW = """
SELECT near.rough, (SELECT count(*) FROM few) AS total, {row} FROM (
    SELECT * FROM few ORDER BY rough, id, at LIMIT %s
) near JOIN {table} t USING (id, at)
"""
_FEW_OF = "WITH few AS MATERIALIZED (SELECT id, at, {rough} AS rough FROM {table} WHERE {condition} LIMIT %s)"
_ALL = """
SELECT near.rough, 0::bigint AS total, {row} FROM (
    SELECT id, at, {rough} AS rough FROM {table} WHERE {condition} ORDER BY rough, id, at LIMIT %s
) near JOIN {table} t USING (id, at)
"""


@dataclass
class WideFilters:
    """Filters that are known to leave many latents, as long as nothing changes."""

    known: dict[tuple[int, int, str], None] = field(default_factory=dict)

    def add(self, state: State, name: str) -> None:
        """Remember one of the last few."""
        self.known[state.number, state.changes, name] = None
        for old in list(self.known)[:-64]:
            self.known.pop(old, None)

    def has(self, state: State, name: str) -> bool:
        """Tell whether it is one."""
        return (state.number, state.changes, name) in self.known


@dataclass
class Search:
    """How to search an index.

    Attributes:
        index: Name of the index.
        state: What is known of it.
        k: Neighbours for each query, at least 1.
        effort: Work to do in the graph; None for what was tuned.
        exact: Whether to compare with every item.
        condition: Which items count.
        filter: What tells the condition from others; "" where all count.
        first_latents: Whether the condition keeps only the first latent of each item.
        wide: Filters that leave many.
    """

    index: str
    state: State
    k: int
    effort: int | None = None
    exact: bool = False
    condition: SqlCondition = NOTHING
    filter: str = ""
    first_latents: bool = False
    wide: WideFilters = field(default_factory=WideFilters)

    def run(self, session: Session, latents: Latents) -> list[list[Neighbour]]:
        """Return the neighbours of checked latents `[q, d]`, the nearest first, equal distances by id.

        Raises:
            MovedError: The state is not that of the index any more.
        """
        rows = queries(latents)
        answers: list[list[Neighbour]] = [[] for _ in rows]
        todo = [(at, self._first_mode(query), self._first_limit()) for at, query in enumerate(rows)]
        while todo:
            again: list[tuple[int, Mode, int]] = []
            for start in range(0, len(todo), _AT_A_TIME):
                # What earlier answers have shown about the filter need not be asked again.
                wide = self.wide.has(self.state, self.filter)
                part = [
                    (at, "graph" if mode == "few" and wide else mode, limit)
                    for at, mode, limit in todo[start : start + _AT_A_TIME]
                ]
                found = self._ask(session, [(rows[at], mode, limit) for at, mode, limit in part])
                for (at, mode, limit), answer in zip(part, found, strict=True):
                    neighbours, next_mode, next_limit = self._judge(rows[at], mode, limit, answer)
                    if next_mode is None:
                        answers[at] = neighbours
                    else:
                        again.append((at, next_mode, next_limit))
            todo = again
        return answers

    def _first_mode(self, query: Query) -> Mode:
        manifest = self.state.manifest
        is_zero = manifest.metric == "angular" and not query.square
        if self.exact or is_zero or self._tuned() > MAX_EFFORT or 2 * self.k >= self.state.items:
            return "all"
        return "few" if self.filter and not self.wide.has(self.state, self.filter) else "graph"

    def _first_limit(self) -> int:
        each = 1 if self.first_latents else min(self.state.most_latents, 8)
        return min(self.k * each, 2**31) + _SPARE

    def _tuned(self) -> int:
        return self.effort or self.state.manifest.effort

    def _graph_effort(self, limit: int) -> int:
        """Return the candidates to look at for so many rows; the tuned ones are for 10."""
        rows = max(1, limit - _SPARE)
        base = max(self.k, TUNED_K) if self.effort else TUNED_K
        effort = self._tuned() if rows <= base else -(-self._tuned() * rows // base)
        return min(MAX_EFFORT, effort)

    def _ask(self, session: Session, asked: list[tuple[Query, Mode, int]]) -> list[list[tuple[Any, ...]]]:
        """Return the rows of one statement for each query; they travel together."""
        efforts = {self._graph_effort(limit) if mode == "graph" else None for _, mode, limit in asked}
        answers: dict[int, list[tuple[Any, ...]]] = {}
        for effort in efforts:
            chosen = [
                at for at, (_, mode, limit) in enumerate(asked)
                if (self._graph_effort(limit) if mode == "graph" else None) == effort
            ]  # fmt: skip
            session.use_graph(effort)
            if len(chosen) == 1:
                answers[chosen[0]] = session.execute(*self._statement(*asked[chosen[0]]), binary=True).fetchall()
                continue
            with session.pipeline():
                cursors = [session.execute(*self._statement(*asked[at]), binary=True) for at in chosen]
                answers |= {at: cursor.fetchall() for at, cursor in zip(chosen, cursors, strict=True)}
        return [answers[at] for at in range(len(asked))]

    def _statement(self, query: Query, mode: Mode, limit: int) -> tuple[sql.Composed, list[Any]]:
        manifest, table = self.state.manifest, table_of(self.state.number)
        values = self.condition.values
        asked = Vector(unit(query, manifest.metric))
        parts = {"row": sql.SQL(_ROW), "table": table, "condition": self.condition.sql}
        if mode == "graph":
            column, operator, kind = ordered_by(manifest.metric, manifest.latent_dim, halfvec=manifest.options.halfvec)
            kind = kind.split("_")[0]
            parts["nearness"] = sql.SQL(f"{{}} {operator} %s::vector::{kind}").format(column)
            template = _GRAPH if self.first_latents or self.state.most_latents == 1 else _GRAPH_OF_SEVERAL
            wanted = max(1, limit - _SPARE)
            # Those that a graph of 16 bits has found are put in order by all of theirs.
            spare = limit if manifest.options.halfvec else wanted + wanted // 4 + 2
            rows = max(wanted, min(limit, spare, self._graph_effort(limit)))
            return live(sql.SQL(template).format(**parts)), [self.index, *values, asked, rows]
        column, operator, _ = ordered_by(manifest.metric, manifest.latent_dim, halfvec=False)
        # No expression of the graph's: it is not to be used here.
        parts["rough"] = sql.SQL(f"({{}} {operator} %s::vector) + 0.0::float8").format(column)
        if mode == "all":
            return live(sql.SQL(_ALL).format(**parts)), [self.index, asked, *values, limit]
        few_of = sql.SQL(_FEW_OF).format(**parts)
        statement = sql.Composed([few_of, sql.SQL(" "), live(sql.SQL(_FEW).format(**parts))])
        return statement, [asked, *values, NARROW + 1, self.index, limit]

    def _judge(
        self, query: Query, mode: Mode, limit: int, found: list[tuple[Any, ...]]
    ) -> tuple[list[Neighbour], Mode | None, int]:
        """Return the answer, or how to ask again."""
        rows, state = rows_of(found, self.state)
        if mode == "few" and rows and rows[0][1] > NARROW:
            self.wide.add(state, self.filter)
            return [], "graph", limit
        best = self._nearest(query, rows)
        if mode == "graph":
            if len(best) >= self.k:
                return self._named(best[: self.k], rows), None, 0
            effort_is_left = self.state.most_latents > 1 and limit < MAX_EFFORT and not self.filter
            return [], *(("graph", limit * _WIDENING) if effort_is_left else ("all", self._first_limit()))
        if len(rows) < limit or self._is_settled(query, best, rows):
            return self._named(best[: self.k], rows), None, 0
        return [], mode, limit * _WIDENING

    def _is_settled(self, query: Query, best: list[Found], rows: list[tuple[Any, ...]]) -> bool:
        """Tell whether rows that were not read can be none of the first k."""
        if len(best) < self.k:
            return False
        manifest = self.state.manifest
        if manifest.metric == "angular" and not query.square:
            return True  # all are equally far, and came by id
        distance = best[self.k - 1][0]
        # Rounding of a float32 sum of d terms, Higham, Accuracy and Stability of Numerical Algorithms, ch. 3.1.
        unit = 2.4e-7 * (manifest.latent_dim + 8)
        if manifest.metric == "angular":
            return bool(max(row[0] for row in rows) > distance**2 / 2.0 - 1.0 + unit)
        return bool(max(row[0] for row in rows) > distance * (1.0 + unit) + 1e-18)

    def _nearest(self, query: Query, rows: list[tuple[Any, ...]]) -> list[Found]:
        """Return the items of some rows, the nearest first, each by its nearest latent."""
        if not rows:
            return []
        latents = latents_of([row[4] for row in rows], self.state.manifest.latent_dim)
        best: dict[int, Found] = {}
        for one in sorted(compare(query, [row[2] for row in rows], latents, self.state.manifest.metric)):
            best.setdefault(one[1], one)
        return list(best.values())

    def _named(self, best: Sequence[Found], rows: list[tuple[Any, ...]]) -> list[Neighbour]:
        names = {row[2]: row[5:8] for row in rows}
        check_texts(name for one in best for name in names[one[1]])
        return [
            Neighbour(rank, names[item][0], names[item][1], cosine, distance, item, names[item][2])
            for rank, (distance, item, cosine) in enumerate(best, start=1)
        ]
