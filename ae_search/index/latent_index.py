"""An index as its users hold it: search, look up, change; several processes at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy.typing as npt

from ae_search.calibration import stored
from ae_search.contract import (
    Check,
    DuplicateGroup,
    EncodeKeys,
    IndexInfo,
    Items,
    Latents,
    Metadata,
    Metric,
    ModelRef,
    Neighbour,
    OnItems,
    Origin,
    Resources,
    Where,
    metadata_of,
    no_progress,
)
from ae_search.errors import ConfigurationError, IndexDamagedError, ModelMismatchError
from ae_search.index.builder import IndexBuilder
from ae_search.index.manifest import Manifest
from ae_search.index.options import BuildOptions, engine_options
from ae_search.index.search.answers import neighbours
from ae_search.index.search.filters import filter_of
from ae_search.index.search.snapshot_search import SnapshotSearch
from ae_search.index.store.following import Follower
from ae_search.index.store.generation_writer import GenerationWriter
from ae_search.index.store.snapshot import Snapshot
from ae_search.index.store.writing import Writing, writing
from ae_search.index.upkeep.compacting import compact, rebuilding, tune_again
from ae_search.index.upkeep.info import info
from ae_search.nearest.comparing import checked_latents, checked_rows

Answer = TypeVar("Answer")

_ALL_THERE_IS = Resources()
_DEFAULT = BuildOptions()


class LatentIndex:
    """The local `Index`: a folder, opened for search and for changes.

    It is safe to share between threads, and to be opened anew after a fork. A pickle of it holds its path.
    A search sees every change whose call has returned, whichever process made it, and follows to a new generation by
    itself. If that one holds latents of another model, searches end with `ModelMismatchError` until the caller says,
    by `fingerprint`, that its latents come from that model. What each method takes, returns and raises is said once, by
    `Index`.

    Attributes:
        path: Folder of the index.
    """

    def __init__(self, path: str | Path) -> None:
        """Open an index; `open` is the same."""
        # Absolute: the process may change its working directory.
        self.path = Path(path).absolute()
        self._follower = Follower(self.path)
        self._expected = self.model.fingerprint

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the live generation of an index and check its files.

        Raises:
            ConfigurationError: `path` is no index, or one of another format.
            IndexDamagedError: A file is missing, cut short or altered.
        """
        return cls(path)

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        """Pickle and copy to the path."""
        return type(self), (self.path,)

    def close(self) -> None:
        """Let go of the files; a second time does nothing."""
        self._follower.close()

    def __enter__(self) -> Self:
        """Return the index."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the index."""
        self.close()

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._snapshot())

    def __contains__(self, key: str) -> bool:
        """Tell whether the index has a key."""
        return bool(self.known([key]))

    @property
    def place(self) -> str:
        """The folder of the index, for messages."""
        return str(self.path)

    @property
    def manifest(self) -> Manifest:
        """Manifest of the live generation."""
        return self._snapshot().manifest

    @property
    def model(self) -> ModelRef:
        """The model whose latents the index holds by now."""
        return self.manifest.model

    @property
    def latent_dim(self) -> int:
        """Floats in one latent."""
        return self.manifest.latent_dim

    @property
    def metric(self) -> Metric:
        """Distance that latents are compared with."""
        return self.manifest.metric

    def search(
        self,
        latents: npt.ArrayLike,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        fingerprint: str | None = None,
        first_latents: bool = False,
    ) -> list[list[Neighbour]]:
        """Find the items that are nearest to each latent `[n, d]`, or to one `[d]`; see `Index.search`.

        Many latents are searched on all cores. The tuned effort grows with k beyond 10.

        Raises:
            IndexDamagedError: A file cannot be read.
        """
        if k < 1 or (effort is not None and effort < 1):
            raise ValueError(f"Expected k and effort of at least 1. Received: k={k}, effort={effort}.")
        snapshot = self._snapshot()
        manifest = snapshot.manifest
        if manifest.model.fingerprint != (fingerprint or self._expected):
            raise self._other_model(manifest.model, fingerprint or self._expected)
        rows = checked_latents(latents, manifest.latent_dim)
        chosen = filter_of(snapshot, where, first_latents=first_latents)
        search = SnapshotSearch(snapshot, k, effort, exact=exact, filter=chosen)
        return search.run(rows, partial(neighbours, snapshot))

    def search_by_key(
        self,
        key: str,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        first_latents: bool = False,
    ) -> list[Neighbour]:
        """Find the items that are nearest to an indexed one, by its first latent, itself left out."""
        if k < 1 or (effort is not None and effort < 1):
            raise ValueError(f"Expected k and effort of at least 1. Received: k={k}, effort={effort}.")
        snapshot = self._snapshot()
        own = self._ids(snapshot, [key])[0]
        chosen = filter_of(snapshot, where, first_latents=first_latents)
        search = SnapshotSearch(snapshot, k + 1, effort, exact=exact, filter=chosen)
        (found,) = search.found(snapshot.latents([own]))
        return neighbours(snapshot, [[row for row in found if row[1] != own][:k]])[0]

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that the index has."""
        return set(self._snapshot().ids_of(keys))

    def latents(self, keys: Sequence[str]) -> Latents:
        """Return the first latent of each key, float32 `[n, d]`."""
        snapshot = self._snapshot()
        return snapshot.latents(self._ids(snapshot, keys))

    def all_latents(self, keys: Sequence[str]) -> list[Latents]:
        """Return all latents of each key, float32 `[r, d]`."""
        snapshot = self._snapshot()
        return snapshot.all_latents(self._ids(snapshot, keys))

    def details(self, keys: Sequence[str]) -> list[tuple[str | None, dict[str, Any]]]:
        """Return label and metadata of some keys."""
        snapshot = self._snapshot()
        names = snapshot.names(self._ids(snapshot, keys))
        return [(label, metadata_of(metadata)) for _, label, metadata in names]

    def digests(self, keys: Sequence[str]) -> list[str | None]:
        """Return the digests of the content of some keys, None where an item has none."""
        snapshot = self._snapshot()
        return snapshot.digests(self._ids(snapshot, keys))

    def thumbnail(self, item: Neighbour | str) -> bytes | None:
        """Return the JPEG of a neighbour or key; None if it is unknown or has none."""

        def read(snapshot: Snapshot) -> bytes | None:
            number = snapshot.ids_of([item if isinstance(item, str) else item.key])
            return snapshot.thumbnail(next(iter(number.values()))) if number else None

        return self._read(read)

    def items(self) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Yield key, label and metadata of each item, by id."""
        snapshot = self._snapshot()
        for ids in snapshot.live_ids():
            for key, label, metadata in snapshot.names(ids):
                yield key, label, metadata_of(metadata)

    def keys(self, *, where: Where | None = None) -> list[str]:
        """Return the keys of all items, or of those that meet some conditions, by id."""
        snapshot = self._snapshot()
        chosen = filter_of(snapshot, where)
        ids = snapshot.live_ids() if chosen is None else chosen.live_ids()
        return [key for some in ids for key, _, _ in snapshot.names(some)]

    def labels(self) -> list[str | None]:
        """Return the labels of all items, by id."""
        snapshot = self._snapshot()
        return [label for ids in snapshot.live_ids() for _, label, _ in snapshot.names(ids)]

    def blocks(self, *, thumbnails: bool = True) -> Iterator[tuple[Latents, Items]]:
        """Yield all items of one moment, by id, in blocks: their latents `[n, r, d]`, and what else they have."""
        if not thumbnails:
            return self._snapshot().blocks(thumbnails=False)
        while True:
            # Those of added items now: whoever removes one takes its thumbnail along.
            snapshot, added = self._read(lambda snapshot: (snapshot, snapshot.added_thumbnails()))
            if self._snapshot() is snapshot:
                return snapshot.blocks(added=added)

    def add(
        self,
        latents: npt.ArrayLike,
        keys: Sequence[str],
        labels: Sequence[str | None] | None = None,
        *,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        digests: Sequence[str | None] | None = None,
        source: str | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """Add items, all of them or none; every reader sees them when this returns. See `Index.add`."""
        with self._writing(wait_s) as change:
            change.add(
                latents,
                keys,
                labels=labels,
                metadata=metadata,
                thumbnails=thumbnails,
                digests=digests,
                source=source,
            )

    def update(
        self,
        keys: Sequence[str],
        *,
        latents: npt.ArrayLike | None = None,
        labels: Sequence[str | None] | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        digests: Sequence[str | None] | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """Change items, all of them or none; what is not given stays as it is. See `Index.update`."""
        with self._writing(wait_s) as change:
            change.update(
                keys, latents=latents, labels=labels, metadata=metadata, thumbnails=thumbnails, digests=digests
            )

    def remove(self, keys: Sequence[str], *, wait_s: float = 0.0) -> None:
        """Take items out, all of them or none; no search returns them when this has returned."""
        with self._writing(wait_s, any_model=True) as change:
            change.remove(keys)

    def calibration(self) -> dict[str, Any]:
        """Return what was measured about the latents and stored by `calibrate`, by name."""
        return self._read(lambda snapshot: snapshot.generation.changes.calibration())

    def calibrate(self, name: str, values: Metadata, *, wait_s: float = 0.0) -> None:
        """Store something that was measured about the latents; see `Index.calibrate`."""
        with self._writing(wait_s) as change:
            change.calibrate(name, values)

    def rename_source(self, old: str, new: str, *, wait_s: float = 0.0) -> None:
        """Tell that the images of a source have moved; see `Index.rename_source`."""
        from ae_search.index.upkeep.sources import rename_source

        rename_source(self.path, old, new, wait_s=wait_s)

    def compact(
        self,
        resources: Resources = _ALL_THERE_IS,
        *,
        engine: str | None = None,
        fields: Sequence[str] | None = None,
        wait_s: float = 0.0,
        on_progress: OnItems = no_progress,
    ) -> None:
        """Fold all changes into a new generation; searches go on meanwhile, in every process. See `Index.compact`."""
        self._follower.check_open()
        options = None if engine is None else engine_options(engine)
        compact(self.path, resources, engine=options, fields=fields, wait_s=wait_s, on_progress=on_progress)

    def tune(self, recall: float | None = None, *, wait_s: float = 0.0) -> IndexInfo:
        """Measure recall again and choose the effort anew; see `Index.tune`."""
        self._follower.check_open()
        tune_again(self.path, recall, wait_s=wait_s)
        return self.info()

    def rebuilding(
        self,
        model: Origin,
        resources: Resources = _ALL_THERE_IS,
        *,
        engine: str | None = None,
        wait_s: float = 0.0,
    ) -> AbstractContextManager[GenerationWriter]:
        """Yield a writer for all items anew, with latents of another model; see `Index.rebuilding`."""
        self._follower.check_open()
        options = None if engine is None else engine_options(engine)
        return rebuilding(self.path, model, resources, engine=options, wait_s=wait_s)

    def rebuild(
        self,
        model: Origin,
        encode: EncodeKeys,
        resources: Resources = _ALL_THERE_IS,
        *,
        engine: str | None = None,
        wait_s: float = 0.0,
    ) -> IndexInfo:
        """Replace all latents by those of another model; searches go on meanwhile, then shake hands anew.

        Labels, metadata, thumbnails and digests stay. `indexing.rebuild` does the same from the images' sources.

        Args:
            model: What the new latents come from, such as a `ModelCard`.
            encode: Returns the latents of n keys in their order, float32 `[n, d]` or `[n, r, d]`.
            resources: What the build may use of the machine.
            engine: As in `compact`.
            wait_s: How long to wait for another writer, in s.

        Raises:
            IndexBusyError: Another process writes the index.
            ConfigurationError: The disk is full, or there is no such engine.
            ValueError: The latents are of another number or size, or not finite.
        """
        with self.rebuilding(model, resources, engine=engine, wait_s=wait_s) as writer:
            for _, items in self.blocks():
                writer.add_items(checked_rows(encode(list(items.keys)), items.keys, model.latent_dim), items)
        return self.info()

    def info(self) -> IndexInfo:
        """Return the figures of this moment, and whether it is time to compact."""
        return self._read(partial(info, self.path))

    def warm(self) -> int:
        """Read what searches need into memory, where the disk is slow; return how many bytes."""
        from ae_search.index.upkeep.warm import warm

        return self._read(warm)

    def verify(self) -> list[Check]:
        """Check all that opening takes on trust once it was proved."""
        from ae_search.index.upkeep.verify import verify

        self._follower.check_open()
        return verify(self.path)

    def duplicates(
        self, similarity: float | None = None, *, on_progress: OnItems = no_progress
    ) -> list[DuplicateGroup]:
        """Find groups of items that are almost the same, the largest first."""
        from ae_search.index.upkeep.duplicates import find_duplicates

        calibration = stored(self) if similarity is None else None
        return find_duplicates(self._snapshot(), similarity, calibration, on_progress=on_progress)

    def export(self, path: str | Path, *, on_progress: OnItems = no_progress) -> int:
        """Write keys, labels, metadata and latents of all items to `*.parquet` or `*.jsonl`; return how many."""
        from ae_search.exchange import export_latents

        return export_latents(self, Path(path), on_progress=on_progress)

    @classmethod
    def import_(
        cls,
        source: str | Path,
        path: str | Path,
        options: BuildOptions = _DEFAULT,
        *,
        keys: str | Path | None = None,
        model: Origin | None = None,
        metric: Metric | None = None,
        on_progress: OnItems = no_progress,
    ) -> Self:
        """Build an index of latents that are in a file, and open it; see `exchange.import_latents`.

        Args:
            source: `*.parquet`, a folder of such files, or `*.npy` with an array `[n, d]`.
            path: Folder of the index.
            options: How it is built.
            keys: Text file with one key a line, for `*.npy`; without it the keys are the row numbers.
            model: The model that they come from; None for what an export of ours says of itself.
            metric: Distance to compare them with; None: the model's, else "angular".
            on_progress: Called with the number of rows done since the last call.

        Raises:
            ConfigurationError: The file is of another kind or malformed, or the folder cannot take an index.
            ModelMismatchError: The file names another model.
            ValueError: A latent is not finite or the rows are of unequal size.
        """
        from ae_search.exchange import import_latents

        import_latents(
            Path(source),
            lambda origin: IndexBuilder(path, origin, options),
            keys=None if keys is None else Path(keys),
            model=model,
            metric=metric,
            on_progress=on_progress,
        )
        return cls(path)

    def _snapshot(self) -> Snapshot:
        return self._follower.snapshot()

    def _read(self, read: Callable[[Snapshot], Answer]) -> Answer:
        """Return what is read of the newest state: again, where a writer has removed its files meanwhile."""
        while True:
            snapshot = self._snapshot()
            try:
                return read(snapshot)
            except IndexDamagedError:
                if self._snapshot() is snapshot:
                    raise

    def _writing(self, wait_s: float, *, any_model: bool = False) -> AbstractContextManager[Writing]:
        return writing(self.path, self._follower.look, None if any_model else self._expected, wait_s)

    def _ids(self, snapshot: Snapshot, keys: Sequence[str]) -> list[int]:
        found = snapshot.ids_of(keys)
        if missing := [key for key in keys if key not in found]:
            raise ConfigurationError(f"{self.path} has no item {missing[0]!r}.")
        return [found[key] for key in keys]

    def _other_model(self, model: ModelRef, wanted: str) -> ModelMismatchError:
        return ModelMismatchError(
            f"{self.path} holds latents of {model.name} version {model.version} (fingerprint {model.fingerprint[:12]}) "
            f"by now, not of the model with fingerprint {wanted[:12]}; encode with that one and open the index anew."
        )
