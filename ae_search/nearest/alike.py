"""Groups of items that are almost the same, found by searching for each."""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from ae_search.contract import DuplicateGroup, Latents, OnItems, no_progress
from ae_search.nearest.comparing import Floats, Found

_FIRST_K = 10
_WIDENING = 4
# Where something other than the latents is compared, items that are alike may rank behind others that are not. The
# search for them stops at this rank.
_MOST_COMPARED = 160
_FOUND_AT_A_TIME = 100_000
# Items so near to each other have the same neighbours.
_SAME_DISTANCE = 1e-6


class Searched(Protocol):
    """The items of an index at one moment."""

    @property
    def has_several(self) -> bool:
        """Whether an item may have several latents."""

    def __len__(self) -> int:
        """Return the number of items."""

    def live_ids(self) -> Iterator[list[int]]:
        """Yield the ids of all items, ascending, in blocks."""

    def latents(self, ids: list[int]) -> Latents:
        """Return the first latent of each item, float32 `[n, d]`."""

    def found(self, latents: Latents, k: int) -> list[list[Found]]:
        """Return the k nearest items of each latent."""

    def keys(self, ids: list[int]) -> list[str]:
        """Return the keys of some items."""


class _Groups:
    """Disjoint sets of ids, joined as links come in (union by path halving)."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self.weakest: dict[int, float] = {}

    def find(self, item: int) -> int:
        parents = self.parents
        while (parent := parents.setdefault(item, item)) != item:
            parents[item] = item = parents.setdefault(parent, parent)
        return item

    def join(self, one: int, other: int, similarity: float) -> None:
        first, second = sorted((self.find(one), self.find(other)))
        if first != second:
            self.parents[second] = first
            self.weakest[first] = min(similarity, *(self.weakest.pop(root, 1.0) for root in (first, second)))


def groups_of_alike(
    items: Searched,
    least: Callable[[Latents], Floats],
    compared: Callable[[Latents], Floats] | None = None,
    reach: Callable[[Latents], Floats] | None = None,
    *,
    on_progress: OnItems = no_progress,
) -> list[DuplicateGroup]:
    """Find groups of items that are almost the same.

    Every item is searched for its nearest ones by its first latent, as many as are similar enough. A pair is missed
    where the search misses it from both sides, so with a recall of 0.98 hardly ever. In a euclidean index the nearest
    ones are so by distance: items of the same direction that are far apart in length are not found.

    Args:
        items: The items.
        least: Returns from which cosine similarity on others are almost the same as each of some latents.
        compared: Returns what is compared in place of latents `[n, d]`, float64 `[n, d]` of length 1, of items that
            have one latent. The items nearest by their latents are compared: 160, or more where all are alike. None
            for the latents themselves.
        reach: Returns about the least cosine similarity that latents of items alike by what is compared can have.
        on_progress: Called with the number of items done since the last call.

    Returns:
        Groups of at least two items, the largest first, equal ones by their first id.
    """
    groups = _Groups()
    known: set[int] = set()
    for block in items.live_ids():
        todo = [item for item in block if item not in known]
        k = _FIRST_K
        while todo:
            unfinished: list[int] = []
            # A few at a time where each has many like it: the first ones spare searching for the rest.
            size = max(1, _FOUND_AT_A_TIME // k)
            for start in range(0, len(todo), size):
                part = [item for item in todo[start : start + size] if item not in known]
                unfinished += _link(items, part, k, least, compared, reach, groups, known)
            todo, k = unfinished, k * _WIDENING
        known.difference_update(block)
        on_progress(len(block))
    return _named(items, groups)


def _link(
    items: Searched,
    ids: list[int],
    k: int,
    least: Callable[[Latents], Floats],
    compared: Callable[[Latents], Floats] | None,
    reach: Callable[[Latents], Floats] | None,
    groups: _Groups,
    known: set[int],
) -> list[int]:
    """Join each item with those like it; return the items that may have more of them than k."""
    unfinished = []
    latents = items.latents(ids)
    all_found = items.found(latents, k)
    farther = [False] * len(ids)
    if compared is not None and reach is not None and ids:
        ends = reach(latents).tolist()
        if k < _MOST_COMPARED:
            farther = [bool(found) and found[-1][2] >= end for found, end in zip(all_found, ends, strict=True)]
        all_found = _compared(items, compared(latents), all_found, compared)
    for item, found, similarity, goes_on in zip(ids, all_found, least(latents).tolist(), farther, strict=True):
        if item in known:
            continue
        alike: list[Found] = [row for row in found if row[2] >= similarity]
        for _, other, cosine in alike:
            if other != item:
                groups.join(item, other, cosine)
        if len(found) == k < len(items) and (goes_on or len(alike) == k):
            unfinished.append(item)
        else:
            known.update(_same(items, item, [row[1] for row in alike if row[0] <= _SAME_DISTANCE and row[1] > item]))
    return unfinished


def _compared(
    items: Searched, rows: Floats, all_found: list[list[Found]], compared: Callable[[Latents], Floats]
) -> list[list[Found]]:
    """Return what was found, with the distances and similarities of what is compared in place of latents."""
    ids = sorted({number for found in all_found for _, number, _ in found})
    others, at = compared(items.latents(ids)), {number: position for position, number in enumerate(ids)}
    again: list[list[Found]] = []
    for row, found in zip(rows, all_found, strict=True):
        numbers = [number for _, number, _ in found]
        cosines = np.clip(others[[at[number] for number in numbers]] @ row, -1.0, 1.0).tolist()
        again.append([(math.sqrt(2.0 - 2.0 * one), number, one) for number, one in zip(numbers, cosines, strict=True)])
    return again


def _same(items: Searched, item: int, others: list[int]) -> list[int]:
    """Return those of some equal items that have the same neighbours as one."""
    if not items.has_several or not others:
        return others
    # They were found by any of their latents, and are searched for by the first.
    first, *firsts = items.latents([item, *others])
    return [other for other, latent in zip(others, firsts, strict=True) if np.array_equal(latent, first)]


def _named(items: Searched, groups: _Groups) -> list[DuplicateGroup]:
    members: dict[int, list[int]] = {}
    for item in sorted(groups.parents):
        members.setdefault(groups.find(item), []).append(item)
    ordered = sorted(members.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [DuplicateGroup(items.keys(ids), groups.weakest[root]) for root, ids in ordered]
