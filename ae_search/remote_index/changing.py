"""One change to the items of an index on another machine: what is checked and counted, whichever engine holds them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from ae_search.contract import Items, Latents, Metadata, check_text, checked_items
from ae_search.errors import ConfigurationError
from ae_search.nearest.comparing import checked_rows
from ae_search.remote_index.manifest import Manifest


@dataclass(frozen=True)
class Counts:
    """What an index holds at one moment.

    Attributes:
        items: Items in it.
        latents: Latents of these.
        most_latents: The most latents that one item ever had.
        in_base: Items when its graph was built.
        added: Items added since and still there.
        removed: Items of those it was built with that were removed since.
        next_id: Id of the next item.
        manifest: All else.
    """

    items: int
    latents: int
    most_latents: int
    in_base: int
    added: int
    removed: int
    next_id: int
    manifest: Manifest[Any]


State = TypeVar("State", bound=Counts)


class ItemChanges(ABC, Generic[State]):
    """A change to the items of an index whose lock is held; an engine says how rows are written and found.

    Args:
        state: The index before it.

    Attributes:
        state: The index as the change leaves it.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def add(
        self,
        latents: npt.ArrayLike,
        keys: Sequence[str],
        *,
        labels: Sequence[str | None] | None,
        metadata: Sequence[Metadata | None] | None,
        thumbnails: Sequence[bytes | None] | None,
        digests: Sequence[str | None] | None,
        source: str | None,
    ) -> None:
        """Add items; see `Index.add`."""
        rows = checked_rows(latents, keys, self.state.manifest.latent_dim)
        items = checked_items(keys, labels, metadata, thumbnails, digests)
        if source is not None:
            check_text(source, "Sources")
        if known := self._ids(items.keys):
            raise ConfigurationError(
                f"The index has an item {next(iter(known))!r} already; update it, or remove it first."
            )
        self._write(self._new_ids(len(items)), list(rows), items)
        self.state = replace(self.state, items=self.state.items + len(items), added=self.state.added + len(items))
        sources = self.state.manifest.sources
        if source is not None and source not in sources:
            self.describe(sources=(*sources, source))

    def update(
        self,
        keys: Sequence[str],
        *,
        latents: npt.ArrayLike | None,
        labels: Sequence[str | None] | None,
        metadata: Sequence[Metadata | None] | None,
        thumbnails: Sequence[bytes | None] | None,
        digests: Sequence[str | None] | None,
    ) -> None:
        """Change items; see `Index.update`."""
        given = checked_items(keys, labels, metadata, thumbnails, digests)
        new = None if latents is None else checked_rows(latents, keys, self.state.manifest.latent_dim)
        ids = self._all_ids(given.keys)
        old, rows = self._read(given.keys)
        items = Items(
            given.keys,
            old.labels if labels is None else given.labels,
            old.metadata if metadata is None else given.metadata,
            old.thumbnails if thumbnails is None else given.thumbnails,
            old.digests if digests is None else given.digests,
        )
        self._delete(ids, rows)
        self._write(self._ids_of_updated(ids), rows if new is None else list(new), items)

    def remove(self, keys: Sequence[str]) -> None:
        """Take items out; see `Index.remove`."""
        ids = self._all_ids(checked_items(keys).keys)
        self._delete(ids, None)
        self._count_removed(ids)
        self.state = replace(self.state, items=self.state.items - len(ids), added=self.state.added - len(ids))

    def describe(self, **fields: object) -> None:
        """Change what the manifest says."""
        self.state = replace(self.state, manifest=replace(self.state.manifest, **fields))  # type: ignore[arg-type]

    @abstractmethod
    def _ids(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the ids of those of some keys that are there."""

    @abstractmethod
    def _read(self, keys: Sequence[str]) -> tuple[Items, list[Latents]]:
        """Return what items have, in the order of some keys that are there, and the latents `[r, d]` of each."""

    @abstractmethod
    def _insert(self, ids: Sequence[int], rows: Sequence[Latents], items: Items) -> None:
        """Write items with the latents `[r, d]` of each."""

    @abstractmethod
    def _delete_rows(self, ids: Sequence[int], rows: Sequence[Latents] | None) -> int:
        """Take items out, the latents of which are given where they are known; return how many latents they had."""

    @abstractmethod
    def _ids_of_updated(self, ids: Sequence[int]) -> Sequence[int]:
        """Return the ids that items have after an update."""

    def _new_ids(self, count: int) -> range:
        """Take ids that no item ever had."""
        first = self.state.next_id
        self.state = replace(self.state, next_id=first + count)
        return range(first, first + count)

    def _count_removed(self, ids: Sequence[int]) -> None:
        """Count what is gone of the items that the graph was built with."""
        of_base = sum(one < self.state.in_base for one in ids)
        self.state = replace(self.state, added=self.state.added + of_base, removed=self.state.removed + of_base)

    def _write(self, ids: Sequence[int], rows: Sequence[Latents], items: Items) -> None:
        self._insert(ids, rows, items)
        most = max([self.state.most_latents, *(len(own) for own in rows)])
        self.state = replace(self.state, latents=self.state.latents + sum(map(len, rows)), most_latents=most)

    def _delete(self, ids: Sequence[int], rows: Sequence[Latents] | None) -> None:
        gone = self._delete_rows(ids, rows)
        self.state = replace(self.state, latents=self.state.latents - gone)

    def _all_ids(self, keys: Sequence[str]) -> list[int]:
        found = self._ids(keys)
        missing = [key for key in keys if key not in found]
        if missing:
            more = f", and {len(missing) - 1} more" if missing[1:] else ""
            raise ConfigurationError(f"The index has no item {missing[0]!r}{more}; nothing was changed.")
        return [found[key] for key in keys]
