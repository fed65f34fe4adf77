"""The catalogue: keys, labels, metadata and thumbnails of a forest's items, in one SQLite file that never changes."""

import json
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.errors import ConfigurationError, IndexBusyError, IndexDamagedError
from ae_search.index.comparing import Ids
from ae_search.index.items import Items
from ae_search.index.names import Name
from ae_search.index.where import Condition

CATALOGUE = "catalogue.sqlite"

# Below SQLITE_MAX_VARIABLE_NUMBER of every SQLite release (999 before 3.32).
_PER_QUERY = 500
_PER_BLOCK = 4096
_CONDITIONS_KEPT = 8
# SQLite need not lock such a file, and a folder that cannot be written will do.
_UNCHANGING = "mode=ro&immutable=1"

_SCHEMA_QUERY = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"

_SCHEMA = """
CREATE TABLE items (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, label TEXT, metadata TEXT);
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY, jpeg BLOB);
"""
# Made after the rows, when it is one sort.
_INDEX = "CREATE INDEX items_label ON items (label);"


class Catalogue:
    """Reads a catalogue; one connection that threads take turns on.

    Args:
        path: The SQLite file, proved to be the one that its manifest describes.
        items: How many items it must hold, with ids 0 to `items` - 1.

    Raises:
        IndexDamagedError: SQLite cannot open it, or it has other tables or items.
    """

    def __init__(self, path: Path, items: int) -> None:
        self._database = Database(path, _UNCHANGING)
        self._database.check_schema(_SCHEMA + _INDEX)
        ((low, high),) = self._database.query("SELECT min(id), max(id) FROM items")
        if items and (low, high) != (0, items - 1):
            raise IndexDamagedError(
                f"{path} does not belong to its manifest: expected ids 0 to {items - 1}. Received: {low} to {high}."
            )
        # A scan takes a while, and must not keep look-ups waiting.
        self._scans = Database(path, _UNCHANGING)
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

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the id of each key that is known."""
        found: dict[str, int] = {}
        # A lone surrogate, from a command line that is no UTF-8, is in no key.
        for block in blocks([key for key in keys if key.isascii() or key.encode(errors="replace").decode() == key]):
            marks = ",".join("?" * len(block))
            found.update(self._database.query(f"SELECT key, id FROM items WHERE key IN ({marks})", block))
        return found

    def matching(self, condition: Condition) -> Ids:
        """Return the ids that meet a condition, ascending; those of the last few conditions are kept."""
        sql, values = condition
        name = json.dumps(condition)
        found = self._matching.pop(name, None)
        if found is None:
            found = self._scans.ids(f"SELECT id FROM items WHERE {sql} ORDER BY id", values)
        self._matching[name] = found
        # Another thread may be at it as well; one condition more or less does no harm.
        for old in list(self._matching)[:-_CONDITIONS_KEPT]:
            self._matching.pop(old, None)
        return found

    def matching_among(self, condition: Condition, ids: Sequence[int]) -> set[int]:
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
        ((count,),) = self._database.query("SELECT count(*) FROM items")
        return int(count)


class CatalogueWriter:
    """Writes a new catalogue in one transaction.

    Args:
        path: Where the file goes; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        # The unpublished folder is thrown away after a crash, and fsynced as a whole before it is published.
        # The journal stays in memory rather than off: without one, SQLite cannot take back a refused block.
        self._connection.executescript("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;" + _SCHEMA)
        self._connection.execute("BEGIN")

    def add(self, first_id: int, items: Items) -> None:
        """Add items with ids from `first_id` on: all of them, or none if one is refused.

        Raises:
            ConfigurationError: A key is there already.
        """
        ids = range(first_id, first_id + len(items))
        execute = self._connection.execute
        execute("SAVEPOINT block")
        try:
            rows = zip(ids, items.keys, items.labels, items.metadata, strict=True)
            self._connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
            pictures = ((item, jpeg) for item, jpeg in zip(ids, items.thumbnails, strict=True) if jpeg is not None)
            self._connection.executemany("INSERT INTO thumbnails VALUES (?, ?)", pictures)
        except BaseException as error:
            if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
                execute("ROLLBACK TO block")
            if not isinstance(error, sqlite3.IntegrityError):
                raise
            known = (key for key in items.keys if execute("SELECT 1 FROM items WHERE key = ?", (key,)).fetchone())
            raise ConfigurationError(f"Keys must be unique. Received twice: {next(known)!r}.") from error
        finally:
            if self._connection.in_transaction:
                execute("RELEASE block")

    def close(self, *, commit: bool) -> None:
        """Close the file, keeping what was added only if `commit`."""
        try:
            if not self._connection.in_transaction:
                if commit:
                    raise sqlite3.OperationalError("an earlier write failed, and all was taken back")
                return
            if commit:
                self._connection.execute(_INDEX)
            self._connection.execute("COMMIT" if commit else "ROLLBACK")
        finally:
            self._connection.close()


