"""What has changed since the base was built: items added, and ids removed, in one small SQLite file."""

import hashlib
import json
import re
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.contract import MAX_LATENTS_PER_ITEM, Items, Latents, Metadata, is_digest, metadata_json, metadata_of
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index.items.conditions import SqlCondition
from ae_search.index.items.names import Name
from ae_search.index.manifest import FileProof, Manifest
from ae_search.index.sqlite.database import Database, blocks, connect, damage_named, ids_array
from ae_search.index.sqlite.gate import within_sqlite
from ae_search.index.sqlite.side_files import check_written
from ae_search.nearest.comparing import Ids, first_bad_row
from ae_search.nearest.exact import Rough

CHANGES = "changes.sqlite"
CHANGES_FORMAT = 1
CALIBRATION_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

# An item that was updated is removed under its old id and added under a new one; ids are never used again.
_SCHEMA = f"""
CREATE TABLE added (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, label TEXT, metadata TEXT,
    latents BLOB NOT NULL, jpeg BLOB, digest TEXT
);
CREATE TABLE removed (number INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL UNIQUE);
CREATE TABLE sources (name TEXT PRIMARY KEY);
CREATE TABLE calibration (name TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE base (files TEXT NOT NULL);
PRAGMA user_version = {CHANGES_FORMAT};
"""


@dataclass(frozen=True)
class Delta:
    """The changes as one search sees them; it never changes itself.

    Attributes:
        ids: Ids `[m]` of the items that the added latents belong to, ascending.
        rough: These latents, prepared for exact search.
        most_latents: Most latents that an added item has.
        names: Key, label and metadata by id, ascending.
        digests: Digests by id, of those that have one.
        keys: Ids by key.
        removed: One byte for each item of the base, 1 where it is removed; empty while none is.
        removed_count: How many of the base's items are removed.
        last_added: Largest id seen.
        last_removed: Largest removal seen.
    """

    ids: Ids
    rough: Rough
    most_latents: int = 1
    digests: dict[int, str] = field(default_factory=dict)
    names: dict[int, Name] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    removed: bytearray = field(default_factory=bytearray)
    removed_count: int = 0
    last_added: int = -1
    last_removed: int = 0
    _table_lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def matching(self, condition: SqlCondition) -> Ids:
        """Return the ids of added items that meet a condition, ascending."""
        sql, values = condition
        with self._table_lock, within_sqlite:
            return ids_array(self._table.execute(f"SELECT id FROM added WHERE {sql} ORDER BY id", values).fetchall())

    @cached_property
    def _table(self) -> sqlite3.Connection:
        """The names as a table in memory: the file may be further on by now."""
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, connection.close)
        connection.execute("CREATE TABLE added (id INTEGER PRIMARY KEY, key TEXT, label TEXT, metadata TEXT)")
        rows = ((item, *name) for item, name in self.names.items())
        connection.executemany("INSERT INTO added VALUES (?, ?, ?, ?)", rows)
        return connection


