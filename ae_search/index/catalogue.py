"""The catalogue: what each id of the forest stands for, in one SQLite file."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ae_search.errors import ConfigurationError, IndexDamagedError

CATALOGUE = "catalogue.sqlite"
CATALOGUE_FORMAT = 1

# Below SQLITE_MAX_VARIABLE_NUMBER of every SQLite release (999 before 3.32).
_IDS_PER_QUERY = 500

_SCHEMA = f"""
CREATE TABLE items (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, label TEXT);
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY, jpeg BLOB);
PRAGMA user_version = {CATALOGUE_FORMAT};
"""

Row = tuple[str, str | None]


class Catalogue:
    """Reads a catalogue; one connection that threads take turns on.

    Args:
        path: The SQLite file; it is opened read-only.
        items: How many items it must hold, with ids 0 to `items` - 1.

    Raises:
        IndexDamagedError: It is missing or damaged, or holds other items.
        ConfigurationError: It has a newer format than this release reads.
    """

    def __init__(self, path: Path, items: int) -> None:
        self._path = path
        self._lock = threading.Lock()
        with _damage_named(path):
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
            )
        try:
            self._check(items)
        except BaseException:
            self._connection.close()
            raise
        self.count = items

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Return key and label of each id, in the order asked.

        Raises:
            IndexDamagedError: The file is damaged or lacks an id.
        """
        found: dict[int, Row] = {}
        for start in range(0, len(ids), _IDS_PER_QUERY):
            block = ids[start : start + _IDS_PER_QUERY]
            marks = ",".join("?" * len(block))
            for item, key, label in self._query(f"SELECT id, key, label FROM items WHERE id IN ({marks})", block):
                found[item] = key, label
        try:
            return [found[item] for item in ids]
        except KeyError as error:
            raise IndexDamagedError(f"{self._path} lacks item {error}; restore it or build the index anew.") from error

    def thumbnail(self, item: int) -> bytes | None:
        """Return the JPEG of an id, None where none is stored."""
        rows = self._query("SELECT jpeg FROM thumbnails WHERE id = ?", (item,))
        return rows[0][0] if rows else None

    def id_of(self, key: str) -> int | None:
        """Return the id of a key, None for an unknown key."""
        rows = self._query("SELECT id FROM items WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def labels(self) -> list[str | None]:
        """Return the labels of all items, by id."""
        return [label for (label,) in self._query("SELECT label FROM items ORDER BY id")]

    def keys(self) -> list[str]:
        """Return the keys of all items, by id."""
        return [key for (key,) in self._query("SELECT key FROM items ORDER BY id")]

    def _query(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock, _damage_named(self._path):
            return self._connection.execute(sql, values).fetchall()

    def _check(self, items: int) -> None:
        (version,) = self._query("PRAGMA user_version")[0]
        if version > CATALOGUE_FORMAT:
            raise ConfigurationError(
                f"{self._path} has format {version}, newer than {CATALOGUE_FORMAT}; upgrade ae-search."
            )
        if version != CATALOGUE_FORMAT:
            raise IndexDamagedError(f"{self._path} is no catalogue (user_version {version}).")
        found = self._query("SELECT count(*), min(id), max(id) FROM items")[0]
        if found != (items, 0, items - 1):
            raise IndexDamagedError(
                f"{self._path} does not belong to its manifest: expected {items} items with ids 0 to {items - 1}. "
                f"Received: {found[0]} with ids {found[1]} to {found[2]}."
            )


class CatalogueWriter:
    """Writes a new catalogue in one transaction.

    Args:
        path: Where the file goes; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        # The unpublished folder is thrown away after a crash, and fsynced as a whole before it is published.
        # The journal stays in memory rather than off: without one, SQLite cannot take back a refused block.
        self._connection.executescript("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;" + _SCHEMA)
        self._connection.execute("BEGIN")

    def add(
        self,
        first_id: int,
        keys: Sequence[str],
        labels: Sequence[str | None],
        thumbnails: Sequence[bytes | None],
    ) -> None:
        """Add items with ids from `first_id` on: all of them, or none if one is refused.

        Args:
            first_id: Id of the first item.
            keys: One key for each item.
            labels: As many labels.
            thumbnails: As many JPEG files, or none at all.

        Raises:
            ConfigurationError: A key occurs twice or is no Unicode text.
            TypeError: A key or a label is no string.
        """
        for text in (*keys, *labels):
            _check_text(text)
        ids = range(first_id, first_id + len(keys))
        execute = self._connection.execute
        execute("SAVEPOINT block")
        try:
            self._connection.executemany("INSERT INTO items VALUES (?, ?, ?)", zip(ids, keys, labels, strict=True))
            pictures = ((item, jpeg) for item, jpeg in zip(ids, thumbnails, strict=False) if jpeg is not None)
            self._connection.executemany("INSERT INTO thumbnails VALUES (?, ?)", pictures)
        except sqlite3.IntegrityError as error:
            twice = self._first_duplicate(first_id, keys)
            execute("ROLLBACK TO block")
            raise ConfigurationError(f"Keys must be unique. Received twice: {twice!r}.") from error
        finally:
            execute("RELEASE block")

    def close(self, *, commit: bool) -> None:
        """Close the file, keeping what was added only if `commit`."""
        try:
            if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
                self._connection.execute("COMMIT" if commit else "ROLLBACK")
        finally:
            self._connection.close()

    def _first_duplicate(self, first_id: int, keys: Sequence[str]) -> str | None:
        for item, key in enumerate(keys, first_id):
            row = self._connection.execute("SELECT id FROM items WHERE key = ?", (key,)).fetchone()
            if row and row[0] != item:
                return key
        return None


def _check_text(text: str | None) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        raise TypeError(f"Keys and labels must be strings. Received: {text!r} of type {type(text).__name__}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a file name that is not UTF-8 comes with lone surrogates
        raise ConfigurationError(f"Keys and labels must be Unicode text; rename {text!r}.") from error


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise ValueError("The index is closed.") from error
    except sqlite3.DatabaseError as error:
        raise IndexDamagedError(f"{path} cannot be read ({error}); restore it or build the index anew.") from error
