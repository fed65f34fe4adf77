"""An index on Milvus as its users hold it: search, look up, change; any number of machines at once."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from ae_search.calibration import alike_of, stored
from ae_search.contract import (
    Check,
    DuplicateGroup,
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
    parse_where,
)
from ae_search.errors import NotSupportedError
from ae_search.nearest.alike import groups_of_alike
from ae_search.nearest.comparing import checked_latents
from ae_search.remote_index.asking import check_counts
from ae_search.remote_index.figures import renamed_sources
from ae_search.remote_index.health import Health
from ae_search.remote_index.manifest import check_model
from ae_search.remote_index.milvus.generations import GenerationWriter
from ae_search.remote_index.milvus.looking_up import LookUps
from ae_search.remote_index.milvus.options import MilvusOptions
from ae_search.remote_index.milvus.place import Consistency, MilvusPlace
from ae_search.remote_index.milvus.reading import Reader
from ae_search.remote_index.milvus.searching import Search
from ae_search.remote_index.milvus.server import Server
from ae_search.remote_index.milvus.state import State
from ae_search.remote_index.milvus.upkeep.duplicates import LiveItems
from ae_search.remote_index.milvus.upkeep.generations import compact, rebuilding, tune_again
from ae_search.remote_index.milvus.upkeep.health import health
from ae_search.remote_index.milvus.upkeep.info import info
from ae_search.remote_index.milvus.upkeep.verify import verify
from ae_search.remote_index.milvus.writing import Change, changing
from ae_search.remote_index.rows import blocks_of

_ALL_THERE_IS = Resources()
_ITEMS_PER_BLOCK = 1024


class MilvusIndex:
    """The `Index` on a Milvus.

    It is safe to share between threads, and goes on with a connection of its own after a fork. A pickle of it holds its
    URL without the password, which the other process must know by itself: from `AE_SEARCH_MILVUS_TOKEN`. What each
    method takes, returns and raises is said once, by `Index`; docs/guide/milvus.md has a table of what Milvus does
    otherwise.

    Args:
        place: The index.

    Raises:
        ConfigurationError: There is no index, or one of another format.
        ServerUnavailableError: The server cannot be reached.
        AccessDeniedError: The user may not read it.
    """

    def __init__(self, place: MilvusPlace) -> None:
        self._at = place
        self._server = Server(place)
        self._reader = Reader(place, self._server)
        self._look_ups = LookUps(place, self._reader)
        try:
            self._expected = self._reader.state().manifest.model.fingerprint
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Pickle and copy to the URL, without its password."""
        return _opened, (self._at.name,)

    def close(self) -> None:
        """End the connection; a second time does nothing."""
        self._server.close()

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
        return self._reader.newest_state().items

    def __contains__(self, key: str) -> bool:
        """Tell whether the index has a key."""
        return bool(self.known([key]))

    @property
    def place(self) -> str:
        """The URL of the index without its password."""
        return self._at.name

    @property
    def model(self) -> ModelRef:
        """The model whose latents the index holds by now."""
        return self._reader.newest_state().manifest.model

    @property
    def latent_dim(self) -> int:
        """Floats in one latent."""
        return self._reader.newest_state().manifest.latent_dim

    @property
    def metric(self) -> Metric:
        """Distance that latents are compared with."""
        return self._reader.newest_state().manifest.metric

    def health(self) -> list[Health]:
        """Look at the server, at what is loaded, and at what a read costs at each level of consistency."""
        return health(self._server, self._at, self._reader.newest_state())

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
        consistency: Consistency | None = None,
    ) -> list[list[Neighbour]]:
        """Find the items that are nearest to each latent `[n, d]`, or to one `[d]`; see `Index.search`.

        Args:
            latents: Float32 `[n, d]`, or one latent `[d]`.
            k: Neighbours for each latent.
            where: Conditions that an item must meet.
            effort: Milvus's `ef`; above 32,768, which is its most, every item is read and compared here.
            exact: Whether to read every item and to compare it here.
            fingerprint: Fingerprint of the model that the latents come from.
            first_latents: Whether an item counts by its first latent alone.
            consistency: "strong" to see all changes whose call has returned, "session" for those of this process,
                "bounded" for what is there without waiting. None: as the place says.
        """
        check_counts(k, effort)
        conditions = () if where is None else parse_where(where)

        def work(state: State, level: Consistency) -> list[list[Neighbour]]:
            check_model(state.manifest, fingerprint or self._expected, self._at.name)
            rows = checked_latents(latents, state.manifest.latent_dim)
            search = Search(self._server, self._reader, state, level, k, effort, exact, conditions, first_latents)
            return search.run(rows)

        return self._reader.read(work, consistency)

    def search_by_key(
        self,
        key: str,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        first_latents: bool = False,
        consistency: Consistency | None = None,
    ) -> list[Neighbour]:
        """Find the items that are nearest to an indexed one, by its first latent, itself left out; see `search`."""
        check_counts(k, effort)
        conditions = () if where is None else parse_where(where)

        def work(state: State, level: Consistency) -> list[Neighbour]:
            own = self._look_ups.first_latent(state, level, key)
            search = Search(self._server, self._reader, state, level, k + 1, effort, exact, conditions, first_latents)
            others = [one for one in search.run(own)[0] if one.key != key][:k]
            return [one._replace(rank=rank) for rank, one in enumerate(others, start=1)]

        return self._reader.read(work, consistency)

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that the index has."""
        return self._look_ups.known(keys)

    def latents(self, keys: Sequence[str]) -> Latents:
        """Return the first latent of each key, float32 `[n, d]`."""
        return self._look_ups.latents(keys)

    def all_latents(self, keys: Sequence[str]) -> list[Latents]:
        """Return all latents of each key, float32 `[r, d]`."""
        return self._look_ups.all_latents(keys)

    def details(self, keys: Sequence[str]) -> list[tuple[str | None, dict[str, Any]]]:
        """Return label and metadata of some keys."""
        return self._look_ups.details(keys)

    def digests(self, keys: Sequence[str]) -> list[str | None]:
        """Return the digests of the content of some keys, None where an item has none."""
        return self._look_ups.digests(keys)

    def thumbnail(self, item: Neighbour | str) -> bytes | None:
        """Return the JPEG of a neighbour or key; None if it is unknown or has none."""
        return self._look_ups.thumbnail(item if isinstance(item, str) else item.key)

    def items(self) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Yield key, label and metadata of each item, by id.

        Raises:
            IndexBusyError: The index was changed before all of it was read.
        """
        for row in self._reader.stream():
            if row.at == 0:
                yield row.key, row.label, metadata_of(row.metadata)

    def keys(self, *, where: Where | None = None) -> list[str]:
        """Return the keys of all items, or of those that meet some conditions, by id."""
        return self._look_ups.keys(where)

    def labels(self) -> list[str | None]:
        """Return the labels of all items, by id."""
        return self._look_ups.labels()

    def blocks(self, *, thumbnails: bool = True) -> Iterator[tuple[Latents, Items]]:
        """Yield all items of one moment, by id, in blocks: their latents `[n, r, d]`, and what else they have.

        Raises:
            IndexBusyError: The index was changed before all of it was read: Milvus keeps no moment of the past.
        """
        return blocks_of(self._reader.stream(thumbnails=thumbnails), _ITEMS_PER_BLOCK)

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
        """Add items, all of them or none; and see `Index.add`."""
        with self._changing(wait_s) as change:
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
        with self._changing(wait_s) as change:
            change.update(
                keys, latents=latents, labels=labels, metadata=metadata, thumbnails=thumbnails, digests=digests
            )

    def remove(self, keys: Sequence[str], *, wait_s: float = 0.0) -> None:
        """Take items out, all of them or none; see `Index.remove`."""
        with self._changing(wait_s, any_model=True) as change:
            change.remove(keys)

    def calibration(self) -> dict[str, Any]:
        """Return what was measured about the latents and stored by `calibrate`, by name."""
        return {name: metadata_of(text) for name, text in sorted(self._reader.newest_state().calibration.items())}

    def calibrate(self, name: str, values: Metadata, *, wait_s: float = 0.0) -> None:
        """Store something that was measured about the latents; see `Index.calibrate`."""
        with self._changing(wait_s) as change:
            change.calibrate(name, values)

    def rename_source(self, old: str, new: str, *, wait_s: float = 0.0) -> None:
        """Tell that the images of a source have moved; see `Index.rename_source`."""
        with self._changing(wait_s, any_model=True) as change:
            change.describe(sources=renamed_sources(change.state.manifest.sources, old, new))

    def compact(
        self,
        resources: Resources = _ALL_THERE_IS,
        *,
        engine: str | None = None,
        fields: Sequence[str] | None = None,
        wait_s: float = 0.0,
        on_progress: OnItems = no_progress,
    ) -> None:
        """Write all items and their graph anew, by way of this machine; searches go on meanwhile.

        Raises:
            NotSupportedError: Another engine is asked for, or fields for filters to look up.
        """
        self._check_stays(engine, fields)
        compact(self._server, self._at, wait_s=wait_s, on_progress=on_progress)

    def _check_stays(self, engine: str | None, fields: Sequence[str] | None = None) -> None:
        if engine not in (None, MilvusOptions.engine) or fields is not None:
            raise NotSupportedError(
                f"{self.place} stays with Milvus, where filters look up no fields; export it, and import "
                "it where it shall go."
            )

    def warm(self) -> int:
        """Read nothing: the query nodes have the index in memory."""
        self._server.check_open()
        return 0

    def tune(self, recall: float | None = None, *, wait_s: float = 0.0) -> IndexInfo:
        """Measure recall again and choose the effort anew; see `Index.tune`."""
        tune_again(self._server, self._at, recall, wait_s=wait_s)
        return self.info()

    def rebuilding(
        self,
        model: Origin,
        resources: Resources = _ALL_THERE_IS,
        *,
        engine: str | None = None,
        wait_s: float = 0.0,
    ) -> AbstractContextManager[GenerationWriter]:
        """Yield a writer for all items anew, with latents of another model; see `Index.rebuilding`.

        Raises:
            NotSupportedError: Another engine is asked for.
        """
        self._server.check_open()
        self._check_stays(engine)
        return rebuilding(self._server, self._at, model, wait_s=wait_s)

    def info(self) -> IndexInfo:
        """Return the figures of this moment, and whether it is time to compact."""
        return info(self._server, self._reader.newest_state(), self._at.name)

    def verify(self) -> list[Check]:
        """Check what the index says of itself, its rows and its graph."""
        self._server.check_open()
        return verify(self._at)

    def duplicates(
        self, similarity: float | None = None, *, on_progress: OnItems = no_progress
    ) -> list[DuplicateGroup]:
        """Find groups of items that are almost the same, the largest first."""
        items = LiveItems(self._server, self._reader)
        alike = alike_of(similarity, stored(self) if similarity is None else None, several=items.has_several)
        return groups_of_alike(items, *alike, on_progress=on_progress)

    def export(self, path: str | Path, *, on_progress: OnItems = no_progress) -> int:
        """Write keys, labels, metadata and latents of all items to `*.parquet` or `*.jsonl`; return how many."""
        from ae_search.exchange import export_latents

        self._server.check_open()
        return export_latents(self, Path(path), on_progress=on_progress)

    def _changing(self, wait_s: float, *, any_model: bool = False) -> AbstractContextManager[Change]:
        return changing(self._server, self._at, None if any_model else self._expected, wait_s)


def _opened(name: str) -> MilvusIndex:
    return MilvusIndex(MilvusPlace.parse(name))
