"""What this process has run out of, told as that and not as damage to a file."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMFILE, ENFILE, ENOMEM
from pathlib import Path

from ae_search.errors import AeSearchError, ConfigurationError, IndexDamagedError

_MEMORY = "memory has run out; close something, or allow this process more (ulimit -v, a container's limit)"
_OWN_FILES = "this process has too many files open; close some, or allow it more (ulimit -n)"
_ALL_FILES = "the system has too many files open; close some, or allow it more (fs.file-max)"
_BY_NUMBER = {ENOMEM: _MEMORY, EMFILE: _OWN_FILES, ENFILE: _ALL_FILES}
# Annoy gives the number at the end of its text only.
_AT_END = re.compile(r"\((\d+)\)\s*$")


class ShortageError(ConfigurationError):
    """Memory or file descriptors ran out, which says nothing about the index."""


def unreadable(path: Path, error: Exception) -> AeSearchError:
    """Return the error to raise where a file of an index cannot be read."""
    if what := _shortage(error):
        return ShortageError(f"Cannot read {path}: {what}.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return IndexDamagedError(f"Cannot read {path}: {reason}; restore it or build the index anew.")


@contextmanager
def shortage_named(path: Path) -> Iterator[None]:
    """Tell what ran out while an index is read, whatever it was taken for.

    Raises:
        ShortageError: Memory or file descriptors ran out.
    """
    try:
        yield
    except ShortageError:
        raise
    except (AeSearchError, OSError, MemoryError) as error:
        if what := _shortage(error):
            raise ShortageError(f"Cannot read {path}: {what}.") from error
        raise


def _shortage(error: BaseException | None) -> str | None:
    """Return what ran out, looking at the causes of an error as well."""
    if error is None:
        return None
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError):
        number = error.errno
        if number is None and (match := _AT_END.search(str(error))):
            number = int(match[1])
        return _BY_NUMBER.get(number or 0)
    if isinstance(error, sqlite3.Error):
        return _shortage_of_sqlite(error)
    return _shortage(error.__cause__)


def _shortage_of_sqlite(error: sqlite3.Error) -> str | None:
    code = getattr(error, "sqlite_errorcode", 0)
    if code in (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR_NOMEM):
        return _MEMORY
    if code & 0xFF == sqlite3.SQLITE_CANTOPEN:
        # SQLite keeps the system's reason to itself, so that it has to be tried again.
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as reason:
            return _BY_NUMBER.get(reason.errno or 0)
    return None
