"""Changes to an index: one writer at a time, each change one transaction."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from psycopg import sql

from ae_search.contract import Items, Latents, Metadata
from ae_search.errors import IndexBusyError
from ae_search.remote_index.calibrating import check_calibration
from ae_search.remote_index.changing import ItemChanges
from ae_search.remote_index.manifest import check_model
from ae_search.remote_index.postgres.calibrating import store_calibration
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


class Change(ItemChanges[State]):
    """One transaction on an index whose lock is held; see `changing`.

    Args:
        session: The session.
        state: The index before the change.

    Attributes:
        epoch: What the change adds to the epoch.
    """

    def __init__(self, session: Session, state: State) -> None:
        super().__init__(state)
        self.session, self.epoch = session, 0

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store what was measured about the latents; see `Index.calibrate`."""
        check_calibration(name, values)
        store_calibration(self.session, self.state.number, name, values)

    def describe(self, **fields: object) -> None:
        """Change what the manifest says, which open readers read anew then."""
        super().describe(**fields)
        self.epoch = 1

    def _insert(self, ids: Sequence[int], rows: Sequence[Latents], items: Items) -> None:
        copy_in(self.session, self.state.number, ids, rows, items)
        self.epoch = self.epoch or int(any(len(own) > self.state.most_latents for own in rows))

    def _delete_rows(self, ids: Sequence[int], rows: Sequence[Latents] | None) -> int:
        statement = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(table_of(self.state.number))
        return self.session.execute(statement, (list(ids),)).rowcount

    def _ids_of_updated(self, ids: Sequence[int]) -> Sequence[int]:
        return ids

    def _ids(self, keys: Sequence[str]) -> dict[str, int]:
        statement = sql.SQL("SELECT key, id FROM {} WHERE name = ANY(%s) AND at = 0").format(
            table_of(self.state.number)
        )
        found = dict(self.session.execute(statement, ([name_of(key) for key in keys],)).fetchall())
        return {key: found[key] for key in keys if key in found}

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
            check_model(before.manifest, fingerprint, place.name)
            change = Change(session, before)
            yield change
            _count(session, change)


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
