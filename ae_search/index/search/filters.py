"""A filter on one snapshot: which of its items count."""

import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ae_search.index.items.changes import Delta
from ae_search.index.search.comparing import Ids
from ae_search.index.search.exact import Rough
from ae_search.index.search.where import Condition, Where, compile_where
from ae_search.index.store.generation import Generation, Snapshot

# So many latents of 128 are compared exactly in about the time that the forest takes for one query.
_NARROW = 5_000
_KEPT = 8


class Filter:
    """The items of a snapshot that meet a condition; looked up as late as possible, and then kept.

    Args:
        generation: The snapshot's generation.
        delta: The snapshot's changes.
        condition: What `compile_where` returned.
    """

    def __init__(self, generation: Generation, delta: Delta, condition: Condition) -> None:
        # Not the snapshot, which holds its filters.
        self._generation, self._delta, self._condition = generation, delta, condition

    def among(self, ids: Sequence[int]) -> set[int]:
        """Return those of some ids of the forest that count."""
        return self._generation.catalogue.matching_among(self._condition, ids)

    @property
    def is_narrow(self) -> bool:
        """Whether it is known that few of the forest's items count."""
        return "forest_ids" in vars(self) and len(self.forest_ids) <= _NARROW

    @cached_property
    def delta_items(self) -> tuple[Ids, Rough]:
        """Ids and latents of the added items that count."""
        ids = self._delta.matching(self._condition)
        return ids, self._delta.rough.rows(np.searchsorted(self._delta.ids, ids))

    @cached_property
    def forest_ids(self) -> Ids:
        """Ids of the forest's items that count, ascending; removed ones are left out."""
        ids = self._generation.catalogue.matching(self._condition)
        if not self._delta.removed:
            return ids
        live: Ids = ids[np.frombuffer(self._delta.removed, np.uint8)[ids] == 0]
        return live


def filter_of(snapshot: Snapshot, where: Where) -> Filter:
    """Return the filter that a mapping describes, the same one again while it is among the last few of the snapshot.

    Raises:
        ValueError: A condition is malformed.
    """
    condition = compile_where(where)
    name = json.dumps(condition)
    found = snapshot.filters.pop(name, None) or Filter(snapshot.generation, snapshot.delta, condition)
    snapshot.filters[name] = found
    # Another thread may be at it as well; one filter more or less does no harm.
    for old in list(snapshot.filters)[:-_KEPT]:
        snapshot.filters.pop(old, None)
    return found
