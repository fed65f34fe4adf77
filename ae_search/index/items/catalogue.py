"""The catalogue: keys, labels, metadata and thumbnails of a base's items, in one SQLite file that never changes."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ae_search.contract import ITEM_FIELDS, Condition, Items
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index.items.conditions import SqlCondition, compile_conditions
from ae_search.index.items.fields import SCHEMA, differences, fill, look_up
from ae_search.index.items.names import Name
from ae_search.index.sqlite.database import Database, blocks
from ae_search.index.sqlite.gate import within_sqlite
from ae_search.nearest.comparing import Ids

CATALOGUE = "catalogue.sqlite"

_PER_BLOCK = 4096
_CONDITIONS_KEPT = 8
# Up to a share of one in so many, looking at each item is cheaper than reading all of them.
_FEW = 20

Conditions = tuple[Condition, ...]

_SCHEMA = """
CREATE TABLE items (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, label TEXT, metadata TEXT, digest TEXT);
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY, jpeg BLOB);
"""
# Made after the rows, when it is one sort.
_INDEX = "CREATE INDEX items_label ON items (label);"


class KeyTwiceError(ConfigurationError):
    """A key came in that another item has."""


class Catalogue:
    """Reads a catalogue; one connection that threads take turns on.

    Args:
        path: The SQLite file, proved to be the one that its manifest describes.
        items: How many items it must hold, with ids 0 to `items` - 1.
        fields: Fields of the metadata that can be looked up.

    Raises:
        IndexDamagedError: SQLite cannot open it, or it has other tables or items.
    """

    def __init__(self, path: Path, items: int, fields: Sequence[str] = ()) -> None:
        self._database, self._items, self._fields = Database(path, may_change=False), items, fields
        self._database.check_schema(_SCHEMA + (SCHEMA if fields else "") + _INDEX)
        ((low, high),) = self._database.query("SELECT min(id), max(id) FROM items")
        if items and (low, high) != (0, items - 1):
            raise IndexDamagedError(
                f"{path} does not belong to its manifest: expected ids 0 to {items - 1}. Received: {low} to {high}."
            )
        # A scan takes a while, and must not keep look-ups waiting.
        self._scans = Database(path, may_change=False)
        self._matching: dict[str, Ids] = {}

    def thumbnail(self, item: int) -> bytes | None:
        """Return the JPEG of an id, None where none is stored."""
        rows = self._database.query("SELECT jpeg FROM thumbnails WHERE id = ?", (item,))
        return rows[0][0] if rows else None

    def thumbnails(self, start: int, end: int) -> dict[int, bytes]:
        """Return the JPEG of each id in [start, end) that has one."""
        return dict(
            self._database.query(
                "SELECT id, jpeg FROM thumbnails WHERE id >= ? AND id < ? AND jpeg NOT NULL", (start, end)
            )
        )

    def digests(self, ids: Sequence[int]) -> dict[int, str]:
        """Return the digest of each id that has one."""
        found: dict[int, str] = {}
        for block in blocks(ids):
            marks = ",".join("?" * len(block))
            found.update(
                self._database.query(
                    f"SELECT id, digest FROM items WHERE id IN ({marks}) AND typeof(digest) = 'text'", block
                )
            )
        return found

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the id of each key that is known."""
        found: dict[str, int] = {}
        # A lone surrogate, from a command line that is no UTF-8, is in no key.
        for block in blocks([key for key in keys if key.isascii() or key.encode(errors="replace").decode() == key]):
            marks = ",".join("?" * len(block))
            found.update(self._database.query(f"SELECT key, id FROM items WHERE key IN ({marks})", block))
        return found

    def matching(self, conditions: Conditions) -> Ids:
        """Return the ids that meet all conditions, ascending; those of the last few lists of conditions are kept."""
        name = repr(conditions)
        found = self._matching.pop(name, None)
        if found is None:
            found = self._found(conditions)
        self._matching[name] = found
        # Another thread may be at it as well; one list more or less does no harm.
        for old in list(self._matching)[:-_CONDITIONS_KEPT]:
            self._matching.pop(old, None)
        return found

    def _found(self, conditions: Conditions) -> Ids:
        """Look up what can be, and read the items for the rest: few of them where few are left."""
        found: Ids | None = None
        rest: list[Condition] = []
        for condition in conditions:
            if condition.field not in (*ITEM_FIELDS, *self._fields):
                rest.append(condition)
                continue
            ids = self._looked_up(condition)
            found = ids if found is None else np.intersect1d(found, ids, assume_unique=True)
        if not rest:
            assert found is not None
            return found
        sql, values = compile_conditions(tuple(rest))
        if found is not None and len(found) <= self._items // _FEW:
            return np.array(sorted(self.matching_among((sql, values), found.tolist())), np.int64)
        scanned = self._scans.ids(f"SELECT id FROM items WHERE {sql} ORDER BY id", values)
        return scanned if found is None else np.intersect1d(found, scanned, assume_unique=True)

    def _looked_up(self, condition: Condition) -> Ids:
        if condition.field in ITEM_FIELDS:
            sql, values = compile_conditions((condition,))
            # Not in order: SQLite would read all items to have them so.
            return np.sort(self._scans.ids(f"SELECT id FROM items WHERE {sql}", values))
        sql, values = look_up(condition, self._fields.index(condition.field))
        ids = np.unique(self._scans.ids(f"SELECT id FROM fields WHERE {sql}", values))
        if ids.size and not 0 <= ids[0] <= ids[-1] < self._items:
            raise self._damaged(f"the field {condition.field!r} of item {ids[-1]}")
        return ids

    def _damaged(self, what: str) -> IndexDamagedError:
        return IndexDamagedError(f"{self._database.path} is damaged ({what}); restore it or build the index anew.")

    def matching_among(self, condition: SqlCondition, ids: Sequence[int]) -> set[int]:
        """Return those of some ids that meet a condition."""
        sql, values = condition
        found: set[int] = set()
        for block in blocks(ids):
            marks = ",".join("?" * len(block))
            rows = self._database.query(f"SELECT id FROM items WHERE id IN ({marks}) AND {sql}", [*block, *values])
            found.update(item for (item,) in rows)
        return found

    def all_names(self) -> Iterator[tuple[range, list[Name]]]:
        """Yield ids, and key, label and metadata of each, in blocks."""
        start = 0
        while rows := self._database.query(
            "SELECT key, label, metadata FROM items WHERE id >= ? ORDER BY id LIMIT ?", (start, _PER_BLOCK)
        ):
            yield range(start, start + len(rows)), rows
            start += len(rows)

    def check(self) -> int:
        """Let SQLite check the whole file, and return how many items it holds.

        Raises:
            IndexDamagedError: The check finds a fault.
        """
        self._database.check()
        for number, field in enumerate(self._fields):
            if self._database.query(*differences(number, field)):
                raise self._damaged(f"the field {field!r} is not what the items have")
        ((count,),) = self._database.query("SELECT count(*) FROM items")
        return int(count)


