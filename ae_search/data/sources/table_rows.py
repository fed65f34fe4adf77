"""Rows of a table of images, CSV or Parquet: checked, and kept in a file on disk."""

import csv
import json
import re
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ae_search.contract import MAX_TEXT_BYTES, metadata_json
from ae_search.data.sources.local_file import open_local
from ae_search.errors import ConfigurationError
from ae_search.exchange.parquet_rows import column_names, read_rows

PATH_COLUMNS = ("path", "file", "file_name", "uri")
_METADATA, _PREFIX = "metadata", "metadata_"
_MAX_LINE = 2 << 20
# As JSON writes numbers; a text such as 007 is none.
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,17})?([eE][+-]?\d{1,2})?")


class Row(NamedTuple):
    """One image of a table: its path as the table has it, and metadata as JSON or None for none."""

    key: str
    path: str
    label: str | None
    metadata: str | None


class TableRows:
    """The rows of a table, in a file that goes with this object.

    Args:
        path: The table's local file.
        name: What to call it in an error.
        separator: What separates the columns of a text file; None for Parquet.

    Attributes:
        labels: The label of each row.
        not_taken: Names of columns that say nothing here.

    Raises:
        ConfigurationError: It cannot be read, a column is missing, a row is malformed, or a key occurs twice.
    """

    def __init__(self, path: Path, name: str, separator: str | None) -> None:
        self._name, self._lock = name, threading.Lock()
        self.labels: list[str | None] = []
        try:
            self._open()
            self._read(path, separator)
        except sqlite3.OperationalError as error:
            raise ConfigurationError(f"Cannot keep the rows of {name} in {tempfile.gettempdir()}: {error}.") from error

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    def __getitem__(self, position: int) -> Row:
        """Return a row."""
        with self._lock:
            found = self._rows.execute("SELECT key, path, metadata FROM rows WHERE id = ?", (position,)).fetchone()
        key, path, metadata = found
        return Row(key, path, self.labels[position], metadata)

    def position(self, key: str) -> int | None:
        """Return where a key is, None where it is none of these."""
        if any("\ud800" <= letter <= "\udfff" for letter in key):
            return None
        with self._lock:
            found = self._rows.execute("SELECT id FROM rows WHERE key = ?", (key,)).fetchone()
        return None if found is None else int(found[0])

    def _open(self) -> None:
        # Ten million rows have no place in memory.
        file = tempfile.NamedTemporaryFile(prefix="ae-search-", suffix=".sqlite")  # noqa: SIM115
        self._rows = sqlite3.connect(file.name, isolation_level=None, check_same_thread=False)
        weakref.finalize(self, _close, self._rows, file)
        self._rows.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE rows (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, path TEXT NOT NULL, metadata TEXT);"
        )

    def _read(self, path: Path, separator: str | None) -> None:
        shared: dict[str, str] = {}
        names, rows = _parquet(path) if separator is None else _csv(path, self._name, separator)
        column = self._path_column(names)
        self._rows.execute("BEGIN")
        number = 0
        for number, raw in enumerate(_told(rows, self._name), 1):
            try:
                row = _checked(raw, column)
                self._rows.execute(
                    "INSERT INTO rows VALUES (?, ?, ?, ?)", (number - 1, row.key, row.path, row.metadata)
                )
            except sqlite3.IntegrityError as error:
                raise ConfigurationError(f"{self._name}, row {number}: its key {row.key} occurs twice.") from error
            except (ValueError, TypeError, RecursionError) as error:
                raise ConfigurationError(f"{self._name}, row {number}: {error}.") from error
            self.labels.append(None if row.label is None else shared.setdefault(row.label, row.label))
        self._rows.execute("COMMIT")
        if not number:
            raise ConfigurationError(f"{self._name} holds no row.")
        self.not_taken = [name for name in names if not _is_taken(name) and name != column]

    def _path_column(self, names: list[str]) -> str:
        for column in PATH_COLUMNS:
            if column in names:
                return column
        raise ConfigurationError(
            f"{self._name} needs a column {' or '.join(PATH_COLUMNS)}. Received: {', '.join(names[:20])}."
        )


def _close(rows: sqlite3.Connection, file: Any) -> None:
    rows.close()
    file.close()


def _is_taken(name: str) -> bool:
    return name in ("key", "label", _METADATA) or name.startswith(_PREFIX)


def _parquet(path: Path) -> tuple[list[str], Iterable[dict[str, Any]]]:
    names = column_names(path)
    column = next((name for name in PATH_COLUMNS if name in names), None)
    return names, read_rows(path, lambda name: name == column or _is_taken(name))


def _csv(path: Path, name: str, separator: str) -> tuple[list[str], Iterable[dict[str, Any]]]:
    try:
        rows = csv.DictReader(_lines(path), delimiter=separator, strict=True, restkey="", restval=None)
        names = [str(one) for one in rows.fieldnames or []]
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigurationError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{name} has two columns of one name: {', '.join(names[:20])}.")

    def numbers(row: dict[str, Any]) -> dict[str, Any]:
        if "" in row and "" not in names:
            raise ValueError("it has more values than there are columns")
        return {
            one: json.loads(text) if one.startswith(_PREFIX) and text and _NUMBER.fullmatch(text) else text or None
            for one, text in row.items()
        }

    return names, map(numbers, rows)


def _lines(path: Path) -> Iterator[str]:
    with open_local(path) as file:
        first = True
        while line := file.readline(_MAX_LINE + 1):
            if len(line) > _MAX_LINE:
                raise ValueError(f"a line is longer than {_MAX_LINE} bytes")
            yield line.decode("utf-8-sig" if first else "utf-8")
            first = False


def _told(rows: Iterable[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """Yield rows; tell what CSV raises on the way."""
    number, members = 0, iter(rows)
    while True:
        number += 1
        try:
            row = next(members)
        except StopIteration:
            return
        except (ValueError, OSError, csv.Error) as error:
            raise ConfigurationError(f"{name}, row {number}: {error}.") from error
        yield row


def _checked(raw: dict[str, Any], column: str) -> Row:
    path = _text(raw.get(column), column)
    if path is None:
        raise ValueError(f"it has no {column}")
    key = _text(raw.get("key"), "key") or path
    metadata: dict[str, Any] = {}
    if (told := raw.get(_METADATA)) is not None:
        metadata = json.loads(str(told))
        if not isinstance(metadata, dict):
            raise ValueError("metadata are an object as a JSON text")
    own = {name.removeprefix(_PREFIX): value for name, value in raw.items() if name.startswith(_PREFIX)}
    metadata |= {name: value for name, value in own.items() if value is not None}
    return Row(key, path, _text(raw.get("label"), "label"), metadata_json(key, metadata) if metadata else None)


def _text(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    text = str(value)
    if "\0" in text or len(text.encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"a {name} is a text of at most {MAX_TEXT_BYTES} bytes without NUL")
    return text