class Changes:
    """Reads the changes of a generation.

    Args:
        path: The SQLite file.
        manifest: Manifest of the generation.

    Raises:
        IndexDamagedError: It is missing, cut short, malformed or of another generation.
        ConfigurationError: It has a newer format than this release reads.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path, self._items = path, manifest.items
        self._dim, self._metric = manifest.latent_dim, manifest.metric
        self._database = Database(path, may_change=True)
        ((version,),) = self._database.query("PRAGMA user_version")
        if version > CHANGES_FORMAT:
            raise ConfigurationError(f"{path} has format {version}, newer than {CHANGES_FORMAT}; upgrade ae-search.")
        if version != CHANGES_FORMAT:
            raise self._damaged(f"user_version {version}")
        self._database.check()
        self._database.check_schema(_SCHEMA)
        if self._database.query("SELECT files FROM base") != [(_digest_of(manifest.files),)]:
            raise self._damaged("it belongs to another generation")
        # Nothing else is read of them until somebody asks, or until the index is compacted.
        self.sources()
        self.calibration()

    def first(self) -> Delta:
        """Return all changes.

        Raises:
            IndexDamagedError: A row is not what a writer writes.
        """
        nothing = np.empty((0, self._dim), np.float32)
        return self.after(Delta(np.empty(0, np.int64), Rough.of(nothing, self._metric), last_added=self._items - 1))

    def after(self, seen: Delta) -> Delta:
        """Return all changes, reading only those that came after some that were seen."""
        with self._database.reading() as connection:
            added = connection.execute(
                "SELECT id, key, label, metadata, digest, latents FROM added WHERE id > ? ORDER BY id",
                (seen.last_added,),
            ).fetchall()
            gone = connection.execute(
                "SELECT number, id FROM removed WHERE number > ? ORDER BY number", (seen.last_removed,)
            ).fetchall()
        if not added and not gone:
            return seen
        return self._joined(seen, added, gone)

    def thumbnail(self, item: int) -> bytes | None:
        """Return the JPEG of an added item, None where it has none."""
        rows = self._database.query("SELECT jpeg FROM added WHERE id = ?", (item,))
        return rows[0][0] if rows else None

    def thumbnails(self) -> dict[int, bytes]:
        """Return the JPEG of each added item that has one."""
        return dict(self._database.query("SELECT id, jpeg FROM added WHERE jpeg NOT NULL"))

    def sources(self) -> list[str]:
        """Return the names of the sources that items were added from.

        Raises:
            IndexDamagedError: One is no text.
        """
        names = [name for (name,) in self._database.query("SELECT name FROM sources ORDER BY rowid")]
        if strange := [name for name in names if not isinstance(name, str)]:
            raise self._damaged(f"source {strange[0]!r:.60}")
        return names

    def calibration(self) -> dict[str, dict[str, Any]]:
        """Return what was measured about the latents, by name.

        Raises:
            IndexDamagedError: It is not what a writer writes.
        """
        rows = self._database.query("SELECT name, json FROM calibration ORDER BY name")
        for name, text in rows:
            if not isinstance(name, str) or not CALIBRATION_NAME.fullmatch(name) or text is None or not _is_json(text):
                raise self._damaged(f"calibration {name!r:.60}")
        return {name: metadata_of(text) for name, text in rows}

    def check(self) -> None:
        """Let SQLite check the whole file.

        Raises:
            IndexDamagedError: It finds a fault.
        """
        self._database.check()

    def _joined(self, seen: Delta, added: list[Any], gone: list[tuple[int, int]]) -> Delta:
        removed, count = seen.removed, seen.removed_count
        if strange := [item for _, item in gone if not isinstance(item, int) or item < 0]:
            raise self._damaged(f"removed id {strange[0]!r}")
        if any(item < self._items for _, item in gone):
            removed = bytearray(removed or self._items)
        dead: set[int] = set()
        for _, item in gone:
            if item >= self._items:
                dead.add(item)
                continue
            count += 1 - removed[item]
            removed[item] = 1
        names, keys, digests = dict(seen.names), dict(seen.keys), dict(seen.digests)
        for item in dead & names.keys():
            del keys[names.pop(item)[0]]
            digests.pop(item, None)
        for item, key, label, metadata, digest, _ in added:
            if item not in dead:
                names[item], keys[key] = (key, label, metadata), item
                if digest is not None:
                    digests[item] = digest
        rough = seen.rough.joined(Rough.of(self._latents(added), self._metric))
        counts = [len(row[-1]) // (4 * self._dim) for row in added]
        ids = np.concatenate([seen.ids, np.repeat(ids_array([row[:1] for row in added]), counts)])
        if dead:
            alive = np.flatnonzero(~np.isin(ids, list(dead)))
            rough, ids = rough.rows(alive), ids[alive]
        return Delta(
            ids,
            rough,
            max([seen.most_latents, *counts]),
            digests,
            names,
            keys,
            removed,
            count,
            added[-1][0] if added else seen.last_added,
            gone[-1][0] if gone else seen.last_removed,
        )

    def _latents(self, added: list[Any]) -> Latents:
        sizes = range(4 * self._dim, 4 * self._dim * MAX_LATENTS_PER_ITEM + 1, 4 * self._dim)
        for item, key, label, metadata, digest, blob in added:
            is_text = isinstance(key, str) and isinstance(label, str | None)
            is_text = is_text and (digest is None or is_digest(digest))
            if not is_text or not _is_metadata(metadata) or not isinstance(blob, bytes) or len(blob) not in sizes:
                raise self._damaged(f"item {item}")
        latents: Latents = np.frombuffer(b"".join(row[-1] for row in added), "<f4").reshape(-1, self._dim)
        if (row := first_bad_row(latents)) is not None:
            raise self._damaged(f"latent {row} of the added ones")
        return latents

    def _damaged(self, what: str) -> IndexDamagedError:
        return IndexDamagedError(f"{self._path} is damaged ({what}); restore it or build the index anew.")


def _is_metadata(text: object) -> bool:
    if text is None:
        return True
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _is_json(text: object) -> bool:
    """Tell whether a text is metadata as a writer writes them."""
    try:
        return _is_metadata(text) and metadata_json("", metadata_of(str(text))) is not None
    except (ValueError, RecursionError):
        return False


def create_changes(
    path: Path, items: int, files: Mapping[str, FileProof], calibration: Mapping[str, Metadata] | None = None
) -> None:
    """Write the file of a generation that nothing has changed yet.

    Args:
        path: Where it goes; it must not exist.
        items: Items in the base; added ones count on from there.
        files: The generation's other files, which it will go with and no others.
        calibration: What was measured about the latents, by name.
    """
    rows = [(name, metadata_json(name, values)) for name, values in (calibration or {}).items()]
    with within_sqlite, closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO sqlite_sequence VALUES ('added', ?)", (items - 1,))
        connection.execute("INSERT INTO base VALUES (?)", (_digest_of(files),))
        connection.executemany("INSERT INTO calibration VALUES (?, ?)", rows)


def _digest_of(files: Mapping[str, FileProof]) -> str:
    text = " ".join(f"{name} {proof.sha256}" for name, proof in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


class ChangesWriter:
    """One transaction on the changes of a generation; the caller holds the index's lock.

    Args:
        path: The SQLite file, which was read meanwhile: no change of a killed writer waits there to be taken back.

    Raises:
        IndexDamagedError: The file or its journal must not be written, as a link.
    """

    def __init__(self, path: Path) -> None:
        check_written(path)
        with ExitStack() as stack:
            # A fork waits for the end of the transaction.
            stack.enter_context(within_sqlite)
            with damage_named(path):
                self._connection = connect(path, "mode=rw", busy_s=30.0)
                stack.callback(self._connection.close)
                self._connection.execute("PRAGMA synchronous = FULL")
                # A cache that spills locks readers out long before the commit.
                self._connection.execute("PRAGMA cache_spill = OFF")
                self._connection.execute("BEGIN IMMEDIATE")
            self._end = stack.pop_all()

    def add(self, items: Items, latents: Iterable[Latents]) -> None:
        """Add items with the latents `[r, d]` of each; their keys must be new.

        Raises:
            ConfigurationError: A key is there already.
        """
        blobs = (own.astype("<f4", copy=False).tobytes() for own in latents)
        rows = zip(items.keys, items.labels, items.metadata, blobs, items.thumbnails, items.digests, strict=True)
        try:
            self._connection.executemany(
                "INSERT INTO added (key, label, metadata, latents, jpeg, digest) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
        except sqlite3.IntegrityError as error:
            raise ConfigurationError("A key is in the index already.") from error

    def remove(self, ids: Sequence[int]) -> None:
        """Take items out, whether the base holds them or they were added."""
        for block in blocks(ids):
            self._connection.execute(f"DELETE FROM added WHERE id IN ({','.join('?' * len(block))})", block)
        self._connection.executemany("INSERT INTO removed (id) VALUES (?)", ((item,) for item in ids))

    def add_source(self, name: str) -> None:
        """Note where items were added from."""
        self._connection.execute("INSERT OR IGNORE INTO sources VALUES (?)", (name,))

    def rename_source(self, old: str, new: str) -> None:
        """Let items that were added have come from a source of another name."""
        self._connection.execute("UPDATE OR REPLACE sources SET name = ? WHERE name = ?", (new, old))

    def calibrate(self, name: str, values: Metadata) -> None:
        """Store something that was measured about the latents."""
        self._connection.execute(
            "INSERT OR REPLACE INTO calibration VALUES (?, ?)", (name, metadata_json(name, values))
        )

    def commit(self) -> None:
        """Make the transaction durable."""
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file; what was not committed is taken back."""
        self._end.close()
