"""SQLite files of an index, read with precautions, their errors told as ours."""

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

# Below SQLITE_MAX_VARIABLE_NUMBER of every SQLite release (999 before 3.32).
_PER_QUERY = 500
_SCHEMA_QUERY = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"


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
