"""Groups of items that are almost the same image."""

from collections.abc import Callable

import numpy as np

from ae_search.calibration import Calibration, Floats
from ae_search.contract import DuplicateGroup, Latents, OnItems, no_progress
from ae_search.index.search.snapshot_search import SnapshotSearch
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.comparing import Found

# Least cosine similarity where nothing better is known.
SIMILARITY = 0.99

_FIRST_K = 10
_WIDENING = 4
_FOUND_AT_A_TIME = 100_000
# Items so near to each other have the same neighbours.
_SAME_DISTANCE = 1e-6


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


def find_duplicates(
    snapshot: Snapshot,
    similarity: float | None,
    calibration: Calibration | None = None,
    *,
    on_progress: OnItems = no_progress,
) -> list[DuplicateGroup]:
    """Find groups of items that are almost the same.

    Every item is searched for its nearest ones by its first latent, as many as are similar enough. A pair is missed
    where the search misses it from both sides, so with a recall of 0.98 hardly ever. In a euclidean index the nearest
    ones are so by distance: items of the same direction that are far apart in length are not found.

    Args:
        snapshot: The index.
        similarity: Least cosine similarity of two items that count as almost the same, in (0, 1]. None: what the
            calibration says, or 0.99 without one.
        calibration: The index's.
        on_progress: Called with the number of items done since the last call.

    Returns:
        Groups of at least two items, the largest first, equal ones by their first id.

    Raises:
        ValueError: `similarity` is out of range.
    """
    if similarity is not None and not 0.0 < similarity <= 1.0:
        raise ValueError(f"Expected a similarity in (0, 1]. Received: {similarity}.")
    least = _least_similarities(similarity, calibration)
    groups = _Groups()
    known: set[int] = set()
    for block in snapshot.live_ids():
        todo = [item for item in block if item not in known]
        k = _FIRST_K
        while todo:
            unfinished: list[int] = []
            # Of many items with many like them, a few at a time: the first ones spare searching for the rest.
            size = max(1, _FOUND_AT_A_TIME // k)
            for start in range(0, len(todo), size):
                part = [item for item in todo[start : start + size] if item not in known]
                unfinished += _link(snapshot, part, k, least, groups, known)
            todo, k = unfinished, k * _WIDENING
        known.difference_update(block)
        on_progress(len(block))
    return _named(snapshot, groups)


def _least_similarities(similarity: float | None, calibration: Calibration | None) -> Callable[[Latents], Floats]:
    """Return what tells from which similarity on others are almost the same as each of some items."""

    def least(latents: Latents) -> Floats:
        if similarity is None and calibration is not None:
            found = calibration.least_similarities(latents)
        else:
            found = np.full(len(latents), SIMILARITY if similarity is None else similarity)
        # Equal latents come out with 1 - 1e-16 as well.
        return np.minimum(found, 1.0 - 1e-9)

    return least


def _link(
    snapshot: Snapshot,
    ids: list[int],
    k: int,
    least: Callable[[Latents], Floats],
    groups: _Groups,
    known: set[int],
) -> list[int]:
    """Join each item with those like it; return the items that may have more of them than k."""
    unfinished = []
    latents = snapshot.latents(ids)
    all_found = SnapshotSearch(snapshot, k, None).run(latents, list)
    for item, found, similarity in zip(ids, all_found, least(latents).tolist(), strict=True):
        if item in known:
            continue
        alike: list[Found] = [row for row in found if row[2] >= similarity]
        for _, other, cosine in alike:
            if other != item:
                groups.join(item, other, cosine)
        if len(alike) == len(found) == k < len(snapshot):
            unfinished.append(item)
        else:
            known.update(_same(snapshot, item, [row[1] for row in alike if row[0] <= _SAME_DISTANCE and row[1] > item]))
    return unfinished


def _same(snapshot: Snapshot, item: int, others: list[int]) -> list[int]:
    """Return those of some equal items that have the same neighbours as one."""
    if not snapshot.has_several or not others:
        return others
    # They were found by any of their latents, and are searched for by the first.
    first, *firsts = snapshot.latents([item, *others])
    return [other for other, latent in zip(others, firsts, strict=True) if np.array_equal(latent, first)]


def _named(snapshot: Snapshot, groups: _Groups) -> list[DuplicateGroup]:
    members: dict[int, list[int]] = {}
    for item in sorted(groups.parents):
        members.setdefault(groups.find(item), []).append(item)
    ordered = sorted(members.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [DuplicateGroup([key for key, _, _ in snapshot.names(ids)], groups.weakest[root]) for root, ids in ordered]
