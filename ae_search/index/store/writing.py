"""Changes to an index: one writer at a time, each change whole or not at all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy.typing as npt

from ae_search.contract import Items, Latents, Metadata, check_text, checked_items
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.index.items.changes import CHANGES, check_calibration
from ae_search.index.items.changes_writer import ChangesWriter
from ae_search.index.manifest import live_generation
from ae_search.index.store.following import changing
from ae_search.index.store.generation_writer import disk_errors
from ae_search.index.store.place import sole_writer
from ae_search.index.store.snapshot import Snapshot
from ae_search.nearest.comparing import checked_rows


@dataclass(frozen=True)
class Writing:
    """One transaction on an index whose lock is held; see `writing`.

    Args:
        snapshot: The index as it is before.
        changes: Where the changes go.
    """

    snapshot: Snapshot
    changes: ChangesWriter

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
        """Add items; see `LatentIndex.add`."""
        rows = list(checked_rows(latents, keys, self.snapshot.manifest.latent_dim))
        items = checked_items(keys, labels, metadata, thumbnails, digests)
        if source is not None:
            check_text(source, "Sources")
        if known := self.snapshot.ids_of(items.keys):
            raise ConfigurationError(
                f"The index has an item {next(iter(known))!r} already; update it, or remove it first."
            )
        self.changes.add(items, rows)
        if source is not None:
            self.changes.add_source(source)

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
        """Change items; see `LatentIndex.update`."""
        given = checked_items(keys, labels, metadata, thumbnails, digests)
        ids = self._ids(given.keys)
        names = self.snapshot.names(ids)
        if latents is None:
            rows: Sequence[Latents] = self.snapshot.all_latents(ids)
        else:
            rows = list(checked_rows(latents, keys, self.snapshot.manifest.latent_dim))
        items = Items(
            given.keys,
            [label for _, label, _ in names] if labels is None else given.labels,
            [stored for _, _, stored in names] if metadata is None else given.metadata,
            [self.snapshot.thumbnail(item) for item in ids] if thumbnails is None else given.thumbnails,
            self.snapshot.digests(ids) if digests is None else given.digests,
        )
        self.changes.remove(ids)
        self.changes.add(items, rows)

    def remove(self, keys: Sequence[str]) -> None:
        """Take items out; see `LatentIndex.remove`."""
        self.changes.remove(self._ids(checked_items(keys).keys))

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store what was measured about the latents; see `LatentIndex.calibrate`."""
        check_calibration(name, values)
        self.changes.calibrate(name, values)

    def _ids(self, keys: Sequence[str]) -> list[int]:
        found = self.snapshot.ids_of(keys)
        missing = [key for key in keys if key not in found]
        if missing:
            more = f", and {len(missing) - 1} more" if missing[1:] else ""
            raise ConfigurationError(f"The index has no item {missing[0]!r}{more}; nothing was changed.")
        return [found[key] for key in keys]


@contextmanager
def writing(path: Path, look: Callable[[], Snapshot], fingerprint: str | None, wait_s: float) -> Iterator[Writing]:
    """Hold the lock for one transaction, which every reader sees when this ends.

    Args:
        path: The index folder.
        look: Returns the newest state of the index.
        fingerprint: Fingerprint of the caller's model; None where it does not matter.
        wait_s: How long to wait for another writer, in s.

    Raises:
        IndexBusyError: Another process writes the index.
        ModelMismatchError: The index holds the latents of another model.
        ConfigurationError: The disk is full, or the folder cannot be written.
    """
    live_generation(path)
    with sole_writer(path, wait_s=wait_s):
        snapshot = look()
        model = snapshot.generation.manifest.model
        if fingerprint not in (None, model.fingerprint):
            raise ModelMismatchError(
                f"{path} holds latents of {model.name} version {model.version} by now; encode with that version, and "
                "open the index anew."
            )
        with disk_errors(path), closing(ChangesWriter(snapshot.generation.folder / CHANGES)) as changes:
            yield Writing(snapshot, changes)
            with changing(path):
                changes.commit()
