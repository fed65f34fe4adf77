"""Writing one generation: the catalogue and the names as a stream, then the forest, then the manifest."""

import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ae_search.contract import Items, Latents, Metadata, Resources, checked_items, metadata_json
from ae_search.errors import ConfigurationError
from ae_search.files import new_folder, trouble_in_words
from ae_search.index.engine import engine_of
from ae_search.index.engine.tuning import tune
from ae_search.index.items.catalogue import CATALOGUE, CatalogueWriter
from ae_search.index.items.changes import CHANGES, check_calibration
from ae_search.index.items.changes_writer import create_changes
from ae_search.index.items.names import NAMES, NamesWriter
from ae_search.index.items.owners import OWNERS, write_owners
from ae_search.index.manifest import BuildPlan, Manifest
from ae_search.index.options import BaseShape
from ae_search.index.store.place import make_live, next_generation
from ae_search.index.store.proof import describe_file, prove_written, proved_files
from ae_search.nearest.comparing import checked_rows

_SPILL = "latents.f32"


class GenerationWriter:
    """Writes one generation into a folder that nobody reads yet; blocks of items go in as a stream.

    Args:
        index: The index folder, for messages.
        folder: The folder, which is there and empty.
        plan: What to build to.
        resources: What the build may use of the machine.

    Attributes:
        manifest: The manifest, once it is finished.
        calibration: What was measured about the latents, to be kept beside them.
        seconds: How long the stages "catalogue", "base" and "tuning" took, in s.
    """

    manifest: Manifest

    def __init__(self, index: Path, folder: Path, plan: BuildPlan, resources: Resources) -> None:
        self.seconds: dict[str, float] = {"catalogue": 0.0}
        self.calibration: dict[str, Metadata] = {}
        self._index, self._folder, self._plan, self._resources = index, folder, plan, resources
        # Items that came together and have as many latents: how many items, and how many latents each.
        self._blocks: list[tuple[int, int]] = []
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
        complete, files = False, ExitStack()
        try:
            self._catalogue = CatalogueWriter(self._folder / CATALOGUE, self._plan.fields)
            files.callback(lambda: self._catalogue.close(commit=complete))
            self._names = files.enter_context(NamesWriter(self._folder / NAMES))
            self._spill = files.enter_context((self._folder / _SPILL).open("wb"))
            yield
        except BaseException:
            # Closing writes out what buffers hold: on a full disk that fails as well, and would hide the first error.
            with suppress(OSError, sqlite3.OperationalError):
                files.__exit__(*sys.exc_info())
            raise
        complete = True
        files.close()

    def add(
        self,
        latents: npt.ArrayLike,
        keys: Sequence[str],
        labels: Sequence[str | None] | None = None,
        *,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        digests: Sequence[str | None] | None = None,
    ) -> None:
        """Add a block of items, all of them or none; see `IndexWriter.add`."""
        rows = checked_rows(latents, keys, self._plan.latent_dim)
        self.add_items(rows, checked_items(keys, labels, metadata, thumbnails, digests))

    def add_items(self, latents: Latents, items: Items) -> None:
        """Append checked items, all of them or none; latents are float32 `[n, r, d]` and finite.

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
            self._names.add(zip(items.keys, items.labels, items.metadata, strict=True))
            self.seconds["catalogue"] += time.perf_counter() - start
            self._spill.write(latents.tobytes())
        self._items += len(items)
        self._blocks.append((len(items), latents.shape[1]))
        self._is_broken = False

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store something about the latents beside them; see `Index.calibrate`."""
        check_calibration(name, values)
        metadata_json(name, values)
        self.calibration[name] = values

    def finish(self) -> None:
        """Grow and measure the base, and write the manifest."""
        if self._is_broken:
            raise ConfigurationError(f"Cannot write the index {self._index}: a write failed.")
        folder, plan = self._folder, self._plan
        engine = engine_of(plan.engine)
        shape = BaseShape(sum(count * each for count, each in self._blocks), plan.latent_dim, plan.metric)
        rows = np.empty((0, plan.latent_dim), np.float32)
        if shape.latents:
            rows = np.memmap(folder / _SPILL, np.float32, "r", shape=(shape.latents, plan.latent_dim))
        start = time.perf_counter()
        base = engine.grow(
            folder / engine.file, np.asarray(rows), shape, plan.engine, seed=plan.seed, resources=self._resources
        )
        grown = time.perf_counter()
        chosen, curve = tune(base, plan.engine, recall=plan.target_recall, seed=plan.seed)
        self.seconds |= {"base": grown - start, "tuning": time.perf_counter() - grown}
        (folder / _SPILL).unlink()
        most = max((each for _, each in self._blocks), default=1)
        if most > 1:
            write_owners(folder / OWNERS, self._blocks)
        self._describe(
            Manifest(
                **vars(plan),
                effort=chosen.effort,
                recall=chosen.recall,
                recall_curve=curve,
                items=self._items,
                latents=shape.latents,
                most_latents=most,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )

    def _describe(self, manifest: Manifest) -> None:
        """Write the manifest, with the digests of all files."""
        folder = self._folder
        files = {name: describe_file(folder / name) for name in proved_files(manifest)}
        create_changes(folder / CHANGES, self._items, files, self.calibration)
        self.manifest = replace(manifest, files=files)
        self.manifest.write(folder)
        Manifest.read(folder)  # what cannot be read again must not go live
        # Open readers follow without reading all of it again first.
        prove_written(folder, self.manifest)


@contextmanager
def new_generation(index: Path, plan: BuildPlan, resources: Resources) -> Iterator[GenerationWriter]:
    """Yield a writer; when the block ends without an error, what it wrote becomes the live generation.

    The caller holds the index's lock.

    Raises:
        ConfigurationError: The disk is full.
    """
    callers_turn = False
    try:
        folder = next_generation(index)
        with new_folder(folder) as temporary:
            writer = GenerationWriter(index, temporary, plan, resources)
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
    return ConfigurationError(f"Cannot write the index {index}: {trouble_in_words(error)}.")
