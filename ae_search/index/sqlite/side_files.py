"""The files that SQLite looks for beside a database and believes: checked before SQLite sees the database.

From a hot journal, SQLite writes pages into the database and deletes the file that the journal's last bytes name, the
super-journal of a transaction over several databases. Our writer changes one database, with a rollback journal.

Nothing here may open the database itself: to close it again would drop all locks that SQLite holds on it for this
process (man 2 fcntl).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ae_search.errors import IndexDamagedError
from ae_search.files import check_one_name, open_regular, regular_stat
from ae_search.index.shortage import unreadable

JOURNAL = "-journal"
# Files of the write-ahead log, which no writer of ours ever had.
FOREIGN = ("-wal", "-shm")

# The end of a journal that names a super-journal, whatever the size of its sectors and pages (`readSuperJournal` in
# SQLite's pager.c); before it come the name, its length and its checksum.
_MAGIC = bytes.fromhex("d9d505f920a163d7")


def check_read(database: Path, *, may_change: bool) -> None:
    """Check a database that is to be read, and what lies beside it.

    Args:
        database: The SQLite file.
        may_change: Whether it has a journal now and then.

    Raises:
        IndexDamagedError: Something is there that no writer of ours leaves.
    """
    # Texts, because this is done before each reading: a path is put together anew in 10 times the time.
    name = os.fspath(database)
    try:
        regular_stat(place := name)
        with suppress(FileNotFoundError):
            regular_stat(place := name + JOURNAL)
            if not may_change:
                raise _foreign(place)
        for suffix in FOREIGN:
            if os.path.lexists(place := name + suffix):
                raise _foreign(place)
    except OSError as error:
        raise unreadable(Path(place), error) from error


def _foreign(name: str) -> IndexDamagedError:
    return IndexDamagedError(f"{name} should not be there; remove it, or build the index anew.")


def check_written(database: Path) -> None:
    """Check a database that is to be opened for writing: SQLite writes into it and its journal, whatever they are.

    Raises:
        IndexDamagedError: One of them is a link or no file, or the journal names a file to be deleted.
    """
    check_read(database, may_change=True)
    with _refusals(database):
        check_one_name(database, regular_stat(database))
    journal = Path(f"{database}{JOURNAL}")
    with _refusals(journal), suppress(FileNotFoundError):
        descriptor = open_regular(journal)
        try:
            check_one_name(journal, found := os.fstat(descriptor))
            tail = os.pread(descriptor, len(_MAGIC), max(0, found.st_size - len(_MAGIC)))
        finally:
            os.close(descriptor)
        if tail == _MAGIC:
            raise IndexDamagedError(
                f"{journal} makes SQLite delete another file, as no writer of an index does; remove it, or build the "
                "index anew."
            )


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error
