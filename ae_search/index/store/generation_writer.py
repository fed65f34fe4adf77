"""Writing one generation: the catalogue and the names as a stream, then the forest, then the manifest."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ae_search.contract import Latents
from ae_search.errors import ConfigurationError
from ae_search.files import new_folder
from ae_search.index.engine.annoy import FOREST, Forest
from ae_search.index.items.catalogue import CATALOGUE, CatalogueWriter
from ae_search.index.items.changes import CHANGES, create_changes
from ae_search.index.items.checking import Items
from ae_search.index.items.names import NAMES, NamesWriter
from ae_search.index.search.tuning import tune
from ae_search.index.store.manifest import Manifest, Recipe
from ae_search.index.store.place import make_live, next_generation
from ae_search.index.store.proof import PROVED_FILES, describe_file, prove_written

_SPILL = "latents.f32"
ALL_CORES = -1


class GenerationWriter:
    """Writes one generation into a folder that nobody reads yet; blocks of items go in as a stream.

    Args:
        index: The index folder, for messages.
        folder: The folder, which is there and empty.
        recipe: What to build to.
        jobs: Threads that grow the forest, -1 for all cores.
        on_disk: Whether Annoy builds within the file; None where memory does not suffice.

    Attributes:
        manifest: The manifest, once it is finished.
        seconds: How long the stages "catalogue", "forest" and "tuning" took, in s.
    """

    manifest: Manifest

    def __init__(self, index: Path, folder: Path, recipe: Recipe, *, jobs: int, on_disk: bool | None) -> None:
        self.seconds: dict[str, float] = {"catalogue": 0.0}
        self._index, self._folder, self._recipe, self._jobs, self._on_disk = index, folder, recipe, jobs, on_disk
        self._items = 0
        self._is_broken = False
        self._catalogue: CatalogueWriter
        self._names: NamesWriter
        self._spill: BinaryIO

    def __len__(self) -> int:
        return self._items

    @contextmanager
    def inputs(self) -> Iterator[None]:
        """Hold the files open that `add` writes to."""
        with ExitStack() as files:
            self._catalogue = CatalogueWriter(self._folder / CATALOGUE)
            complete = False
            files.callback(lambda: self._catalogue.close(commit=complete))
            self._names = files.enter_context(NamesWriter(self._folder / NAMES))
            self._spill = files.enter_context((self._folder / _SPILL).open("wb"))
            yield
            complete = True

    def add(self, latents: Latents, items: Items) -> None:
        """Append items, all of them or none; latents are float32 `[n, d]` and finite.

        Raises:
            ConfigurationError: A key is there already, or the disk is full.
        """
        if self._is_broken:
            raise ConfigurationError(f"Cannot write the index {self._index}: an earlier write failed.")
        self._is_broken = True
        with disk_errors(self._index):
            start = time.perf_counter()
            try:
                self._catalogue.add(self._items, items)
            except ConfigurationError:  # a key that is there already: nothing was written
                self._is_broken = False
                raise
            self._names.add(items.names())
            self.seconds["catalogue"] += time.perf_counter() - start
            self._spill.write(latents.tobytes())
        self._items += len(items)
        self._is_broken = False

    def finish(self) -> None:
        """Grow and measure the forest, and write the manifest."""
        if self._is_broken:
            raise ConfigurationError(f"Cannot write the index {self._index}: a write failed.")
        folder, recipe = self._folder, self._recipe
        rows = np.empty((0, recipe.latent_dim), np.float32)
        if self._items:
            rows = np.memmap(folder / _SPILL, np.float32, "r", shape=(self._items, recipe.latent_dim))
        start = time.perf_counter()
        forest = Forest.grow(
            folder / FOREST,
            np.asarray(rows),
            recipe.metric,
            n_trees=recipe.n_trees,
            seed=recipe.seed,
            jobs=self._jobs,
            on_disk=self._on_disk,
        )
        grown = time.perf_counter()
        chosen, curve = tune(forest, recall=recipe.target_recall, n_trees=recipe.n_trees, seed=recipe.seed)
        self.seconds |= {"forest": grown - start, "tuning": time.perf_counter() - grown}
        (folder / _SPILL).unlink()
        files = {name: describe_file(folder / name) for name in PROVED_FILES}
        create_changes(folder / CHANGES, self._items, files)
        self.manifest = Manifest(
            **vars(recipe),
            effort=chosen.effort,
            recall=chosen.recall,
            recall_curve=curve,
            items=self._items,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files=files,
        )
        self.manifest.write(folder)
        Manifest.read(folder)  # what cannot be read again must not go live
        # Open readers follow without reading all of it again first.
        prove_written(folder, self.manifest)


@contextmanager
def new_generation(
    index: Path, recipe: Recipe, *, jobs: int = ALL_CORES, on_disk: bool | None = None
) -> Iterator[GenerationWriter]:
    """Yield a writer; when the block ends without an error, what it wrote becomes the live generation.

    The caller holds the index's lock.

    Raises:
        ConfigurationError: The disk is full.
    """
    callers_turn = False
    try:
        folder = next_generation(index)
        with new_folder(folder) as temporary:
            writer = GenerationWriter(index, temporary, recipe, jobs=jobs, on_disk=on_disk)
            with writer.inputs():
                callers_turn = True
                yield writer
                callers_turn = False
            writer.finish()
        make_live(folder)
    except (OSError, sqlite3.OperationalError) as error:
        if callers_turn:
            raise
        raise cannot_write(index, error) from error


@contextmanager
def disk_errors(index: Path) -> Iterator[None]:
    """Tell a full or broken disk as an error of ours."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise cannot_write(index, error) from error


def cannot_write(index: Path, error: Exception) -> ConfigurationError:
    """Return the error to raise for one of the file system or of SQLite."""
    return ConfigurationError(f"Cannot write the index {index}: {error}.")
