"""An index on PostgreSQL as its users hold it: search, look up, change; any number of machines at once."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt
from psycopg import sql

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
from ae_search.errors import ConfigurationError, NotSupportedError
from ae_search.nearest.alike import groups_of_alike
from ae_search.nearest.comparing import checked_latents
from ae_search.remote_index.asking import check_counts
from ae_search.remote_index.health import Health
from ae_search.remote_index.manifest import check_model
from ae_search.remote_index.postgres.conditions import NOTHING, SqlCondition, compile_conditions
from ae_search.remote_index.postgres.connections import Connections, Session
from ae_search.remote_index.postgres.generations import GenerationWriter
from ae_search.remote_index.postgres.names import name_of
from ae_search.remote_index.postgres.options import HnswOptions
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.reading import Reader
from ae_search.remote_index.postgres.rows import latents_of
from ae_search.remote_index.postgres.searching import Search, WideFilters
from ae_search.remote_index.postgres.state import State
from ae_search.remote_index.postgres.upkeep.duplicates import LiveItems
from ae_search.remote_index.postgres.upkeep.generations import compact, rebuilding, rename_source, tune_again
from ae_search.remote_index.postgres.upkeep.health import health
from ae_search.remote_index.postgres.upkeep.info import info, replica_lag_s
from ae_search.remote_index.postgres.upkeep.verify import verify
from ae_search.remote_index.postgres.writing import Change, changing
from ae_search.remote_index.rows import blocks_of

_ALL_THERE_IS = Resources()
_ITEMS_PER_BLOCK = 1024


class PostgresIndex:
    """The `Index` in a database.

    It is safe to share between threads, and goes on with sessions of its own after a fork. A pickle of it holds its URL
    without the password, which the other process must know by itself: from `PGPASSWORD` or `~/.pgpass`. Reads are tried
    again where the server goes away and comes back, or where another of several servers answers. What each method
    takes, returns and raises is said once, by `Index`; a change on a replica is a `NotSupportedError`.

    Args:
        place: The index.

    Raises:
        ConfigurationError: There is no index, or one of another format.
        ServerUnavailableError: The server cannot be reached.
        AccessDeniedError: The role may not read it.
    """

    def __init__(self, place: PostgresPlace) -> None:
        self._at = place
        self._connections = Connections(place)
        self._reader = Reader(place, self._connections)
        self._wide = WideFilters()
        try:
            # In a session of its own, whose failure says most.
            with closing(self._connections.connect()) as session:
                self._expected = self._reader.first_state(session).manifest.model.fingerprint
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Pickle and copy to the URL, without its password."""
        return _opened, (self._at.name,)

    def close(self) -> None:
        """End all sessions; a second time does nothing."""
        self._connections.close()

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
        return self._reader.state().items

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
        return self._reader.state().manifest.model

    @property
    def latent_dim(self) -> int:
        """Floats in one latent."""
        return self._reader.state().manifest.latent_dim

    @property
    def metric(self) -> Metric:
        """Distance that latents are compared with."""
        return self._reader.state().manifest.metric

    @property
    def replica_lag_s(self) -> float | None:
        """How far behind its primary the server that answers is, in s; None where it is the primary."""
        return self._connections.read(replica_lag_s)

    def health(self) -> list[Health]:
        """Look at the extension, at the plan of a search, and at how far behind a replica is."""
        return self._connections.read(lambda session: health(session, self._at))

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

        An effort above 1,000, which is pgvector's most, compares with every item.
        """
        check_counts(k, effort)
        condition, name = _condition(where, first_latents=first_latents)

        def work(session: Session, state: State) -> list[list[Neighbour]]:
            check_model(state.manifest, fingerprint or self._expected, self._at.name)
            rows = checked_latents(latents, state.manifest.latent_dim)
            search = Search(self._at.index, state, k, effort, exact, condition, name, first_latents, self._wide)
            return search.run(session, rows)

        return self._reader.read(work)

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
        check_counts(k, effort)
        condition, name = _condition(where, first_latents=first_latents)

        def work(session: Session, state: State) -> list[Neighbour]:
            own = self._reader.rows_in(session, state, _LATENT_OF, ([name_of(key)],))
            if not own:
                raise self._missing(key)
            search = Search(self._at.index, state, k + 1, effort, exact, condition, name, first_latents, self._wide)
            (found,) = search.run(session, latents_of([own[0][1]], state.manifest.latent_dim))
            others = [one for one in found if one.key != key][:k]
            return [one._replace(rank=rank) for rank, one in enumerate(others, start=1)]

        return self._reader.read(work)

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that the index has."""
        rows = self._reader.rows("SELECT key FROM {table} WHERE name = ANY(%s) AND at = 0", (_names(keys),))
        return {row[0] for row in rows}

    def latents(self, keys: Sequence[str]) -> Latents:
        """Return the first latent of each key, float32 `[n, d]`."""
        found = self._found(_LATENT_OF, keys)
        return latents_of([found[key][0][1] for key in keys], self._reader.known_state().manifest.latent_dim)

    def all_latents(self, keys: Sequence[str]) -> list[Latents]:
        """Return all latents of each key, float32 `[r, d]`."""
        found = self._found("SELECT key, latent FROM {table} WHERE name = ANY(%s) ORDER BY id, at", keys)
        dim = self._reader.known_state().manifest.latent_dim
        return [latents_of([row[1] for row in found[key]], dim) for key in keys]

    def details(self, keys: Sequence[str]) -> list[tuple[str | None, dict[str, Any]]]:
        """Return label and metadata of some keys."""
        found = self._found("SELECT key, label, metadata::text FROM {table} WHERE name = ANY(%s) AND at = 0", keys)
        return [(found[key][0][1], metadata_of(found[key][0][2])) for key in keys]

    def digests(self, keys: Sequence[str]) -> list[str | None]:
        """Return the digests of the content of some keys, None where an item has none."""
        found = self._found("SELECT key, digest FROM {table} WHERE name = ANY(%s) AND at = 0", keys)
        return [found[key][0][1] for key in keys]

    def thumbnail(self, item: Neighbour | str) -> bytes | None:
        """Return the JPEG of a neighbour or key; None if it is unknown or has none."""
        key = item if isinstance(item, str) else item.key
        rows = self._reader.rows("SELECT id, thumbnail FROM {table} WHERE name = ANY(%s) AND at = 0", (_names([key]),))
        return rows[0][1] if rows else None

    def items(self) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Yield key, label and metadata of each item, by id."""
        for row in self._reader.stream():
            if row.at == 0:
                yield row.key, row.label, metadata_of(row.metadata)

    def keys(self, *, where: Where | None = None) -> list[str]:
        """Return the keys of all items, or of those that meet some conditions, by id."""
        condition, _ = _condition(where)
        select = "SELECT id, key FROM {table} WHERE at = 0 AND ({condition})"
        rows = self._reader.rows(select, condition.values, condition=condition.sql)
        return [row[1] for row in sorted(rows)]

    def labels(self) -> list[str | None]:
        """Return the labels of all items, by id."""
        return [row[1] for row in sorted(self._reader.rows("SELECT id, label FROM {table} WHERE at = 0"), key=_id_of)]

    def blocks(self, *, thumbnails: bool = True) -> Iterator[tuple[Latents, Items]]:
        """Yield all items of one moment, by id, in blocks: their latents `[n, r, d]`, and what else they have."""
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
        """Add items, all of them or none; every reader of this server sees them when this returns. See `Index.add`."""
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
        """Take items out, all of them or none; no search of this server returns them when this has returned."""
        with self._changing(wait_s, any_model=True) as change:
            change.remove(keys)

    def calibration(self) -> dict[str, Any]:
        """Return what was measured about the latents and stored by `calibrate`, by name."""
        select = "SELECT name, value::text FROM ae_search.calibration WHERE generation = {number}"
        return {name: metadata_of(text) for name, text in sorted(self._reader.rows(select))}

    def calibrate(self, name: str, values: Metadata, *, wait_s: float = 0.0) -> None:
        """Store something that was measured about the latents; see `Index.calibrate`."""
        with self._changing(wait_s) as change:
            change.calibrate(name, values)

    def rename_source(self, old: str, new: str, *, wait_s: float = 0.0) -> None:
        """Tell that the images of a source have moved; see `Index.rename_source`."""
        with self._changing(wait_s, any_model=True) as change:
            rename_source(change, old, new)

    def compact(
        self,
        resources: Resources = _ALL_THERE_IS,
        *,
        engine: str | None = None,
        fields: Sequence[str] | None = None,
        wait_s: float = 0.0,
        on_progress: OnItems = no_progress,
    ) -> None:
        """Write all items and their graph anew within the server; searches go on meanwhile.

        Raises:
            NotSupportedError: Another engine is asked for, or other fields, which are chosen when an index is built.
        """
        self._check_stays(engine, fields)
        compact(self._connections, self._at, resources, wait_s=wait_s, on_progress=on_progress)

    def _check_stays(self, engine: str | None, fields: Sequence[str] | None = None) -> None:
        if engine not in (None, HnswOptions.engine) or fields is not None:
            raise NotSupportedError(
                f"{self.place} stays with pgvector, and with the fields that it was built with; export it, and import "
                "it where it shall go."
            )

    def warm(self) -> int:
        """Read nothing: a server has a cache of its own, which `pg_prewarm` fills."""
        self._connections.check_open()
        return 0

    def tune(self, recall: float | None = None, *, wait_s: float = 0.0) -> IndexInfo:
        """Measure recall again and choose the effort anew; see `Index.tune`."""
        tune_again(self._connections, self._at, recall, wait_s=wait_s)
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
        self._connections.check_open()
        self._check_stays(engine)
        return rebuilding(self._connections, self._at, model, resources, wait_s=wait_s)

    def info(self) -> IndexInfo:
        """Return the figures of this moment, and whether it is time to compact."""
        return self._connections.read(lambda session: info(session, self._at))

    def verify(self) -> list[Check]:
        """Check counts, rows and the graph."""
        self._connections.check_open()
        return verify(self._at)

    def duplicates(
        self, similarity: float | None = None, *, on_progress: OnItems = no_progress
    ) -> list[DuplicateGroup]:
        """Find groups of items that are almost the same, the largest first."""
        items = LiveItems(self._reader, self._at.index)
        alike = alike_of(similarity, stored(self) if similarity is None else None, several=items.has_several)
        return groups_of_alike(items, *alike, on_progress=on_progress)

    def export(self, path: str | Path, *, on_progress: OnItems = no_progress) -> int:
        """Write keys, labels, metadata and latents of all items to `*.parquet` or `*.jsonl`; return how many."""
        from ae_search.exchange import export_latents

        self._connections.check_open()
        return export_latents(self, Path(path), on_progress=on_progress)

    def _changing(self, wait_s: float, *, any_model: bool = False) -> AbstractContextManager[Change]:
        return changing(self._connections, self._at, None if any_model else self._expected, wait_s)

    def _found(self, select: str, keys: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows of some keys, all of which must be there."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        for row in self._reader.rows(select, (_names(keys),)):
            found.setdefault(row[0], []).append(row)
        if missing := [key for key in keys if key not in found]:
            raise self._missing(missing[0])
        return found

    def _missing(self, key: str) -> ConfigurationError:
        return ConfigurationError(f"{self._at.name} has no item {key!r}.")


_LATENT_OF = "SELECT key, latent FROM {table} WHERE name = ANY(%s) AND at = 0"


def _opened(name: str) -> PostgresIndex:
    return PostgresIndex(PostgresPlace.parse(name))


def _names(keys: Sequence[str]) -> list[Any]:
    return [name_of(key) for key in keys]


def _id_of(row: tuple[Any, ...]) -> int:
    return int(row[0])


def _condition(where: Where | None, *, first_latents: bool = False) -> tuple[SqlCondition, str]:
    """Return the conditions of a filter, and what tells it from others: 1, 1.0 and True are equal, but not here."""
    conditions = () if where is None else parse_where(where)
    condition = compile_conditions(conditions) if conditions else NOTHING
    if first_latents:
        condition = SqlCondition(sql.SQL("(at = 0 AND {})").format(condition.sql), condition.values)
    return condition, f"{first_latents} {conditions!r}" if first_latents or conditions else ""
