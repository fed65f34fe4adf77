"""Changes to an index: one writer at a time, each change one transaction."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from psycopg import sql

from ae_search.contract import Items, Latents, Metadata, check_text, checked_items
from ae_search.errors import ConfigurationError, IndexBusyError, ModelMismatchError
from ae_search.nearest.comparing import checked_rows
from ae_search.remote_index.postgres.calibrating import check_calibration, store_calibration
from ae_search.remote_index.postgres.connections import Connections, Session
from ae_search.remote_index.postgres.names import name_of
from ae_search.remote_index.postgres.place import PostgresPlace
from ae_search.remote_index.postgres.rows import copy_in, latents_of
from ae_search.remote_index.postgres.schema import key_of_lock, table_of
from ae_search.remote_index.postgres.state import State, load

_POLL_S = 0.02
_LOCK_TIMEOUT = "10s"

_OWNER = """
SELECT a.pid, a.application_name, coalesce(host(a.client_addr), 'this machine'), a.xact_start
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32) | l.objid::bigint = %s
"""
_COUNT = """
UPDATE ae_search.generations SET changes = changes + 1, epoch = epoch + %(epoch)s, items = %(items)s,
    latents = %(latents)s, most_latents = %(most_latents)s, added = %(added)s, removed = %(removed)s,
    next_id = %(next_id)s, manifest = %(manifest)s
WHERE number = %(number)s
"""
_ITEMS = (
    "SELECT id, at, key, label, metadata::text, digest, thumbnail, latent FROM {} WHERE name = ANY(%s) ORDER BY id, at"
)


def hold_lock(session: Session, place: PostgresPlace, wait_s: float, *, within_transaction: bool) -> None:
    """Take the lock of an index's writers; it ends with the transaction, or with the session.

    Raises:
        IndexBusyError: Another session holds it for longer than that.
    """
    kind = "xact_" if within_transaction else ""
    deadline = time.monotonic() + wait_s
    while True:
        (row,) = session.execute(f"SELECT pg_try_advisory_{kind}lock(%s)", (key_of_lock(place.index),))
        if row[0]:
            return
        if time.monotonic() >= deadline:
            owner = session.execute(_OWNER, (key_of_lock(place.index),)).fetchone()
            told = f"session {owner[0]} ({owner[1] or 'no name'}, {owner[2]})" if owner else "another session"
            raise IndexBusyError(f"{place.name} is being written by {told}; wait for it (--wait SECONDS).")
        time.sleep(_POLL_S)


@dataclass
class Change:
    """One transaction on an index whose lock is held; see `changing`.

    Attributes:
        session: The session.
        state: The index, as the change leaves it.
        epoch: What the change adds to the epoch.
    """

    session: Session
    state: State
    epoch: int = 0

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
        """Add items; see `Index.add`."""
        rows = checked_rows(latents, keys, self.state.manifest.latent_dim)
        items = checked_items(keys, labels, metadata, thumbnails, digests)
        if source is not None:
            check_text(source, "Sources")
        if known := self._ids(items.keys):
            raise ConfigurationError(
                f"The index has an item {next(iter(known))!r} already; update it, or remove it first."
            )
        first = self.state.next_id
        self._write(range(first, first + len(items)), list(rows), items)
        state = self.state
        self.state = replace(
            state, items=state.items + len(items), added=state.added + len(items), next_id=first + len(items)
        )
        if source is not None and source not in state.manifest.sources:
            self.describe(sources=(*state.manifest.sources, source))

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
        """Change items, which keep their ids; see `Index.update`."""
        given = checked_items(keys, labels, metadata, thumbnails, digests)
        new = None if latents is None else checked_rows(latents, keys, self.state.manifest.latent_dim)
        ids = self._all_ids(given.keys)
        old, rows = self._read(given.keys)
        items = Items(
            given.keys,
            old.labels if labels is None else given.labels,
            old.metadata if metadata is None else given.metadata,
            old.thumbnails if thumbnails is None else given.thumbnails,
            old.digests if digests is None else given.digests,
        )
        self._delete(ids)
        self._write(ids, rows if new is None else list(new), items)

    def remove(self, keys: Sequence[str]) -> None:
        """Take items out; see `Index.remove`."""
        ids = self._all_ids(checked_items(keys).keys)
        self._delete(ids)
        of_base = sum(one < self.state.in_base for one in ids)
        state = self.state
        self.state = replace(
            state,
            items=state.items - len(ids),
            added=state.added - len(ids) + of_base,
            removed=state.removed + of_base,
        )

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store what was measured about the latents; see `Index.calibrate`."""
        check_calibration(name, values)
        store_calibration(self.session, self.state.number, name, values)

    def describe(self, **fields: object) -> None:
        """Change what the manifest says, which open readers read anew then."""
        self.state = replace(self.state, manifest=replace(self.state.manifest, **fields))  # type: ignore[arg-type]
        self.epoch = 1

    def _write(self, ids: Sequence[int], rows: Sequence[Latents], items: Items) -> None:
        copy_in(self.session, self.state.number, ids, rows, items)
        most = max([self.state.most_latents, *(len(own) for own in rows)])
        self.epoch = self.epoch or int(most > self.state.most_latents)
        self.state = replace(self.state, latents=self.state.latents + sum(len(own) for own in rows), most_latents=most)

    def _delete(self, ids: Sequence[int]) -> None:
        statement = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(table_of(self.state.number))
        gone = self.session.execute(statement, (list(ids),)).rowcount
        self.state = replace(self.state, latents=self.state.latents - gone)

    def _ids(self, keys: Sequence[str]) -> dict[str, int]:
        statement = sql.SQL("SELECT key, id FROM {} WHERE name = ANY(%s) AND at = 0").format(
            table_of(self.state.number)
        )
        found = dict(self.session.execute(statement, ([name_of(key) for key in keys],)).fetchall())
        return {key: found[key] for key in keys if key in found}

    def _all_ids(self, keys: Sequence[str]) -> list[int]:
        found = self._ids(keys)
        missing = [key for key in keys if key not in found]
        if missing:
            more = f", and {len(missing) - 1} more" if missing[1:] else ""
            raise ConfigurationError(f"The index has no item {missing[0]!r}{more}; nothing was changed.")
        return [found[key] for key in keys]

    def _read(self, keys: Sequence[str]) -> tuple[Items, list[Latents]]:
        """Return what items have, in the order of some keys that are there."""
        statement = sql.SQL(_ITEMS).format(table_of(self.state.number))
        found = self.session.execute(statement, ([name_of(key) for key in keys],), binary=True).fetchall()
        rows = {row[2]: row for row in found if row[1] == 0}
        latents: dict[str, list[Latents]] = {}
        rows_of_all = latents_of([row[7] for row in found], self.state.manifest.latent_dim)
        for row, latent in zip(found, rows_of_all, strict=True):
            latents.setdefault(row[2], []).append(latent)
        in_order = [rows[key] for key in keys]
        labels, metadata, digests, thumbnails = ([row[at] for row in in_order] for at in (3, 4, 5, 6))
        return Items(keys, labels, metadata, thumbnails, digests), [np.array(latents[key]) for key in keys]


