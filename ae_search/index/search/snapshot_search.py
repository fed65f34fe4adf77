"""Searching a snapshot: the base, the changes since, and filters, one query or many."""

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import itemgetter
from typing import TypeVar

import numpy as np

from ae_search.checked_json import MAX_COUNT
from ae_search.contract import Latents
from ae_search.cores import cores
from ae_search.index.engine.tuning import TUNED_K
from ae_search.index.search.filters import Filter
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.comparing import Found, Ids, Query, compare, compare_many, queries, rows_at
from ae_search.nearest.exact import Rough, nearest

Answer = TypeVar("Answer")

# Queries that one thread takes at a time; fewer than two of the smallest blocks are done before threads have started.
_SMALLEST_BLOCK = 32
_LARGEST_BLOCK = 256
_CENTRES = 16
# How many times k the base is asked for, where some of what it finds may not count.
_REMOVED_FACTOR = 2
_FILTER_FACTOR = 4
_WIDENING = 4
# A filter that leaves fewer than k of so many times k is narrow: from there on, exact search is the cheaper one.
_MAX_FILTER_FACTOR = 16
# So many candidates are compared exactly, were it only to tell which of them are equally near.
_FEW = 32
# How many of the items that count are fetched on average, for one that is wanted: fewer than are wanted are rare then.
_SPARE = 2.5
# Where one in so many items counts, the work grows by this power of that number, and beyond the tenth part by another.
_RARER, _MUCH_RARER, _RARE = 0.65, 0.5, 10.0


