"""What a search sees: one generation and the changes up to one moment."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.contract import Items, Latents
from ae_search.index.items.delta import Delta
from ae_search.index.items.names import Columns, Name
from ae_search.index.manifest import live_generation
from ae_search.index.store.generation import Generation
from ae_search.nearest.comparing import Ids

_ITEMS_PER_BLOCK = 4096


class Snapshot:
    """What a search sees: one generation and the changes up to one moment; it never changes.

    Attributes:
        generation: The generation.
        delta: The changes.
        epoch: The index's counter at that moment; empty if it could not vouch for it.
        manifest: Manifest of the generation.
        filters: Filters that were used last, by their conditions.
    """

    def __init__(self, generation: Generation, delta: Delta, epoch: bytes) -> None:
        self.generation, self.delta, self.epoch = generation, delta, epoch
        self.manifest = generation.manifest
        self.filters: dict[str, Any] = {}

    def __len__(self) -> int:
        return self.manifest.items - self.delta.removed_count + len(self.delta)

    @property
    def has_several(self) -> bool:
        """Whether an item may have several latents."""
        return self.generation.owners is not None or self.delta.most_latents > 1

    def names(self, ids: Sequence[int]) -> list[Name]:
        """Return key, label and metadata of some ids."""
        if not self.delta.names:
            return self.generation.names.of(ids)
        items, added = self.manifest.items, self.delta.names
        stored = iter(self.generation.names.of([item for item in ids if item < items]))
        return [next(stored) if item < items else added[item] for item in ids]

    def columns(self, ids: Sequence[int]) -> Columns:
        """Return the keys, the labels and the metadata of some ids."""
        if not self.delta.names:
            return self.generation.names.columns(ids)
        keys, labels, metadata = zip(*self.names(ids), strict=True) if ids else ((), (), ())
        return keys, labels, metadata

    def is_removed(self, item: int) -> bool:
        """Tell whether an item of the base is removed."""
        return bool(self.delta.removed) and self.delta.removed[item] == 1

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the id of each key that the index holds."""
        found = {key: item for key, item in self.generation.catalogue.ids_of(keys).items() if not self.is_removed(item)}
        found.update((key, self.delta.keys[key]) for key in keys if key in self.delta.keys)
        return found

    def live_base_ids(self) -> Ids | None:
        """Return the ids of the base's items that are not removed, ascending; None for all of them."""
        removed = self.delta.removed
        return np.flatnonzero(np.frombuffer(removed, np.uint8) == 0) if removed else None

    def latents(self, ids: Sequence[int]) -> Latents:
        """Return the first latent of some ids, float32 `[n, d]`."""
        wanted = np.asarray(ids, np.int64)
        stored = wanted < self.manifest.items
        rows = np.empty((len(wanted), self.manifest.latent_dim), np.float32)
        owners, base = self.generation.owners, self.generation.base
        rows[stored] = base.vectors[wanted[stored] if owners is None else owners.first(wanted[stored])]
        rows[~stored] = self.delta.rough.vectors[np.searchsorted(self.delta.ids, wanted[~stored])]
        return rows

    def all_latents(self, ids: Sequence[int]) -> list[Latents]:
        """Return all latents of some ids, float32 `[r, d]`."""
        wanted = np.asarray(ids, np.int64)
        stored = wanted < self.manifest.items
        starts, ends = np.searchsorted(self.delta.ids, wanted), np.searchsorted(self.delta.ids, wanted, side="right")
        owners = self.generation.owners
        starts[stored] = wanted[stored] if owners is None else owners.first(wanted[stored])
        ends[stored] = wanted[stored] + 1 if owners is None else owners.first(wanted[stored] + 1)
        base, added = self.generation.base.vectors, self.delta.rough.vectors
        runs = zip(stored.tolist(), starts.tolist(), ends.tolist(), strict=True)
        return [np.array((base if in_base else added)[start:end]) for in_base, start, end in runs]

    def thumbnail(self, item: int) -> bytes | None:
        """Return the JPEG of an id, None where none is stored."""
        if item < self.manifest.items:
            return self.generation.catalogue.thumbnail(item)
        return self.generation.changes.thumbnail(item)

    def sources(self) -> tuple[str, ...]:
        """Return the names of all sources that items came from."""
        return tuple(dict.fromkeys([*self.manifest.sources, *self.generation.changes.sources()]))

    def latents_count(self) -> int:
        """Return how many latents all items have."""
        removed, owners = self.delta.removed, self.generation.owners
        gone = self.delta.removed_count
        if removed and owners is not None:
            gone = len(owners.latents_of(np.flatnonzero(np.frombuffer(removed, np.uint8))))
        return self.manifest.latents - gone + len(self.delta.ids)

    def live_ids(self) -> Iterator[range | list[int]]:
        """Yield the ids of all items, ascending, in blocks."""
        for start in range(0, self.manifest.items, _ITEMS_PER_BLOCK):
            block = range(start, min(start + _ITEMS_PER_BLOCK, self.manifest.items))
            yield [item for item in block if not self.delta.removed[item]] if self.delta.removed else block
        added = list(self.delta.names)
        for start in range(0, len(added), _ITEMS_PER_BLOCK):
            yield added[start : start + _ITEMS_PER_BLOCK]

    def added_thumbnails(self) -> dict[int, bytes]:
        """Return the JPEG of each added item that has one, as far as it was not removed meanwhile."""
        return self.generation.changes.thumbnails() if len(self.delta) else {}

    def blocks(
        self, *, thumbnails: bool = True, added: Mapping[int, bytes] | None = None
    ) -> Iterator[tuple[Latents, Items]]:
        """Yield all items, by id: latents `[n, r, d]`, and what else they have.

        Args:
            thumbnails: Whether to read thumbnails; without, they are None.
            added: Those of the added items; None to read them on the way, where nobody can remove an item meanwhile.
        """
        for ids in self.live_ids():
            if not ids:
                continue
            if self.generation.owners is None and ids[0] < self.manifest.items:
                yield self.latents(ids)[:, np.newaxis], self._items(ids, thumbnails, added)
                continue
            # Items that follow each other and have as many latents.
            pairs = zip(ids, self.all_latents(ids), strict=True)
            for _, group in groupby(pairs, key=lambda pair: len(pair[1])):
                some, latents = zip(*group, strict=True)
                yield np.stack(latents), self._items(some, thumbnails, added)

    def _items(self, ids: Sequence[int], thumbnails: bool, added: Mapping[int, bytes] | None) -> Items:
        """Return what some items have, all of the base or all added."""
        keys, labels, metadata = zip(*self.names(ids), strict=True)
        pictures = self._thumbnails(ids, added) if thumbnails else [None] * len(ids)
        return Items(keys, labels, metadata, pictures, self.digests(ids))

    def digests(self, ids: Sequence[int]) -> list[str | None]:
        """Return the digests of some ids."""
        stored = self.generation.catalogue.digests([item for item in ids if item < self.manifest.items])
        return [stored.get(item) or self.delta.digests.get(item) for item in ids]

    def _thumbnails(self, ids: Sequence[int], added: Mapping[int, bytes] | None) -> list[bytes | None]:
        """Return the JPEG of each id, all of the base or all added."""
        if ids[0] >= self.manifest.items:
            read = self.generation.changes.thumbnail if added is None else added.get
            return [read(item) for item in ids]
        stored = self.generation.catalogue.thumbnails(ids[0], ids[-1] + 1)
        return [stored.get(item) for item in ids]


def newest(path: Path) -> Snapshot:
    """Return the state of an index that nobody writes meanwhile, or that of this moment."""
    generation = Generation(live_generation(path))
    return Snapshot(generation, generation.changes.first(), b"")
