"""SQLite files of an index, read with precautions, their errors told as ours."""

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ae_search.errors import ConfigurationError, IndexBusyError, IndexDamagedError
from ae_search.index.shortage import unreadable
from ae_search.index.sqlite.gate import within_sqlite
from ae_search.index.sqlite.side_files import check_read, check_written
from ae_search.nearest.comparing import Ids

Answer = TypeVar("Answer")

# Below SQLITE_MAX_VARIABLE_NUMBER of every SQLite release (999 before 3.32).
_PER_QUERY = 500
_SCHEMA_QUERY = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"


class Database:
    """An SQLite file that is read by threads in turn, its errors told as ours.

    Args:
        path: The file.
        may_change: Whether a writer may change it meanwhile; if not, SQLite takes no lock.
        busy_s: How long to wait while another process commits, in s.

    Raises:
        IndexDamagedError: It is no database, or something lies beside it that no writer of ours leaves.
    """

    def __init__(self, path: Path, *, may_change: bool, busy_s: float = 5.0) -> None:
        self.path, self._may_change = path, may_change
        self._lock = threading.Lock()
        check_read(path, may_change=may_change)
        with within_sqlite, damage_named(path):
            # A file that never changes needs no lock, and a folder that cannot be written will do.
            connection = connect(path, "mode=ro" if may_change else "mode=ro&immutable=1", busy_s=busy_s)
        self._connection = connection
        # Closed with its last user: another thread may be in the middle of a search.
        weakref.finalize(self, connection.close)
        # What never changes is read without a log, whatever its header says.
        if may_change and self.query("PRAGMA journal_mode") != [("delete",)]:
            raise IndexDamagedError(f"{path} has a write-ahead log, unlike any index; restore it or build it anew.")

    def check_schema(self, script: str) -> None:
        """Check that the file has the tables of a script and nothing else: no views, no triggers.

        Raises:
            IndexDamagedError: It has others.
        """
        if self.query(_SCHEMA_QUERY) != _schema_of(script):
            raise IndexDamagedError(f"{self.path} has other tables than it should; restore it or build the index anew.")

    def query(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[Any]:
        """Run one statement.

        Raises:
            IndexDamagedError: The file is damaged.
        """
        with self._reading():
            return self._first(lambda: self._connection.execute(sql, values).fetchall())

    def ids(self, sql: str, values: Sequence[object] = ()) -> Ids:
        """Run one statement that returns rows of one number, as an array `[n]`.

        Raises:
            IndexDamagedError: The file is damaged.
        """
        with self._reading():
            rows = self._first(lambda: self._connection.execute(sql, values))
            try:
                return np.fromiter((item for (item,) in rows), np.int64)
            except (TypeError, ValueError, OverflowError) as error:
                raise IndexDamagedError(
                    f"{self.path} is damaged (an id is no number); restore it or build the index anew."
                ) from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in one read transaction, so that several statements see one state."""
        with self._reading():
            self._connection.execute("BEGIN")
            try:
                self._first(lambda: self._connection.execute("PRAGMA schema_version").fetchall())
                yield self._connection
            finally:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, within_sqlite, damage_named(self.path):
            yield

    def _first(self, read: Callable[[], Answer]) -> Answer:
        """Do what takes the read lock; half a change that a killed writer left in the file is taken back first."""
        if not self._may_change:
            return read()
        check_read(self.path, may_change=True)
        try:
            return read()
        except sqlite3.OperationalError as error:
            # An error of decoding a text has no code.
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        # A connection that only reads leaves it to one that may write. SQLite's own locks keep two from doing so at
        # once, and from doing so while the writer lives.
        check_written(self.path)
        with closing(connect(self.path, "mode=rw")) as connection:
            connection.execute("PRAGMA schema_version").fetchall()
        return read()

    def check(self) -> None:
        """Let SQLite check the whole file.

        Raises:
            IndexDamagedError: It finds a fault.
        """
        with self.reading() as connection:
            # Nobody writes meanwhile. SQLite reads the missing end of a last page as zeros.
            ((size,),) = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            verdict = "ok" if self.path.stat().st_size >= size else "it is cut short"
            if verdict == "ok":
                ((verdict,), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if verdict != "ok":
            raise IndexDamagedError(f"{self.path} is damaged ({verdict}); restore it or build the index anew.")


def connect(path: Path, mode: str, *, busy_s: float = 5.0) -> sqlite3.Connection:
    """Open a checked database with SQLite's precautions for files of strangers (sqlite.org/security.html).

    Args:
        path: The file.
        mode: URI parameters of SQLite.
        busy_s: How long to wait while another process commits, in s.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        check_same_thread=False,
        isolation_level=None,
        timeout=busy_s,
    )
    try:
        # These do not read the file.
        for precaution in ("trusted_schema = OFF", "cell_size_check = ON", f"query_only = {mode != 'mode=rw'}"):
            connection.execute(f"PRAGMA {precaution}")
    except BaseException:
        connection.close()
        raise
    return connection


@cache
def _schema_of(script: str) -> list[Any]:
    """Return what SQLite makes of a script."""
    with within_sqlite, closing(sqlite3.connect(":memory:")) as model:
        model.executescript(script)
        return model.execute(_SCHEMA_QUERY).fetchall()


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
    except MemoryError as error:
        raise unreadable(path, error) from error
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
        raise unreadable(path, error) from error


def _primary_code(error: sqlite3.DatabaseError) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
