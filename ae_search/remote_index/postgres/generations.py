"""New generations of an index: a table that nobody reads, its graph, and one transaction that makes it the live one."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import numpy.typing as npt
import psycopg
from psycopg import sql

from ae_search.contract import ALL_CORES, Items, Latents, Metadata, Resources, checked_items, metadata_json
from ae_search.errors import AeSearchError, ConfigurationError, NotSupportedError
from ae_search.nearest.comparing import checked_rows
from ae_search.remote_index.calibrating import check_calibration
from ae_search.remote_index.postgres.calibrating import store_calibration
from ae_search.remote_index.postgres.connections import Connections, Session
from ae_search.remote_index.postgres.failures import mapped
from ae_search.remote_index.postgres.names import name_of
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.rows import copy_in
from ae_search.remote_index.postgres.schema import create_generation, create_indexes, key_of_lock, table_of
from ae_search.remote_index.postgres.state import Manifest
from ae_search.remote_index.postgres.tuning import tune
from ae_search.remote_index.postgres.writing import hold_lock

log = logging.getLogger(__name__)

# A graph of fewer is built before other processes of the server have started.
_FEWEST_FOR_WORKERS = 50_000
_LEAST_MB, _MOST_MB = 64, 1024

_PUBLISH = """
INSERT INTO ae_search.indexes (name, generation) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET generation = excluded.generation
"""
_DESCRIBE = """
UPDATE ae_search.generations SET manifest = %s, items = %s, latents = %s, most_latents = %s, in_base = %s, next_id = %s
WHERE number = %s
"""
_LEFT = """
SELECT number FROM ae_search.generations
WHERE index = %s AND number NOT IN (SELECT generation FROM ae_search.indexes)
"""


class GenerationWriter:
    """Writes one generation, block by block; each block is a transaction.

    Args:
        session: The session that holds the index's lock.
        place: The index.
        number: Number of the generation, whose table is there and empty.
        manifest: What it will hold.
        resources: What the build may use of the server.

    Attributes:
        manifest: The manifest; with recall and effort once it is finished.
        seconds: How long the stages "catalogue", "base" and "tuning" took, in s.
    """

    def __init__(
        self, session: Session, place: PostgresPlace, number: int, manifest: Manifest, resources: Resources
    ) -> None:
        self.manifest, self.seconds = manifest, {"catalogue": 0.0}
        self.items, self.latents, self.most_latents = 0, 0, 1
        self._session, self._place, self.number, self._resources = session, place, number, resources

    def __len__(self) -> int:
        return self.items

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
        rows = checked_rows(latents, keys, self.manifest.latent_dim)
        self.add_items(rows, checked_items(keys, labels, metadata, thumbnails, digests))

    def add_items(self, latents: Latents, items: Items) -> None:
        """Append checked items, all of them or none; latents are float32 `[n, r, d]` and finite.

        Raises:
            ConfigurationError: A key is there already, or there is no room.
        """
        start = time.perf_counter()
        with mapped(self._place.name):
            self._check_new(items.keys)
            ids = range(self.items, self.items + len(items))
            copy_in(self._session, self.number, ids, list(latents), items)
        self.seconds["catalogue"] += time.perf_counter() - start
        self.items += len(items)
        if len(items):
            self.latents += latents.shape[0] * latents.shape[1]
            self.most_latents = max(self.most_latents, latents.shape[1])

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store something about the latents beside them; see `Index.calibrate`."""
        check_calibration(name, values)
        metadata_json(name, values)
        with mapped(self._place.name):
            store_calibration(self._session, self.number, name, values)

    def take_over(self, old: int) -> None:
        """Copy all items of another generation within the server, their ids counting anew."""
        start = time.perf_counter()
        columns = "at, name, key, label, metadata, digest, thumbnail, latent"
        copied = sql.SQL(
            f"INSERT INTO {{}} (id, {columns}) "
            f"SELECT dense_rank() OVER (ORDER BY id) - 1, {columns} FROM {{}} ORDER BY id, at"
        )
        counted = sql.SQL("SELECT count(*), count(*) FILTER (WHERE at = 0), coalesce(max(at), 0) + 1 FROM {}")
        table = table_of(self.number)
        self._session.execute(copied.format(table, table_of(old)))
        self._session.execute(
            "INSERT INTO ae_search.calibration SELECT %s, name, value FROM ae_search.calibration WHERE generation = %s",
            (self.number, old),
        )
        ((self.latents, self.items, self.most_latents),) = self._session.execute(counted.format(table))
        self.seconds["catalogue"] += time.perf_counter() - start

    def finish(self) -> None:
        """Build the graph, measure it, and write the manifest."""
        start = time.perf_counter()
        manifest = self.manifest
        self._build_graph()
        built = time.perf_counter()
        chosen, curve = tune(self._session, self.number, manifest, (self.latents, self.items))
        self.seconds |= {"base": built - start, "tuning": time.perf_counter() - built}
        self.manifest = replace(
            manifest,
            effort=chosen.effort,
            recall=chosen.recall,
            recall_curve=curve,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        counts = (self.items, self.latents, self.most_latents, self.items, self.items)
        self._session.execute(_DESCRIBE, (self.manifest.to_json(), *counts, self.number))

    def publish(self) -> None:
        """Make it the live generation, in one step."""
        self._session.execute(_PUBLISH, (self._place.index, self.number))

    def _build_graph(self) -> None:
        manifest, workers = self.manifest, self._workers()
        memory = manifest.options.memory_mb or self._memory_mb()
        log.info(
            "building the graph of %d latents with maintenance_work_mem = %d MB and %d more workers",
            self.latents, memory, workers,
        )  # fmt: skip
        for more in (workers, 0):
            self._session.execute(
                "SELECT set_config('maintenance_work_mem', %s, false), "
                "set_config('max_parallel_maintenance_workers', %s, false)",
                (f"{memory}MB", str(more)),
            )
            try:
                with self._session.transaction():
                    create_indexes(self._session, self.number, manifest.metric, manifest.latent_dim, manifest.options)
            except psycopg.errors.DiskFull:
                # Containers have little shared memory (/dev/shm), by which the workers share the graph.
                if not more:
                    raise
                log.warning("too little shared memory for %d workers; building the graph without", more)
                continue
            except psycopg.errors.NumericValueOutOfRange as error:
                raise _beyond_16_bits(error) from error
            except psycopg.errors.DataException as error:
                if not manifest.options.halfvec:
                    raise
                raise _beyond_16_bits(error) from error
            return

    def _workers(self) -> int:
        if self.latents < _FEWEST_FOR_WORKERS:
            return 0
        jobs = self._resources.jobs
        return (os.cpu_count() or 1) if jobs == ALL_CORES else jobs - 1

    def _memory_mb(self) -> int:
        manifest = self.manifest
        each = manifest.latent_dim * (2 if manifest.options.halfvec else 4) + 16 * manifest.options.m + 200
        return min(_MOST_MB, max(_LEAST_MB, -(-self.latents * each * 5 // (4 * 2**20))))

    def _check_new(self, keys: Sequence[str]) -> None:
        statement = sql.SQL("SELECT key FROM {} WHERE name = ANY(%s) AND at = 0 LIMIT 1").format(table_of(self.number))
        known = self._session.execute(statement, ([name_of(key) for key in keys],)).fetchone()
        if known is not None:
            raise ConfigurationError(f"Keys must be unique. Received twice: {known[0]!r}.")


def _beyond_16_bits(error: psycopg.Error) -> NotSupportedError:
    return NotSupportedError(
        f"These latents do not go into a graph of 16 bits ({error.diag.message_primary}); build it without halfvec."
    )


@contextmanager
def sole_writer(connections: Connections, place: PostgresPlace, wait_s: float) -> Iterator[Session]:
    """Hold the lock of an index for long, in a session of its own.

    Raises:
        IndexBusyError: Another session writes the index.
    """
    with closing(connections.connect(writes=True)) as session, mapped(place.name):
        session.execute("SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '10s', false)")
        hold_lock(session, place, wait_s, within_transaction=False)
        try:
            yield session
        finally:
            # The server ends a session some time after it was closed; the next writer must not meet the lock till then.
            with suppress(psycopg.Error):
                session.execute("SELECT pg_advisory_unlock(%s)", (key_of_lock(place.index),))


@contextmanager
def new_generation(
    session: Session, place: PostgresPlace, manifest: Manifest, resources: Resources
) -> Iterator[GenerationWriter]:
    """Yield a writer; when the block ends without an error, what it wrote becomes the live generation.

    The session holds the index's lock.
    """
    remove_others(session, place)
    number = create_generation(session, place.index, manifest.latent_dim)
    writer = GenerationWriter(session, place, number, manifest, resources)
    try:
        yield writer
        writer.finish()
        writer.publish()
    finally:
        # The old one, or what was written in vain.
        with suppress(AeSearchError, psycopg.Error):
            remove_others(session, place)


def remove_others(session: Session, place: PostgresPlace) -> None:
    """Remove all generations but the live one; one that is still being read stays until the next writer comes."""
    for (number,) in session.execute(_LEFT, (place.index,)).fetchall():
        try:
            with session.transaction():
                session.execute("SELECT set_config('lock_timeout', '200ms', true)")
                session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table_of(number)))
                session.execute("DELETE FROM ae_search.generations WHERE number = %s", (number,))
        except psycopg.errors.LockNotAvailable:
            log.info("generation %d of %s is still being read", number, place.name)
