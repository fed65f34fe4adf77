"""Searching: the graph where it finds enough, all that meet a filter where they are few, else all items."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ae_search.contract import Condition, Latents, Neighbour
from ae_search.nearest.comparing import Found, Query, compare, queries
from ae_search.nearest.exact import Rough, nearest
from ae_search.remote_index.asking import TUNED_K, unit
from ae_search.remote_index.milvus.conditions import meets, rough
from ae_search.remote_index.milvus.options import MAX_EFFORT, MAX_ROWS
from ae_search.remote_index.milvus.place import Consistency
from ae_search.remote_index.milvus.reading import Reader
from ae_search.remote_index.milvus.rows import WITH_LATENT, latents_of, names_of, rows_at_once, scaled_queries
from ae_search.remote_index.milvus.schema import ITEMS, ROWS_PER_ITEM
from ae_search.remote_index.milvus.server import Row, Server
from ae_search.remote_index.milvus.state import State

# So many are read and compared in about the time of a few searches.
_FEW = 10_000
# More rows than are wanted, so that rounding does not decide who is among them.
SPARE = 16
_WIDENING = 4
# Floats of rows that come back at once: some 16 MiB.
_FLOATS_AT_ONCE = 4 << 20


@dataclass
class Candidates:
    """The nearest items of one query by what was read so far, each by its nearest latent.

    Attributes:
        best: Distance, id and cosine similarity of each item.
        names: Key, label and metadata of each.
    """

    best: dict[int, Found] = field(default_factory=dict)
    names: dict[int, tuple[str, str | None, str | None]] = field(default_factory=dict)

    def add(self, found: Sequence[Found], rows: dict[int, Row], most: int) -> None:
        """Take the rows that were compared, by their primary keys, and keep the nearest items."""
        for distance, number, cosine in found:
            item = number // ROWS_PER_ITEM
            if item not in self.best or distance < self.best[item][0]:
                self.best[item] = distance, item, cosine
                self.names[item] = names_of(rows[number])
        kept = sorted(self.best.values())[:most]
        self.best = {one[1]: one for one in kept}
        self.names = {item: self.names[item] for item in self.best}

    def neighbours(self, k: int) -> list[Neighbour]:
        """Return the first k, equal distances by id."""
        return [
            Neighbour(rank, key, label, cosine, distance, item, metadata)
            for rank, (distance, item, cosine) in enumerate(sorted(self.best.values())[:k], start=1)
            for key, label, metadata in [self.names[item]]
        ]


@dataclass
class Search:
    """How to search an index.

    Attributes:
        server: The server.
        reader: Reads rows.
        state: What is known of the index.
        level: How far to wait for changes.
        k: Neighbours for each query, at least 1.
        effort: Work to do in the graph; None for what was tuned.
        exact: Whether to compare with every item.
        conditions: Which items count.
        first_latents: Whether an item counts by its first latent alone.
    """

    server: Server
    reader: Reader
    state: State
    level: Consistency
    k: int
    effort: int | None = None
    exact: bool = False
    conditions: tuple[Condition, ...] = ()
    first_latents: bool = False

    def run(self, latents: Latents) -> list[list[Neighbour]]:
        """Return the neighbours of checked latents `[q, d]`, the nearest first, equal distances by id."""
        rows = queries(latents)
        answers: dict[int, list[Neighbour]] = {}
        everywhere = [at for at, query in enumerate(rows) if self._needs_all(query)]
        todo = sorted(set(range(len(rows))) - set(everywhere))
        limit = self._first_limit()
        while todo and limit <= MAX_ROWS:
            found = self._in_graph([rows[at] for at in todo], limit)
            answers |= {at: one.neighbours(self.k) for at, one in zip(todo, found, strict=True) if self._is_enough(one)}
            todo = [at for at in todo if at not in answers]
            if todo and limit == self._first_limit() and (few := self._among_few([rows[at] for at in todo])):
                answers |= {at: one.neighbours(self.k) for at, one in zip(todo, few, strict=True)}
                todo = []
            limit *= _WIDENING
        everywhere += todo
        if everywhere:
            found = self._in_all([rows[at] for at in everywhere])
            answers |= {at: one.neighbours(self.k) for at, one in zip(everywhere, found, strict=True)}
        return [answers[at] for at in range(len(rows))]

    def _needs_all(self, query: Query) -> bool:
        manifest = self.state.manifest
        is_zero = manifest.metric == "angular" and not query.square
        many = self._first_limit() > MAX_ROWS or 2 * self.k >= self.state.items
        return self.exact or is_zero or self._tuned() > MAX_EFFORT or many

    def _tuned(self) -> int:
        return self.effort or self.state.manifest.effort

    def _first_limit(self) -> int:
        return self.k * (1 if self.first_latents else min(self.state.most_latents, 8)) + SPARE

    def _rough(self) -> str:
        """Return an expression that all rows meet which count; "" where that would be all rows."""
        first = f"pk % {ROWS_PER_ITEM} == 0" if self.first_latents else ""
        return " and ".join(filter(None, (first, rough(self.conditions))))

    def _effort_for(self, limit: int) -> int:
        """Return the candidates to look at for so many rows; the tuned ones are for 10. Milvus wants one a row."""
        wanted = max(1, limit - SPARE)
        base = max(self.k, TUNED_K) if self.effort else TUNED_K
        effort = self._tuned() if wanted <= base else -(-self._tuned() * wanted // base)
        return min(MAX_EFFORT, max(effort, limit))

    def _in_graph(self, asked: list[Query], limit: int) -> list[Candidates]:
        state, dim = self.state, self.state.manifest.latent_dim
        # What belongs to no item is seldom among them; where it is, the server leaves it out.
        condition = self._rough()
        if limit > self._first_limit():
            ours = f"pk < {state.next_id * ROWS_PER_ITEM}"
            condition = f"{ours} and {condition}" if condition else ours
        at_once = max(1, min(64, _FLOATS_AT_ONCE // (limit * (dim + 64))))
        units = np.array([unit(query, state.manifest.metric) for query in asked], np.float32)
        found: list[Candidates] = []
        for start in range(0, len(asked), at_once):
            answers = self.server.search(
                state.collection,
                scaled_queries(units[start : start + at_once], dim),
                WITH_LATENT,
                partition=ITEMS,
                level=self.level,
                limit=limit,
                effort=self._effort_for(limit),
                condition=condition,
            )
            part = asked[start : start + at_once]
            found += [self._judged(query, rows) for query, rows in zip(part, answers, strict=True)]
        return found

    def _judged(self, query: Query, rows: list[Row]) -> Candidates:
        """Return the items of some rows that are there and meet the filter."""
        rows = [row for row in rows if self.state.has(row) and self._meets(row)]
        if self.state.most_latents > 1 and rows and not self.first_latents:
            # An item counts by its nearest latent, which need not be the one that the graph came across.
            items = {int(row["pk"]) // ROWS_PER_ITEM for row in rows}
            numbers = (
                str(item * ROWS_PER_ITEM + at) for item in sorted(items) for at in range(self.state.most_latents)
            )
            rows = self.reader.stored(self.state, f"pk in [{', '.join(numbers)}]", WITH_LATENT, self.level)
        candidates = Candidates()
        self._compare(candidates, query, rows)
        return candidates

    def _compare(self, candidates: Candidates, query: Query, rows: list[Row]) -> None:
        manifest = self.state.manifest
        if rows:
            numbers = [int(row["pk"]) for row in rows]
            latents = latents_of(rows, manifest.latent_dim)
            found = compare(query, numbers, latents, manifest.metric)
            candidates.add(found, dict(zip(numbers, rows, strict=True)), len(rows))

    def _meets(self, row: Row) -> bool:
        if self.first_latents and int(row["pk"]) % ROWS_PER_ITEM:
            return False
        return not self.conditions or meets(self.conditions, *names_of(row))

    def _is_enough(self, found: Candidates) -> bool:
        return len(found.best) >= (self.k if self.conditions else min(self.k, self.state.items))

    def _among_few(self, asked: list[Query]) -> list[Candidates]:
        """Compare with all rows that may count, where they are few; return nothing where they are many."""
        if not self.conditions and not self.first_latents:
            return []
        most = min(_FEW, rows_at_once(self.state.manifest.latent_dim) * 2)
        condition = self._rough() or "pk >= 0"
        rows = self.server.query(
            self.state.collection, condition, ("pk",), partition=ITEMS, level=self.level, limit=most + 1
        )
        if len(rows) > most:
            return []
        found = self.reader.stored(self.state, condition, WITH_LATENT, self.level)
        return self._added([Candidates() for _ in asked], asked, found)

    def _in_all(self, asked: list[Query]) -> list[Candidates]:
        found = [Candidates() for _ in asked]
        for rows in self.reader.pages(self.state, self.level, WITH_LATENT, conditions=self.conditions):
            self._added(found, asked, rows)
        return found

    def _added(self, candidates: list[Candidates], asked: list[Query], rows: list[Row]) -> list[Candidates]:
        """Compare all queries with all rows, exactly."""
        rows = [row for row in rows if self._meets(row)]
        if not rows:
            return candidates
        manifest = self.state.manifest
        numbers = np.array([int(row["pk"]) for row in rows], np.int64)
        prepared = Rough.of(latents_of(rows, manifest.latent_dim), manifest.metric)
        by_number = dict(zip(numbers.tolist(), rows, strict=True))
        # Each of an item's latents may be nearer than all those of others.
        most = self.k * min(self.state.most_latents, len(rows))
        for one, near in zip(candidates, nearest(asked, prepared, most, manifest.metric, numbers), strict=True):
            one.add(near, by_number, self.k)
        return candidates
