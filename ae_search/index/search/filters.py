"""A filter on one snapshot: which of its items count, and by which of their latents."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Condition, Where, parse_where
from ae_search.index.items.conditions import compile_conditions
from ae_search.index.items.delta import Delta
from ae_search.index.store.generation import Generation
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.comparing import Ids
from ae_search.nearest.exact import Rough

# So many latents of 128 are compared exactly in about half a millisecond, once they are prepared for it.
_NARROW = 10_000
# An engine that cannot skip latents would take longer than for so many.
_NARROW_WITHOUT_SELECTION = 25_000
# After so many queries under a filter, finding all of its items once is the cheaper way.
_OFTEN = 4
_KEPT = 8
_IDS_PER_BLOCK = 4096


class Filter:
    """The items of a snapshot that meet a condition; looked up as late as possible, and then kept.

    Args:
        generation: The snapshot's generation.
        delta: The snapshot's changes.
        conditions: What `parse_where` returned; none where all items count.
        first_latents: Whether an item counts by its first latent alone.

    Attributes:
        first_latents: Whether an item counts by its first latent alone.
    """

    def __init__(
        self, generation: Generation, delta: Delta, conditions: tuple[Condition, ...], *, first_latents: bool = False
    ) -> None:
        # Not the snapshot, which holds its filters.
        self._generation, self._delta, self._conditions = generation, delta, conditions
        self.first_latents = first_latents
        self._condition = compile_conditions(conditions)
        self._queries = 0

    def counting(self, numbers: Sequence[int], ids: Sequence[int]) -> list[bool]:
        """Tell which of some latents of the base, whose items are `ids`, count; those of removed items may, too."""
        if self.is_known:
            chosen: list[bool] = self._mask[np.asarray(numbers, np.int64)].tolist()
            return chosen
        met = self._generation.catalogue.matching_among(self._condition, ids)
        return [item in met for item in ids]

    @cached_property
    def _mask(self) -> npt.NDArray[np.bool_]:
        mask = np.zeros(self._generation.manifest.latents, np.bool_)
        mask[self.base_numbers] = True
        return mask

    @property
    def share(self) -> float:
        """Share of the base's latents that count, in [0, 1]; for a filter that is known."""
        return len(self.base_numbers) / max(1, self._generation.manifest.latents)

    def look_up_after(self, queries: int) -> None:
        """Find all items that count, once enough queries have asked; for first latents, always.

        Args:
            queries: Queries that are to be answered now.
        """
        self._queries += queries
        if self._queries > _OFTEN or self.first_latents:
            self.base_ids  # noqa: B018

    @property
    def is_known(self) -> bool:
        """Whether it is known which of the base's items count."""
        return "base_ids" in vars(self)

    @property
    def is_narrow(self) -> bool:
        """Whether it is known that few of the base's latents count."""
        if not self.is_known:
            return False
        count = len(self.base_numbers)
        return count <= _NARROW or (count <= _NARROW_WITHOUT_SELECTION and self.selection is None)

    @cached_property
    def base_numbers(self) -> Ids:
        """Numbers of the base's latents that count, ascending."""
        owners = self._generation.owners
        if owners is None:
            return self.base_ids
        return owners.first(self.base_ids) if self.first_latents else owners.latents_of(self.base_ids)

    @cached_property
    def base_rough(self) -> Rough:
        """These latents, prepared for exact search; for a narrow filter."""
        manifest = self._generation.manifest
        return Rough.of(self._generation.base.vectors[self.base_numbers], manifest.metric)

    @cached_property
    def selection(self) -> Any | None:
        """What lets the engine look at these latents only; None where it cannot, or there are none."""
        return self._generation.base.selection(self.base_numbers) if len(self.base_numbers) else None

    @cached_property
    def delta_latents(self) -> tuple[Ids, Rough]:
        """The latents of the added items that count, and the ids of these items."""
        ids = self._delta.ids
        counts = np.isin(ids, self._delta.matching(self._condition)) if self._conditions else np.ones(len(ids), bool)
        if self.first_latents:
            counts &= np.diff(ids, prepend=-1) > 0
        chosen = np.flatnonzero(counts)
        return ids[chosen], self._delta.rough.rows(chosen)

    @cached_property
    def base_ids(self) -> Ids:
        """Ids of the base's items that count, ascending; removed ones are left out."""
        if self._conditions:
            ids = self._generation.catalogue.matching(self._conditions)
        else:
            ids = np.arange(self._generation.manifest.items)
        if not self._delta.removed:
            return ids
        live: Ids = ids[np.frombuffer(self._delta.removed, np.uint8)[ids] == 0]
        return live

    def live_ids(self) -> Iterator[list[int]]:
        """Yield the ids of all items that count, ascending, in blocks."""
        for ids in (self.base_ids, self._delta.matching(self._condition)):
            for start in range(0, len(ids), _IDS_PER_BLOCK):
                yield ids[start : start + _IDS_PER_BLOCK].tolist()


def filter_of(snapshot: Snapshot, where: Where | None, *, first_latents: bool = False) -> Filter | None:
    """Return the filter that a mapping describes, the same one again while it is among the last few of the snapshot.

    Args:
        snapshot: The snapshot.
        where: The mapping; None where all items count.
        first_latents: Whether an item counts by its first latent alone.

    Returns:
        None where all latents count.

    Raises:
        ValueError: A condition is malformed.
    """
    conditions = () if where is None else parse_where(where)
    first_latents = first_latents and snapshot.has_several
    if not conditions and not first_latents:
        return None
    # 1, 1.0 and True are equal, and conditions of different meaning
    name = f"{first_latents} {conditions!r}"
    found: Filter | None = snapshot.filters.pop(name, None)
    if found is None:
        found = Filter(snapshot.generation, snapshot.delta, conditions, first_latents=first_latents)
    snapshot.filters[name] = found
    # Another thread may be at it as well; one filter more or less does no harm.
    for old in list(snapshot.filters)[:-_KEPT]:
        snapshot.filters.pop(old, None)
    return found
