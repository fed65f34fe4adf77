"""Labels and metadata from a file of JSON lines, kept on disk while images are indexed."""

import json
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ae_search.contract import metadata_json
from ae_search.errors import ConfigurationError

_MAX_LINE_BYTES = 2 << 20
_FIELDS = {"key", "label", "metadata"}


class MetadataFile:
    """What a file says of the items of an index.

    Each line is an object `{"key": ..., "label": ..., "metadata": {...}}`; label and metadata may be missing.

    Args:
        path: The file.

    Raises:
        ConfigurationError: It cannot be read, a line is no such object, or a key occurs twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._open()
        except (OSError, sqlite3.OperationalError) as error:
            raise ConfigurationError(f"Cannot keep the lines of {path} in {tempfile.gettempdir()}: {error}.") from error
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        # Ten million lines have no place in memory.
        self._file = tempfile.NamedTemporaryFile(prefix="ae-search-", suffix=".sqlite")  # noqa: SIM115
        self._lines = sqlite3.connect(self._file.name, isolation_level=None)
        self._lines.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE lines (key TEXT PRIMARY KEY, line TEXT, used INTEGER DEFAULT 0) WITHOUT ROWID;"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the copy on disk."""
        self._lines.close()
        self._file.close()

    def of(
        self, keys: Sequence[str], labels: Sequence[str | None], metadata: Sequence[dict[str, Any] | None]
    ) -> tuple[list[str | None], list[dict[str, Any] | None]]:
        """Return labels and metadata of some keys; what the file does not name stays as given."""
        found: list[dict[str, Any]] = []
        for key in keys:
            row = self._lines.execute("UPDATE lines SET used = 1 WHERE key = ? RETURNING line", (key,)).fetchall()
            found.append(json.loads(row[0][0]) if row else {})
        return (
            [line.get("label", label) for line, label in zip(found, labels, strict=True)],
            [line.get("metadata", stored) for line, stored in zip(found, metadata, strict=True)],
        )

    def unused(self) -> tuple[int, str | None]:
        """Return how many keys nobody has asked for, and one of them."""
        count, key = self._lines.execute("SELECT count(*), min(key) FROM lines WHERE NOT used").fetchone()
        return count, key

    def _read(self) -> None:
        self._lines.execute("BEGIN")
        number = 0
        try:
            with self._path.open("rb") as file:
                while line := file.readline(_MAX_LINE_BYTES + 1):
                    number += 1
                    if line.strip():
                        self._lines.execute("INSERT INTO lines (key, line) VALUES (?, ?)", _checked(line))
        except OSError as error:
            raise ConfigurationError(f"Cannot read {self._path}: {error.strerror}.") from error
        except sqlite3.OperationalError as error:
            raise ConfigurationError(f"Cannot keep the lines of {self._path}: {error}.") from error
        except sqlite3.IntegrityError as error:
            raise ConfigurationError(f"{self._path}, line {number}: its key occurs twice.") from error
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{self._path}, line {number}: {error}.") from error
        self._lines.execute("COMMIT")


def _checked(line: bytes) -> tuple[str, str]:
    if len(line) > _MAX_LINE_BYTES:
        raise ValueError(f"longer than {_MAX_LINE_BYTES} bytes")
    text = line.decode()
    raw = json.loads(text)
    if not isinstance(raw, dict) or not isinstance(raw.get("key"), str) or not raw.keys() <= _FIELDS:
        raise ValueError('expected an object {"key": "...", "label": "...", "metadata": {...}}')
    if not isinstance(raw.get("label"), str | None) or not isinstance(raw.get("metadata"), dict | None):
        raise ValueError("a label is a text or null, metadata are an object or null")
    for part in (raw["key"], raw.get("label") or ""):
        part.encode()
        if "\0" in part:
            raise ValueError("a key or label holds the character NUL")
    metadata_json(raw["key"], raw.get("metadata"))
    return raw["key"], text
