"""Changes to an index: one writer at a time, each change whole or not at all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy.typing as npt

from ae_search.contract import ModelRef
from ae_search.errors import ConfigurationError, IndexDamagedError, ModelMismatchError
from ae_search.index.builder import Origin, checked_rows
from ae_search.index.items.catalogue import KeyTwiceError
from ae_search.index.items.changes import CHANGES, ChangesWriter
from ae_search.index.items.checking import Items, Metadata
from ae_search.index.search.tuning import tune
from ae_search.index.store.epoch import changing
from ae_search.index.store.generation import Generation, Snapshot
from ae_search.index.store.generation_writer import ALL_CORES, GenerationWriter, disk_errors, new_generation
from ae_search.index.store.manifest import Manifest, live_generation
from ae_search.index.store.place import sole_writer


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
        source: str | None,
    ) -> None:
        """Add items; see `LatentIndex.add`."""
        rows = checked_rows(latents, keys, self.snapshot.generation.manifest.latent_dim)
        items = Items.checked(keys, labels, metadata, thumbnails)
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
    ) -> None:
        """Change items; see `LatentIndex.update`."""
        given = Items.checked(keys, labels, metadata, thumbnails)
        ids = self._ids(given.keys)
        names = self.snapshot.names(ids)
        if latents is None:
            rows = self.snapshot.latents(ids)
        else:
            rows = checked_rows(latents, keys, self.snapshot.generation.manifest.latent_dim)
        items = Items(
            given.keys,
            [label for _, label, _ in names] if labels is None else given.labels,
            [stored for _, _, stored in names] if metadata is None else given.metadata,
            [self.snapshot.thumbnail(item) for item in ids] if thumbnails is None else given.thumbnails,
        )
        self.changes.remove(ids)
        self.changes.add(items, rows)

    def remove(self, keys: Sequence[str]) -> None:
        """Take items out; see `LatentIndex.remove`."""
        self.changes.remove(self._ids(Items.checked(keys).keys))

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


def compact(
    path: Path,
    *,
    jobs: int = ALL_CORES,
    on_disk: bool | None = None,
    wait_s: float = 0.0,
    on_progress: Callable[[int], object] = lambda items: None,
) -> Manifest:
    """Fold all changes into a new generation; see `LatentIndex.compact`.

    Returns:
        The manifest of the live generation, the old one where there was nothing to fold.
    """
    live_generation(path)
    with sole_writer(path, wait_s=wait_s):
        old = _open(path)
        if not len(old.delta) and not old.delta.removed_count:
            return old.generation.manifest
        recipe = old.generation.manifest.recipe(sources=old.sources())
        with _its_own_items(path), new_generation(path, recipe, jobs=jobs, on_disk=on_disk) as writer:
            for latents, items in old.blocks():
                writer.add(latents, items)
                on_progress(len(items))
        return writer.manifest


@contextmanager
def rebuilding(
    path: Path, card: Origin, *, jobs: int = ALL_CORES, on_disk: bool | None = None, wait_s: float = 0.0
) -> Iterator[tuple[Snapshot, GenerationWriter]]:
    """Yield the items of an index and a writer for their latents by another model.

    The old generation answers until the block ends without an error; then one rename makes the new one live.

    Raises:
        IndexBusyError: Another process writes the index.
        ConfigurationError: The disk is full.
    """
    live_generation(path)
    with sole_writer(path, wait_s=wait_s):
        old = _open(path)
        recipe = old.generation.manifest.recipe(
            model=ModelRef(card.name, card.version, card.fingerprint),
            image_shape=card.image_shape,
            latent_dim=card.latent_dim,
            metric=card.metric,
            sources=old.sources(),
        )
        with _its_own_items(path), new_generation(path, recipe, jobs=jobs, on_disk=on_disk) as writer:
            yield old, writer


def tune_again(path: Path, recall: float | None = None, *, wait_s: float = 0.0) -> Manifest:
    """Measure recall again and choose `effort` anew; see `LatentIndex.tune`."""
    if recall is not None and not 0.0 < recall <= 1.0:
        raise ValueError(f"Expected recall in (0, 1]. Received: {recall}.")
    live_generation(path)
    with sole_writer(path, wait_s=wait_s):
        generation = Generation(live_generation(path))
        old = generation.manifest
        target = old.target_recall if recall is None else recall
        chosen, curve = tune(generation.forest, recall=target, n_trees=old.n_trees, seed=old.seed)
        manifest = replace(old, target_recall=target, effort=chosen.effort, recall=chosen.recall, recall_curve=curve)
        with disk_errors(path), changing(path):
            manifest.write(generation.folder)
        return manifest


@contextmanager
def _its_own_items(path: Path) -> Iterator[None]:
    """Tell a key that comes twice as damage, where the items are those of an index."""
    try:
        yield
    except KeyTwiceError as error:
        raise IndexDamagedError(f"{path} is damaged ({error}) Restore it or build it anew.") from error


def _open(path: Path) -> Snapshot:
    generation = Generation(live_generation(path))
    return Snapshot(generation, generation.changes.first(), b"")