class SnapshotSearch:
    """How to search a snapshot.

    Args:
        snapshot: What to search.
        k: Neighbours for each query, at least 1.
        effort: Work to do in the base; None for what was tuned.
        exact: Whether to compare with every item instead.
        filter: Which items count; None for all.
    """

    def __init__(
        self, snapshot: Snapshot, k: int, effort: int | None, *, exact: bool = False, filter: Filter | None = None
    ) -> None:
        generation, self._delta = snapshot.generation, snapshot.delta
        manifest = generation.manifest
        self._snapshot, self._base, self._owners = snapshot, generation.base, generation.owners
        self._metric, self._latents, self._most = manifest.metric, manifest.latents, manifest.most_latents
        self._removed, self._items = self._delta.removed, manifest.items
        self._live = self._items - self._delta.removed_count
        self._k, self._wanted = k, min(k, self._live)
        self._given, self._tuned = effort is not None, effort or manifest.effort
        self._exact, self._filter = exact, filter
        self._first = filter is not None and filter.first_latents
        self._base_effort = self._effort(self._wanted)
        # Each candidate counts, so as many as are wanted suffice.
        self._all_count = self._live > 0 and filter is None and not self._removed and self._owners is None

    def run(self, latents: Latents, finish: Callable[[list[list[Found]]], list[Answer]]) -> list[Answer]:
        """Search for checked latents `[n, d]`; many of them are searched on all cores.

        Returns:
            What `finish` makes of the neighbours of some queries, of each the nearest first, equal distances by id.
        """
        # Exact search prepares all items once for all queries, and its matrix products use all cores themselves.
        if self._exact or len(latents) < 2 * _SMALLEST_BLOCK:
            return finish(self.found(latents))
        threads = cores()
        # Large blocks: each time that threads hand over the interpreter, one of them sleeps for a while.
        size = min(_LARGEST_BLOCK, max(_SMALLEST_BLOCK, -(-len(latents) // (2 * threads))))
        order = _alike_together(latents)
        blocks = [latents[order[start : start + size]] for start in range(0, len(latents), size)]
        with _without_collections(), ThreadPoolExecutor(threads) as pool:
            # The engine lets go of the interpreter while it searches.
            parts = pool.map(lambda rows: finish(self.found(rows)), blocks)
            answers = [answer for part in parts for answer in part]
        return [answer for _, answer in sorted(zip(order.tolist(), answers, strict=True), key=itemgetter(0))]

    def found(self, latents: Latents) -> list[list[Found]]:
        """Return the neighbours of checked latents `[n, d]`, the nearest first, equal distances by id."""
        delta, many = self._delta, len(latents) > 1
        if many and self._all_count and not self._exact:
            found = self._many(latents)
            if not len(delta.ids):
                return found
            rows = queries(latents)
        else:
            rows = queries(latents)
            found = self._in_base(rows)
        if not len(delta.ids):
            return found
        ids, rough = (delta.ids, delta.rough) if self._filter is None else self._filter.delta_latents
        added = nearest(rows, rough, self._k * delta.most_latents, self._metric, ids)
        if delta.most_latents > 1:
            added = [_by_nearest(one, self._k) for one in added]
        return [sorted(old + new)[: self._k] for old, new in zip(found, added, strict=True)]

    def _in_base(self, rows: list[Query]) -> list[list[Found]]:
        if not self._live:
            return [[] for _ in rows]
        if self._filter is not None:
            self._filter.look_up_after(len(rows))
        if self._exact or (self._filter is not None and self._filter.is_narrow):
            return self._exactly(rows)
        found = [self._one(row) for row in rows]
        missed = [row for row, answer in zip(rows, found, strict=True) if answer is None]
        exact = iter(self._exactly(missed) if missed else ())
        return [next(exact) if answer is None else answer for answer in found]

    def _many(self, latents: Latents) -> list[list[Found]]:
        """Search the base for many queries at once, where each of its latents counts."""
        numbers, k = self._base.candidates_of_many(latents, self._wanted, self._base_effort), self._wanted
        if isinstance(numbers, np.ndarray):
            return _firsts(compare_many(latents, numbers, self._base.vectors, self._metric), k)
        # Where others are as near as the last, there are more.
        width = min(map(len, numbers))
        longer = [at for at, row in enumerate(numbers) if len(row) > width]
        found = compare_many(latents, [row[:width] for row in numbers], self._base.vectors, self._metric)
        for at, row in zip(longer, queries(latents[longer]), strict=True):
            found[at] = sorted(compare(row, numbers[at], rows_at(self._base.vectors, numbers[at]), self._metric))
        return _firsts(found, k)

    def _exactly(self, rows: list[Query]) -> list[list[Found]]:
        numbers, items = self._counting_latents()
        if self._owners is None:
            return nearest(rows, items, self._k, self._metric, numbers)
        found = nearest(rows, items, self._k * self._most, self._metric, numbers)
        return [self._items_of(one) for one in found]

    def _counting_latents(self) -> tuple[Ids | None, Latents | Rough]:
        """Return the numbers of the base's latents that count, None for all, and what to compare with."""
        if self._filter is not None:
            # Those of a narrow filter are kept from query to query.
            narrow = self._filter.is_narrow
            return self._filter.base_numbers, self._filter.base_rough if narrow else self._base.vectors
        ids = self._snapshot.live_base_ids()
        return ids if ids is None or self._owners is None else self._owners.latents_of(ids), self._base.vectors

    def _one(self, row: Query) -> list[Found] | None:
        """Search the base; None where a filter leaves too few of what it finds."""
        if self._all_count:
            numbers: Sequence[int] | None = self._base.candidates(row.latent, self._wanted, self._base_effort)
        elif self._filter is not None and self._filter.is_known and self._filter.selection is not None:
            numbers = self._selected(row, self._filter)
        else:
            numbers = self._candidates(row)
        if numbers is None:
            return None
        if self._owners is None:
            return sorted(compare(row, numbers, rows_at(self._base.vectors, numbers), self._metric))[: self._k]
        if self._first:
            return self._items_of(sorted(compare(row, numbers, rows_at(self._base.vectors, numbers), self._metric)))
        # The engine may have come across an item by another latent than its nearest.
        every = self._owners.latents_of(np.unique(self._owners.of(numbers)))
        return self._items_of(sorted(compare(row, every.tolist(), self._base.vectors[every], self._metric)))

    def _items_of(self, found: list[Found]) -> list[Found]:
        """Return the items of latents of the base, the nearest first, each by its nearest latent."""
        assert self._owners is not None
        owners = self._owners.of([number for _, number, _ in found]).tolist()
        items = [(distance, item, cosine) for (distance, _, cosine), item in zip(found, owners, strict=True)]
        return _by_nearest(items, self._k)

    def _selected(self, row: Query, chosen: Filter) -> list[int]:
        """Return the numbers of latents near to a query, where the engine looks at those that count only."""
        most, fetch = len(chosen.base_numbers), min(self._wanted, len(chosen.base_ids))
        k = fetch
        while True:
            numbers = self._base.candidates(row.latent, fetch, self._effort(fetch), chosen.selection)
            if self._owners is None or fetch == most or len(np.unique(self._owners.of(numbers))) >= k:
                return numbers
            fetch = min(_WIDENING * fetch, most)

    def _candidates(self, row: Query) -> list[int] | None:
        """Return the numbers of latents near to a query, of as many items that count as are wanted."""
        k = self._wanted
        # So many always suffice where nothing but removed items may not count.
        most = self._latents
        if self._filter is None:
            most = min(most, (k + self._delta.removed_count) * self._most)
        factor, last, rarity = _REMOVED_FACTOR, math.inf, None
        if self._filter is not None:
            factor, last = _FILTER_FACTOR, _MAX_FILTER_FACTOR
            if self._filter.is_known:
                rarity = 1 / max(self._filter.share, 1 / most)
                # A few more than come out on average.
                factor = last = math.ceil(_SPARE * rarity) + 1
        while True:
            fetch = min(factor * k, most)
            effort = self._effort(fetch) if rarity is None else _for_rare(self._effort(k), rarity)
            numbers, items = self._counting(self._base.candidates(row.latent, fetch, effort))
            if len(set(items)) >= k or fetch == most:
                # Not the first k: among those that are as near as the last, ids decide.
                return numbers[: max(_FEW, _enough(items, k * self._base.looks))]
            if factor >= last:
                return None
            factor *= _WIDENING

    def _counting(self, numbers: list[int]) -> tuple[list[int], list[int]]:
        """Return those of some latents whose items count, and these items."""
        items = numbers if self._owners is None else self._owners.of(numbers).tolist()
        pairs = list(zip(numbers, items, strict=True))
        if self._filter is not None:
            pairs = [pair for pair, counts in zip(pairs, self._filter.counting(numbers, items), strict=True) if counts]
        if removed := self._removed:
            pairs = [pair for pair in pairs if not removed[pair[1]]]
        return [number for number, _ in pairs], [item for _, item in pairs]

    def _effort(self, fetch: int) -> int:
        """Return the work to do for so many candidates."""
        # Tuned for 10: with the same work, the recall of a longer list would fall, and removed items are no candidates.
        base = max(self._k, TUNED_K) if self._given else TUNED_K
        effort = self._tuned if fetch <= base else -(-self._tuned * fetch // base)
        return min(-(-effort * self._items // max(1, self._live)), MAX_COUNT)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keep Python's collector from looking through the growing answers, which have no cycles, again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _for_rare(effort: int, rarity: float) -> int:
    """Return the work that finds the nearest of one item in so many as well as this work finds those of all.

    Measured with Annoy (decision 31): the same recall takes less than so many times the work.
    """
    more: float = rarity**_RARER * max(1.0, rarity / _RARE) ** _MUCH_RARER
    return min(math.ceil(effort * more), MAX_COUNT)


def _enough(items: list[int], k: int) -> int:
    """Return how many of the first items hold k different ones."""
    seen: set[int] = set()
    for at, item in enumerate(items, start=1):
        seen.add(item)
        if len(seen) == k:
            return at
    return len(items)


def _firsts(found: list[list[Found]], k: int) -> list[list[Found]]:
    """Return the first k of each, where there are more."""
    return [one[:k] for one in found] if any(len(one) > k for one in found) else found


def _by_nearest(found: list[Found], k: int) -> list[Found]:
    """Return the first k different items of what was found in order."""
    best: dict[int, Found] = {}
    for one in found:
        best.setdefault(one[1], one)
        if len(best) == k:
            break
    return list(best.values())


def _alike_together(latents: Latents) -> Ids:
    """Return an order in which queries that are alike follow each other.

    They walk through the same parts of the base, which the processor's caches still hold then: Annoy was seen to take
    a seventh less time.
    """
    centres = latents[:: -(-len(latents) // _CENTRES)]
    # Not a matrix product: the threads of BLAS would go on spinning beside ours for a while.
    nearest_centre = np.vecdot(latents[:, np.newaxis], centres).argmax(axis=1)
    return np.argsort(nearest_centre, kind="stable")
