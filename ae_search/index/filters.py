"""A filter on one snapshot: which of its items count."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ae_search.index.catalogue import Ids
from ae_search.index.exact import Rough
from ae_search.index.generation import Snapshot
from ae_search.index.where import Condition

# So many latents of 128 are compared exactly in about the time that the forest takes for one query.
_NARROW = 5_000


class Filter:
    """The items of a snapshot that meet a condition; looked up as late as possible, and then kept.

    Args:
        snapshot: The snapshot.
        condition: What `compile_where` returned.

    Attributes:
        snapshot: The snapshot.
    """

    def __init__(self, snapshot: Snapshot, condition: Condition) -> None:
        self.snapshot = snapshot
        self._condition = condition

    def among(self, ids: Sequence[int]) -> set[int]:
        """Return those of some ids of the forest that count."""
        return self.snapshot.generation.catalogue.matching_among(self._condition, ids)

    def of_forest(self) -> Ids:
        """Return the ids of the forest's items that count, ascending; removed ones are left out."""
        return self._of_forest

    def of_delta(self) -> tuple[Ids, Rough]:
        """Return ids and latents of the added items that count."""
        delta = self.snapshot.delta
        matching = self.snapshot.generation.changes.matching(self._condition)
        at = np.flatnonzero(np.isin(delta.ids, matching))
        return delta.ids[at], delta.rough.rows(at)

    @property
    def is_narrow(self) -> bool:
        """Whether it is known that few of the forest's items count."""
        return "_of_forest" in vars(self) and len(self._of_forest) <= _NARROW

    @cached_property
    def _of_forest(self) -> Ids:
        ids = self.snapshot.generation.catalogue.matching(self._condition)
        if not self.snapshot.delta.removed:
            return ids
        live: Ids = ids[np.frombuffer(self.snapshot.delta.removed, np.uint8)[ids] == 0]
        return live
