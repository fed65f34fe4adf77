"""Searching a snapshot: the forest, the changes since, and filters, one query or many."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import TypeVar

import numpy as np

from ae_search.checked_json import MAX_COUNT
from ae_search.contract import Latents
from ae_search.cores import cores
from ae_search.index.search.comparing import Found, Ids, Query, compare, queries
from ae_search.index.search.exact import nearest
from ae_search.index.search.filters import Filter
from ae_search.index.search.tuning import TUNED_K
from ae_search.index.store.generation import Snapshot

Answer = TypeVar("Answer")

# Queries that one thread takes at a time; fewer than two of the smallest blocks are done before threads have started.
_SMALLEST_BLOCK = 32
_LARGEST_BLOCK = 256
_CENTRES = 16
# How many times k the forest is asked for, where some of what it finds may not count.
_REMOVED_FACTOR = 2
_FILTER_FACTOR = 4
_WIDENING = 4
# A filter that leaves fewer than k of so many times k is narrow: from there on, exact search is the cheaper one.
_MAX_FILTER_FACTOR = 16


class Search:
    """How to search a snapshot.

    Args:
        snapshot: What to search.
        k: Neighbours for each query, at least 1.
        effort: Candidates to look at in the forest; None for what was tuned.
        exact: Whether to compare with every item instead.
        filter: Which items count; None for all.
    """

    def __init__(
        self, snapshot: Snapshot, k: int, effort: int | None, *, exact: bool = False, filter: Filter | None = None
    ) -> None:
        generation, self._delta = snapshot.generation, snapshot.delta
        self._snapshot, self._forest, self._items = snapshot, generation.forest, generation.manifest.items
        self._removed, self._live = self._delta.removed, self._items - self._delta.removed_count
        self._k, self._wanted = k, min(k, self._live)
        self._given, self._tuned = effort is not None, effort or generation.manifest.effort
        self._exact, self._filter = exact, filter
        self._base_effort = self._effort(self._wanted)
        self._is_plain = self._live > 0 and not exact and filter is None and not self._removed

    def run(self, latents: Latents, finish: Callable[[list[Found]], Answer]) -> list[Answer]:
        """Search for checked latents `[n, d]`; many of them are searched on all cores.

        Returns:
            What `finish` makes of the neighbours of each, the nearest first, equal distances by id.
        """

        def search(rows: Latents) -> list[Answer]:
            return [finish(found) for found in self.found(rows)]

        threads = cores()
        # Exact search prepares all items once for all queries, and its matrix products use all cores themselves.
        if self._exact or threads == 1 or len(latents) < 2 * _SMALLEST_BLOCK:
            return search(latents)
        # Large blocks: each time that threads hand over the interpreter, one of them sleeps for a while.
        size = min(_LARGEST_BLOCK, max(_SMALLEST_BLOCK, -(-len(latents) // (2 * threads))))
        order = _alike_together(latents)
        blocks = [latents[order[start : start + size]] for start in range(0, len(latents), size)]
        with ThreadPoolExecutor(threads) as pool:
            # Annoy lets go of the interpreter while it searches.
            answers = [answer for answers in pool.map(search, blocks) for answer in answers]
        return [answer for _, answer in sorted(zip(order.tolist(), answers, strict=True), key=itemgetter(0))]

    def found(self, latents: Latents) -> list[list[Found]]:
        """Return the neighbours of checked latents `[n, d]`, the nearest first, equal distances by id."""
        delta = self._delta
        if self._is_plain and not len(delta.ids) and len(latents):
            return self._forest.nearest_many(latents, self._wanted, self._base_effort)
        rows = queries(latents, latents.shape[1])
        found = self._in_forest(rows)
        if not len(delta.ids):
            return found
        ids, rough = delta.ids, delta.rough
        if self._filter is not None:
            ids, rough = self._filter.delta_items
        added = nearest(rows, rough, self._k, self._forest.metric, ids)
        return [sorted(old + new)[: self._k] for old, new in zip(found, added, strict=True)]

    def _in_forest(self, rows: list[Query]) -> list[list[Found]]:
        if not self._live:
            return [[] for _ in rows]
        if self._exact or (self._filter is not None and self._filter.is_narrow):
            return self._exactly(rows)
        found = [self._one(row) for row in rows]
        missed = [row for row, answer in zip(rows, found, strict=True) if answer is None]
        exact = iter(self._exactly(missed) if missed else ())
        return [next(exact) if answer is None else answer for answer in found]

    def _exactly(self, rows: list[Query]) -> list[list[Found]]:
        ids = self._snapshot.live_base_ids() if self._filter is None else self._filter.forest_ids
        return nearest(rows, self._forest.vectors, self._k, self._forest.metric, ids)

    def _one(self, row: Query) -> list[Found] | None:
        """Search the forest; None where a filter leaves too few of what it finds."""
        if self._is_plain:
            return self._forest.nearest(row, self._wanted, self._base_effort)
        ids = self._candidates(row)
        return None if ids is None else sorted(compare(row, ids, self._forest.vectors[ids], self._forest.metric))

    def _candidates(self, row: Query) -> list[int] | None:
        forest, removed = self._forest, self._removed
        items, k = self._items, self._wanted
        # So many always suffice where nothing but removed items may not count.
        most = items if self._filter is not None else min(items, k + self._delta.removed_count)
        factor = _REMOVED_FACTOR if self._filter is None else _FILTER_FACTOR
        while True:
            fetch = min(factor * k, most)
            ids: Sequence[int] = forest.candidates(row.floats, fetch, self._effort(fetch))
            if removed:
                ids = [item for item in ids if not removed[item]]
            if self._filter is not None:
                kept = self._filter.among(ids)
                ids = [item for item in ids if item in kept]
            if len(ids) >= k or fetch == most:
                return list(ids[:k])
            if self._filter is not None and factor >= _MAX_FILTER_FACTOR:
                return None
            factor *= _WIDENING

    def _effort(self, fetch: int) -> int:
        """Return the candidates to look at for so many neighbours."""
        # Tuned for 10: with the same work, the recall of a longer list would fall, and removed items are no candidates.
        base = max(self._k, TUNED_K) if self._given else TUNED_K
        effort = self._tuned if fetch <= base else -(-self._tuned * fetch // base)
        return min(-(-effort * self._items // max(1, self._live)), MAX_COUNT)


def _alike_together(latents: Latents) -> Ids:
    """Return an order in which queries that are alike follow each other.

    They walk through the same parts of the forest, which the processor's caches still hold then: Annoy was seen to take
    a seventh less time.
    """
    centres = latents[:: -(-len(latents) // _CENTRES)]
    # Not a matrix product: the threads of BLAS would go on spinning beside ours for a while.
    nearest_centre = np.vecdot(latents[:, np.newaxis], centres).argmax(axis=1)
    return np.argsort(nearest_centre, kind="stable")
