"""A filter on one snapshot: which of its items count."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from ae_search.contract import Where, parse_where
from ae_search.index.items.conditions import SqlCondition, compile_conditions
from ae_search.index.items.delta import Delta
from ae_search.index.store.generation import Generation
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.comparing import Ids
from ae_search.nearest.exact import Rough

# So many latents of 128 are compared exactly in about the time that Annoy takes for one query.
_NARROW = 5_000
_KEPT = 8
_IDS_PER_BLOCK = 4096


class Filter:
    """The items of a snapshot that meet a condition; looked up as late as possible, and then kept.

    Args:
        generation: The snapshot's generation.
        delta: The snapshot's changes.
        condition: What `compile_conditions` returned.
    """

    def __init__(self, generation: Generation, delta: Delta, condition: SqlCondition) -> None:
        # Not the snapshot, which holds its filters.
        self._generation, self._delta, self._condition = generation, delta, condition

    def among(self, ids: Sequence[int]) -> set[int]:
        """Return those of some ids of the base that count."""
        return self._generation.catalogue.matching_among(self._condition, ids)

    @property
    def is_narrow(self) -> bool:
        """Whether it is known that few of the base's items count."""
        return "base_ids" in vars(self) and len(self.base_ids) <= _NARROW

    @cached_property
    def delta_latents(self) -> tuple[Ids, Rough]:
        """The latents of the added items that count, and the ids of these items."""
        chosen = np.flatnonzero(np.isin(self._delta.ids, self._delta.matching(self._condition)))
        return self._delta.ids[chosen], self._delta.rough.rows(chosen)

    @cached_property
    def base_ids(self) -> Ids:
        """Ids of the base's items that count, ascending; removed ones are left out."""
        ids = self._generation.catalogue.matching(self._condition)
        if not self._delta.removed:
            return ids
        live: Ids = ids[np.frombuffer(self._delta.removed, np.uint8)[ids] == 0]
        return live

    def live_ids(self) -> Iterator[list[int]]:
        """Yield the ids of all items that count, ascending, in blocks."""
        for ids in (self.base_ids, self._delta.matching(self._condition)):
            for start in range(0, len(ids), _IDS_PER_BLOCK):
                yield ids[start : start + _IDS_PER_BLOCK].tolist()


def filter_of(snapshot: Snapshot, where: Where) -> Filter:
    """Return the filter that a mapping describes, the same one again while it is among the last few of the snapshot.

    Raises:
        ValueError: A condition is malformed.
    """
    conditions = parse_where(where)
    name = repr(conditions)  # 1, 1.0 and True are equal, and conditions of different meaning
    found: Filter | None = snapshot.filters.pop(name, None)
    if found is None:
        found = Filter(snapshot.generation, snapshot.delta, compile_conditions(conditions))
    snapshot.filters[name] = found
    # Another thread may be at it as well; one filter more or less does no harm.
    for old in list(snapshot.filters)[:-_KEPT]:
        snapshot.filters.pop(old, None)
    return found
