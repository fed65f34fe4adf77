"""An index as its users hold it: search, look up, change; several processes at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, Metric, ModelRef
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.index.build import Origin
from ae_search.index.comparing import checked_latents, queries
from ae_search.index.filters import filter_of
from ae_search.index.following import Follower
from ae_search.index.generation import Snapshot
from ae_search.index.items import Metadata
from ae_search.index.manifest import Manifest
from ae_search.index.names import metadata_of
from ae_search.index.neighbour import Neighbour, neighbours
from ae_search.index.searching import Search
from ae_search.index.tuning import TUNED_K
from ae_search.index.where import Where
from ae_search.index.writing import Writing, compact, rebuilding, tune_again, writing

if TYPE_CHECKING:
    from ae_search.index.duplicates import DuplicateGroup
    from ae_search.index.info import IndexInfo
    from ae_search.index.verify import Check


class LatentIndex:
    """An index opened for search and for changes; safe to share between threads, to be opened anew after a fork.

    A search sees every change whose call has returned, whichever process made it, and follows to a new generation by
    itself. If that one holds latents of another model, searches end with `ModelMismatchError` until the caller says,
    by `fingerprint`, that its latents come from that model.

    Attributes:
        path: Folder of the index.
        snapshot: Returns the state of this moment, which stays as it is whatever is written.
    """

    def __init__(self, path: str | Path) -> None:
        """Open an index; `open` is the same."""
        # Absolute: the process may change its working directory.
        self.path = Path(path).absolute()
        self._follower = Follower(self.path)
        self.snapshot = self._follower.snapshot
        self._expected = self.model.fingerprint

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the live generation of an index and check its files.

        Raises:
            ConfigurationError: `path` is no index, or one of another format.
            IndexDamagedError: A file is missing, cut short or altered.
        """
        return cls(path)

    def close(self) -> None:
        """Let go of the files; a second time does nothing."""
        self._follower.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.snapshot())

    def __contains__(self, key: str) -> bool:
        return bool(self.known([key]))

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that the index has."""
        return set(self.snapshot().ids_of(keys))

    @property
    def manifest(self) -> Manifest:
        """Manifest of the live generation."""
        return self.snapshot().manifest

    @property
    def place(self) -> str:
        """Where the index is, for messages: its folder."""
        return str(self.path)

    @property
    def model(self) -> ModelRef:
        """The model whose latents the index holds."""
        return self.manifest.model

    def search(
        self,
        latents: npt.ArrayLike,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        fingerprint: str | None = None,
    ) -> list[list[Neighbour]]:
        """Find the items that are nearest to each latent; many latents are searched on all cores.

        Args:
            latents: Float32 `[n, d]`, or one latent `[d]`.
            k: Neighbours for each latent, at least 1; an index with fewer items returns all of them.
            where: Conditions that an item must meet, such as `{"label": "Bag", "price": {"lt": 20}}`; see
                `compile_where`. k items come back whenever k meet them.
            effort: Candidates to look at. None takes the manifest's tuned figure, which for more than 10
                neighbours grows with k.
            exact: Whether to compare with every item instead of asking the forest.
            fingerprint: Fingerprint of the model that the latents come from. None: the one that the index had when it
                was opened.

        Returns:
            One list for each latent, nearest first, equal distances by id.

        Raises:
            ValueError: `k` or `effort` is below 1, the latents are of another size or not finite, or `where` is
                malformed.
            ModelMismatchError: The index holds the latents of another model by now.
            IndexDamagedError: A file cannot be read.
        """
        if k < 1 or (effort is not None and effort < 1):
            raise ValueError(f"Expected k and effort of at least 1. Received: k={k}, effort={effort}.")
        snapshot = self.snapshot()
        manifest = snapshot.manifest
        if manifest.model.fingerprint != (fingerprint or self._expected):
            raise self._other_model(manifest.model, fingerprint or self._expected)
        one = len(shape := latents.shape if isinstance(latents, np.ndarray) else np.shape(latents)) == 1
        if (one or shape[:1] == (1,)) and snapshot.is_forest and k <= TUNED_K and where is None and not exact:
            # The common case without what the others need, which would cost half as much again as all the rest.
            (query,) = queries(latents, manifest.latent_dim)
            k, effort = min(k, manifest.items), effort or manifest.effort
            return [neighbours(snapshot, snapshot.generation.forest.nearest(query, k, effort))]
        rows = checked_latents(latents, manifest.latent_dim)
        chosen = None if where is None else filter_of(snapshot, where)
        search = Search(snapshot, k, effort, exact=exact, filter=chosen)
        return search.run(rows, lambda found: neighbours(snapshot, found))

    def search_by_key(
        self, key: str, k: int = 10, *, where: Where | None = None, effort: int | None = None, exact: bool = False
    ) -> list[Neighbour]:
        """Find the items that are nearest to an indexed one, itself left out.

        Args:
            key: Key of the item.
            k: Neighbours, at least 1.
            where: As in `search`.
            effort: As in `search`.
            exact: As in `search`.

        Raises:
            ConfigurationError: The index has no such key.
            ValueError: As in `search`.
        """
        if k < 1:
            raise ValueError(f"Expected k of at least 1. Received: k={k}.")
        snapshot = self.snapshot()
        own = self._ids(snapshot, [key])[0]
        chosen = None if where is None else filter_of(snapshot, where)
        (found,) = Search(snapshot, k + 1, effort, exact=exact, filter=chosen).found(snapshot.latents([own]))
        return neighbours(snapshot, [row for row in found if row[1] != own][:k])

    def latents(self, keys: Sequence[str]) -> Latents:
        """Return the latents of some keys, float32 `[n, d]`.

        Raises:
            ConfigurationError: The index lacks a key.
        """
        snapshot = self.snapshot()
        return snapshot.latents(self._ids(snapshot, keys))

    def details(self, keys: Sequence[str]) -> list[tuple[str | None, dict[str, Any]]]:
        """Return label and metadata of some keys.

        Raises:
            ConfigurationError: The index lacks a key.
        """
        snapshot = self.snapshot()
        names = snapshot.names(self._ids(snapshot, keys))
        return [(label, metadata_of(metadata)) for _, label, metadata in names]

    def thumbnail(self, item: Neighbour | str) -> bytes | None:
        """Return the JPEG of a neighbour or key; None if it is unknown or has none."""
        snapshot = self.snapshot()
        number = snapshot.ids_of([item if isinstance(item, str) else item.key])
        return snapshot.thumbnail(next(iter(number.values()))) if number else None

    def items(self) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Yield key, label and metadata of each item, by id."""
        snapshot = self.snapshot()
        for ids in snapshot.live_ids():
            for key, label, metadata in snapshot.names(ids):
                yield key, label, metadata_of(metadata)

    def labels(self) -> list[str | None]:
        """Return the labels of all items, by id."""
        snapshot = self.snapshot()
        return [label for ids in snapshot.live_ids() for _, label, _ in snapshot.names(ids)]

    def keys(self) -> list[str]:
        """Return the keys of all items, by id."""
        snapshot = self.snapshot()
        return [key for ids in snapshot.live_ids() for key, _, _ in snapshot.names(ids)]

    def add(
        self,
        latents: npt.ArrayLike,
        keys: Sequence[str],
        labels: Sequence[str | None] | None = None,
        *,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        source: str | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """Add items, all of them or none; every reader sees them when this returns.

        Args:
            latents: Float32 `[n, d]`, of the index's model.
            keys: n keys that the index does not have, each of at most 8 KiB as UTF-8.
            labels: n labels of at most 8 KiB, None where an item has none.
            metadata: n JSON objects of at most 1 MiB, None where an item has none.
            thumbnails: n JPEG files, None where an item has none.
            source: Name of the source that they come from.
            wait_s: How long to wait for another writer, in s.

        Raises:
            ConfigurationError: A key is there already, or the disk is full.
            IndexBusyError: Another process writes the index.
            ModelMismatchError: The index holds the latents of another model by now.
            ValueError: The latents do not fit or are not finite, or the lengths differ.
        """
        with self._writing(wait_s) as change:
            change.add(latents, keys, labels=labels, metadata=metadata, thumbnails=thumbnails, source=source)

    def update(
        self,
        keys: Sequence[str],
        *,
        latents: npt.ArrayLike | None = None,
        labels: Sequence[str | None] | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """Change items, all of them or none; what is not given stays as it is.

        Args:
            keys: n keys that the index has.
            latents: Float32 `[n, d]`.
            labels: n labels.
            metadata: n JSON objects; each replaces the whole of what the item had.
            thumbnails: n JPEG files.
            wait_s: How long to wait for another writer, in s.

        Raises:
            ConfigurationError: The index lacks a key, or a key occurs twice.
            IndexBusyError: Another process writes the index.
            ModelMismatchError: The index holds the latents of another model by now.
            ValueError: The latents do not fit or are not finite, or the lengths differ.
        """
        with self._writing(wait_s) as change:
            change.update(keys, latents=latents, labels=labels, metadata=metadata, thumbnails=thumbnails)

    def remove(self, keys: Sequence[str], *, wait_s: float = 0.0) -> None:
        """Take items out, all of them or none; no search returns them when this has returned.

        Args:
            keys: Keys that the index has.
            wait_s: How long to wait for another writer, in s.

        Raises:
            ConfigurationError: The index lacks a key, or a key occurs twice.
            IndexBusyError: Another process writes the index.
        """
        with self._writing(wait_s, any_model=True) as change:
            change.remove(keys)

    def compact(self, *, jobs: int = -1, on_disk: bool | None = None, wait_s: float = 0.0) -> None:
        """Fold all changes into a new generation; searches go on meanwhile, in every process.

        Args:
            jobs: Threads that grow the forest, -1 for all cores.
            on_disk: As in `IndexBuilder`.
            wait_s: How long to wait for another writer, in s.

        Raises:
            IndexBusyError: Another process writes the index.
            ConfigurationError: The disk is full.
        """
        compact(self.path, jobs=jobs, on_disk=on_disk, wait_s=wait_s)

    def tune(self, recall: float | None = None, *, wait_s: float = 0.0) -> Manifest:
        """Measure recall again and choose `effort` anew.

        Args:
            recall: Share of the 10 true neighbours that a query shall find, in (0, 1]; None for the one asked last.
            wait_s: How long to wait for another writer, in s.

        Returns:
            The manifest with what was measured.

        Raises:
            ValueError: `recall` is out of range.
            IndexBusyError: Another process writes the index.
        """
        return tune_again(self.path, recall, wait_s=wait_s)

    def rebuild(
        self,
        model: Origin,
        encode: Callable[[list[str]], npt.ArrayLike],
        *,
        jobs: int = -1,
        on_disk: bool | None = None,
        wait_s: float = 0.0,
    ) -> Manifest:
        """Replace all latents by those of another model; searches go on meanwhile, then shake hands anew.

        Labels, metadata and thumbnails stay. `indexing.rebuild` does the same from the images' sources.

        Args:
            model: What the new latents come from, such as a `ModelCard`.
            encode: Returns the latents `[n, d]`, float32, of n keys in their order.
            jobs: Threads that grow the forest, -1 for all cores.
            on_disk: As in `IndexBuilder`.
            wait_s: How long to wait for another writer, in s.

        Returns:
            The manifest of the new generation.

        Raises:
            IndexBusyError: Another process writes the index.
            ConfigurationError: The disk is full.
            ValueError: The latents are of another number or size, or not finite.
        """
        with rebuilding(self.path, model, jobs=jobs, on_disk=on_disk, wait_s=wait_s) as (old, writer):
            for latents, items in old.blocks():
                rows = checked_latents(np.asarray(encode(list(items.keys))), model.latent_dim)
                if len(rows) != len(latents):
                    raise ValueError(f"Expected {len(latents)} latents, one for each key. Received: {len(rows)}.")
                writer.add(rows, items)
        return writer.manifest

    def info(self) -> "IndexInfo":
        """Return the figures of this moment, and whether it is time to compact."""
        from ae_search.index.info import info

        return info(self.path, self.snapshot())

    def verify(self) -> "list[Check]":
        """Check all that opening takes on trust; see `verify.verify`."""
        from ae_search.index.verify import verify

        return verify(self.path)

    def duplicates(self, similarity: float = 0.99) -> "list[DuplicateGroup]":
        """Find groups of items that are almost the same, the largest first.

        Args:
            similarity: Least cosine similarity of two items that count as almost the same, in (0, 1].

        Raises:
            ValueError: `similarity` is out of range.
        """
        from ae_search.index.duplicates import find_duplicates

        return find_duplicates(self.snapshot(), similarity)

    def export(self, path: str | Path) -> int:
        """Write keys and latents of all items to `*.parquet` or `*.jsonl`; return how many.

        Raises:
            ConfigurationError: The name has another ending, pyarrow is missing, or the file cannot be written.
        """
        from ae_search.index.exchange import export_latents

        return export_latents(self.snapshot(), Path(path))

    @classmethod
    def import_(
        cls,
        source: str | Path,
        path: str | Path,
        *,
        model: Origin | None = None,
        metric: Metric | None = None,
        replace: bool = False,
    ) -> Self:
        """Build an index of latents that are in a file, and open it; `exchange.import_latents` has more options.

        Args:
            source: `*.parquet`, a folder of such files, or `*.npy` with an array `[n, d]`.
            path: Folder of the index.
            model: The model that they come from; None for what an export of ours says of itself.
            metric: Distance to compare them with; None: the model's, else "angular".
            replace: Whether an existing index may be replaced.

        Raises:
            ConfigurationError: The file is of another kind or malformed, or the folder cannot take an index.
            ModelMismatchError: The file names another model.
            ValueError: A latent is not finite or the rows are of unequal size.
        """
        from ae_search.index.exchange import import_latents

        import_latents(Path(source), Path(path), model=model, metric=metric, replace=replace)
        return cls(path)

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