class Database:
    """An SQLite file that is read by threads in turn, its errors told as ours.

    Args:
        path: The file.
        options: URI parameters of SQLite.
        busy_s: How long to wait while another process commits, in s.
    """

    def __init__(self, path: Path, options: str, *, busy_s: float = 5.0) -> None:
        self.path = path
        self._lock = threading.Lock()
        with damage_named(path):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?{options}",
                uri=True,
                check_same_thread=False,
                isolation_level=None,
                timeout=busy_s,
            )
        self._connection = connection
        # Closed with its last user: another thread may be in the middle of a search.
        weakref.finalize(self, connection.close)
        # As SQLite advises for files of strangers (sqlite.org/security.html).
        for precaution in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
            self.query(f"PRAGMA {precaution}")

    def check_schema(self, script: str) -> None:
        """Check that the file has the tables of a script and nothing else: no views, no triggers.

        Raises:
            IndexDamagedError: It has others.
        """
        with closing(sqlite3.connect(":memory:")) as model:
            model.executescript(script)
            expected = model.execute(_SCHEMA_QUERY).fetchall()
        if self.query(_SCHEMA_QUERY) != expected:
            raise IndexDamagedError(f"{self.path} has other tables than it should; restore it or build the index anew.")

    def query(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Run one statement.

        Raises:
            IndexDamagedError: The file is damaged.
        """
        with self._lock, damage_named(self.path):
            return self._connection.execute(sql, values).fetchall()

    def ids(self, sql: str, values: Sequence[object] = ()) -> Ids:
        """Run one statement that returns rows of one number, as an array `[n]`.

        Raises:
            IndexDamagedError: The file is damaged.
        """
        with self._lock, damage_named(self.path):
            return np.fromiter((item for (item,) in self._connection.execute(sql, values)), np.int64)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in one read transaction, so that several statements see one state."""
        with self._lock, damage_named(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("ROLLBACK")

    def check(self) -> None:
        """Let SQLite check the whole file.

        Raises:
            IndexDamagedError: It finds a fault.
        """
        with self.reading() as connection:
            # Nobody writes meanwhile. What lacks of the last page, SQLite takes for zeros.
            ((size,),) = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            verdict = "ok" if self.path.stat().st_size >= size else "it is cut short"
            if verdict == "ok":
                ((verdict,), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if verdict != "ok":
            raise IndexDamagedError(f"{self.path} is damaged ({verdict}); restore it or build the index anew.")


def blocks(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Cut into lists that one statement can bind."""
    for start in range(0, len(values), _PER_QUERY):
        yield list(values[start : start + _PER_QUERY])


def ids_array(rows: list[tuple[int]]) -> Ids:
    """Return rows of one number each as an array `[n]`."""
    return np.fromiter((item for (item,) in rows), np.int64, len(rows))


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Tell SQLite's errors about a file as `IndexDamagedError`, or `IndexBusyError` where it is only locked."""
    try:
        yield
    except UnicodeDecodeError as error:  # within SQLite's own complaint
        raise IndexDamagedError(f"{path} cannot be read; restore it or build the index anew.") from error
    except sqlite3.DatabaseError as error:
        if _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise IndexBusyError(f"{path} is being changed by another process; try again.") from error
        if _primary_code(error) == sqlite3.SQLITE_READONLY:
            raise ConfigurationError(
                f"The last change of {path} was cut off, and this process may not write there to take it back; run "
                "`ae-search index info` once as a user who may."
            ) from error
        raise IndexDamagedError(f"{path} cannot be read ({error}); restore it or build the index anew.") from error


def _primary_code(error: sqlite3.DatabaseError) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