@contextmanager
def changing(
    connections: Connections, place: PostgresPlace, fingerprint: str | None, wait_s: float
) -> Iterator[Change]:
    """Hold the lock for one transaction, which every reader sees when this ends.

    Args:
        connections: Sessions of the index.
        place: The index.
        fingerprint: Fingerprint of the caller's model; None where it does not matter.
        wait_s: How long to wait for another writer, in s.

    Raises:
        IndexBusyError: Another process writes the index.
        ModelMismatchError: The index holds the latents of another model.
        NotSupportedError: The server is a replica.
    """
    with connections.session(writes=True) as session:
        session.use_graph(None)
        with session.transaction():
            session.execute("SELECT set_config('statement_timeout', '0', true)")
            session.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            hold_lock(session, place, wait_s, within_transaction=True)
            before = load(session, place)
            check_model(before, fingerprint, place)
            change = Change(session, before)
            yield change
            _count(session, change)


def check_model(state: State, fingerprint: str | None, place: PostgresPlace) -> None:
    """Check that latents of a model belong into an index.

    Raises:
        ModelMismatchError: It holds those of another model.
    """
    model = state.manifest.model
    if fingerprint not in (None, model.fingerprint):
        raise ModelMismatchError(
            f"{place.name} holds latents of {model.name} version {model.version} (fingerprint "
            f"{model.fingerprint[:12]}) by now; encode with that version, and open the index anew."
        )


def _count(session: Session, change: Change) -> None:
    state = change.state
    session.execute(
        _COUNT,
        {
            "epoch": change.epoch,
            **{
                name: getattr(state, name)
                for name in ("items", "latents", "most_latents", "added", "removed", "next_id")
            },
            "manifest": state.manifest.to_json(),
            "number": state.number,
        },
    )