class CatalogueWriter:
    """Writes a new catalogue in one transaction.

    Args:
        path: Where the file goes; it must not exist.
        fields: Fields of the metadata that can be looked up afterwards.
    """

    def __init__(self, path: Path, fields: Sequence[str] = ()) -> None:
        self._fields = fields
        with within_sqlite:
            self._connection = sqlite3.connect(path, isolation_level=None)
            # The unpublished folder is thrown away after a crash, and fsynced as a whole before it is published.
            # The journal stays in memory rather than off: without one, SQLite cannot take back a refused block.
            self._connection.executescript("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;" + _SCHEMA)
            if fields:
                self._connection.executescript(SCHEMA)
            self._connection.execute("BEGIN")

    def add(self, first_id: int, items: Items) -> None:
        """Add items with ids from `first_id` on: all of them, or none if one is refused.

        Raises:
            KeyTwiceError: A key is there already, or comes twice.
        """
        with within_sqlite:
            self._add(range(first_id, first_id + len(items)), items)

    def _add(self, ids: range, items: Items) -> None:
        execute = self._connection.execute
        execute("SAVEPOINT block")
        try:
            rows = zip(ids, items.keys, items.labels, items.metadata, items.digests, strict=True)
            self._connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
            pictures = ((item, jpeg) for item, jpeg in zip(ids, items.thumbnails, strict=True) if jpeg is not None)
            self._connection.executemany("INSERT INTO thumbnails VALUES (?, ?)", pictures)
        except BaseException as error:
            if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
                execute("ROLLBACK TO block")
            if not isinstance(error, sqlite3.IntegrityError):
                raise
            seen = set(self._stored(items.keys))
            twice = next(key for key in items.keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise KeyTwiceError(f"Keys must be unique. Received twice: {twice!r}.") from error
        finally:
            if self._connection.in_transaction:
                execute("RELEASE block")

    def _stored(self, keys: Sequence[str]) -> Iterator[str]:
        for key in keys:
            if self._connection.execute("SELECT 1 FROM items WHERE key = ?", (key,)).fetchone():
                yield key

    def close(self, *, commit: bool) -> None:
        """Close the file, keeping what was added only if `commit`."""
        with within_sqlite:
            self._close(commit)

    def _close(self, commit: bool) -> None:
        try:
            if not self._connection.in_transaction:
                if commit:
                    raise sqlite3.OperationalError("an earlier write failed, and all was taken back")
                return
            if commit:
                fill(self._connection, self._fields)
                self._connection.execute(_INDEX)
            self._connection.execute("COMMIT" if commit else "ROLLBACK")
        finally:
            self._connection.close()
