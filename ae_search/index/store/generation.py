"""One generation, opened: the files that never change, and the changes since."""

import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.contract import Latents
from ae_search.errors import IndexDamagedError
from ae_search.files import open_regular
from ae_search.index.engine.annoy import FOREST, Forest
from ae_search.index.items.catalogue import CATALOGUE, Catalogue
from ae_search.index.items.changes import CHANGES, Changes, Delta
from ae_search.index.items.checking import Items
from ae_search.index.items.names import NAMES, Name, Names
from ae_search.index.search.comparing import Ids
from ae_search.index.store.manifest import MANIFEST, Manifest
from ae_search.index.store.proof import check_files
from ae_search.index.store.shortage import shortage_named

_ITEMS_PER_BLOCK = 4096


class Generation:
    """The files of one generation, checked and mapped.

    Args:
        folder: The generation's folder.

    Attributes:
        folder: The generation's folder.
        manifest: Its manifest.
        forest: Its forest.
        names: Key, label and metadata of the forest's items.
        catalogue: The same for looking up and filtering.
        changes: What was added and removed since.

    Raises:
        ConfigurationError: It has another format than this release reads.
        IndexDamagedError: A file is missing, cut short or altered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = _identity(folder)
        manifest = self.manifest = Manifest.read(folder)
        try:
            with shortage_named(folder):
                check_files(folder, manifest)
                self.names = Names(folder / NAMES, manifest.items)
                self.catalogue = Catalogue(folder / CATALOGUE, manifest.items)
                self.changes = Changes(folder / CHANGES, manifest)
                _check_room(folder / FOREST)
                self.forest = Forest(folder / FOREST, manifest.items, manifest.latent_dim, manifest.metric)
        except OSError as error:
            # A writer may remove it meanwhile, in which case another generation is live.
            raise IndexDamagedError(f"Cannot read {folder}: {error}; restore it or build the index anew.") from error

    def is_still(self, folder: Path) -> bool:
        """Tell whether a folder holds this generation, with the manifest that was read."""
        return folder == self.folder and _identity(folder) == self._written


def _check_room(path: Path) -> None:
    """Map a file and let go of it: where there is no room for it, Annoy does not notice and the process dies."""
    descriptor = open_regular(path)
    try:
        if size := os.fstat(descriptor).st_size:
            mmap.mmap(descriptor, size, prot=mmap.PROT_READ).close()
    finally:
        os.close(descriptor)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what changes when a manifest is replaced."""
    try:
        stat = os.lstat(folder / MANIFEST)
    except OSError:
        return None
    return stat.st_ino, stat.st_ctime_ns


class Snapshot:
    """What a search sees: one generation and the changes up to one moment; it never changes.

    Attributes:
        generation: The generation.
        delta: The changes.
        epoch: The index's counter at that moment; empty if it could not vouch for it.
        manifest: Manifest of the generation.
        is_forest: Whether there is a forest and nothing beside it.
        filters: Filters that were used last, by their conditions.
    """

    def __init__(self, generation: Generation, delta: Delta, epoch: bytes) -> None:
        self.generation, self.delta, self.epoch = generation, delta, epoch
        self.manifest = generation.manifest
        self.filters: dict[str, Any] = {}
        self.is_forest = self.manifest.items > 0 and not len(delta) and not delta.removed_count

    def __len__(self) -> int:
        return self.manifest.items - self.delta.removed_count + len(self.delta)

    def answer_names(self, ids: Sequence[int]) -> list[Name]:
        """Return key, label and metadata of ids that a search has found, the frequent ones from memory."""
        return self.names(ids) if self.delta.names else self.generation.names.of_answers(ids)

    def names(self, ids: Sequence[int]) -> list[Name]:
        """Return key, label and metadata of some ids."""
        if not self.delta.names:
            return self.generation.names.of(ids)
        items, added = self.manifest.items, self.delta.names
        stored = iter(self.generation.names.of([item for item in ids if item < items]))
        return [next(stored) if item < items else added[item] for item in ids]

    def is_removed(self, item: int) -> bool:
        """Tell whether an item of the forest is removed."""
        return bool(self.delta.removed) and self.delta.removed[item] == 1

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the id of each key that the index holds."""
        found = {key: item for key, item in self.generation.catalogue.ids_of(keys).items() if not self.is_removed(item)}
        found.update((key, self.delta.keys[key]) for key in keys if key in self.delta.keys)
        return found

    def live_base_ids(self) -> Ids | None:
        """Return the ids of the forest's items that are not removed, ascending; None for all of them."""
        removed = self.delta.removed
        return np.flatnonzero(np.frombuffer(removed, np.uint8) == 0) if removed else None

    def latents(self, ids: Sequence[int]) -> Latents:
        """Return the latents of some ids, float32 `[n, d]`."""
        wanted = np.asarray(ids, np.int64)
        stored = wanted < self.manifest.items
        rows = np.empty((len(wanted), self.manifest.latent_dim), np.float32)
        rows[stored] = self.generation.forest.vectors[wanted[stored]]
        rows[~stored] = self.delta.rough.vectors[np.searchsorted(self.delta.ids, wanted[~stored])]
        return rows

    def thumbnail(self, item: int) -> bytes | None:
        """Return the JPEG of an id, None where none is stored."""
        if item < self.manifest.items:
            return self.generation.catalogue.thumbnail(item)
        return self.generation.changes.thumbnail(item)

    def sources(self) -> tuple[str, ...]:
        """Return the names of all sources that items came from."""
        return tuple(dict.fromkeys([*self.manifest.sources, *self.generation.changes.sources()]))

    def live_ids(self) -> Iterator[range | list[int]]:
        """Yield the ids of all items, ascending, in blocks."""
        for start in range(0, self.manifest.items, _ITEMS_PER_BLOCK):
            block = range(start, min(start + _ITEMS_PER_BLOCK, self.manifest.items))
            yield [item for item in block if not self.delta.removed[item]] if self.delta.removed else block
        added = self.delta.ids.tolist()
        for start in range(0, len(added), _ITEMS_PER_BLOCK):
            yield added[start : start + _ITEMS_PER_BLOCK]

    def blocks(self, *, pictures: bool = True) -> Iterator[tuple[Latents, Items]]:
        """Yield all items, by id, with or without their thumbnails."""
        for ids in self.live_ids():
            if not ids:
                continue
            keys, labels, metadata = zip(*self.names(ids), strict=True)
            thumbnails = self._thumbnails(ids) if pictures else [None] * len(ids)
            yield self.latents(ids), Items(keys, labels, metadata, thumbnails)

    def _thumbnails(self, ids: Sequence[int]) -> list[bytes | None]:
        """Return the JPEG of each id, all of the forest or all added."""
        if ids[0] >= self.manifest.items:
            return [self.generation.changes.thumbnail(item) for item in ids]
        stored = self.generation.catalogue.thumbnails(ids[0], ids[-1] + 1)
        return [stored.get(item) for item in ids]
