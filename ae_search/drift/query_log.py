"""The log of queries: Parquet files of what each query looked like, so that a drift can be seen later."""

import logging
import os
import re
import secrets
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ae_search.errors import ConfigurationError
from ae_search.extras import needs
from ae_search.files import make_folder, trouble_in_words, write_atomically
from ae_search.trust import NEIGHBOUR, Trusted

log = logging.getLogger(__name__)

# Sorted by name they are sorted by time; several processes may write into one folder.
_NAME = "queries-{time:%Y%m%dT%H%M%S.%f}Z-{pid}-{chance}.parquet"
NAMES = re.compile(r"queries-\d{8}T\d{6}\.\d{6}Z-\d+-[0-9a-f]{8}\.parquet")


class QueryLog:
    """Notes queries in a folder of Parquet files, each of which appears whole or not at all.

    A row has the time, the similarities of the first ten neighbours, the distance to the tenth, the reconstruction
    error where it was looked at, whether the query is familiar, and the model's fingerprint. Nothing of the query
    itself is kept unless `latents` is set: latents can be decoded back into images.

    Several threads may use one, and several processes one folder. What a process has not written yet when it is killed
    is lost, at most `rows_per_file` queries or those of `seconds_per_file`. A full disk costs rows, never a search.

    Args:
        folder: The folder; made, for its owner only, where it is missing.
        latents: Whether to keep the queries' latents.
        rows_per_file: Queries in a file, at least 1.
        seconds_per_file: Time after which a file is written by the next query although it has fewer, in s.
        max_files: Files to keep in the folder, at least 1; the oldest go.

    Raises:
        ConfigurationError: pyarrow is missing, or the folder cannot be written.

    Example:
        with QueryLog("queries") as log:
            log.add(search.search_with_trust("photo.jpg"))
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        latents: bool = False,
        rows_per_file: int = 4096,
        seconds_per_file: float = 60.0,
        max_files: int = 1000,
    ) -> None:
        if rows_per_file < 1 or max_files < 1 or not seconds_per_file > 0:
            raise ValueError("rows_per_file and max_files must be at least 1, seconds_per_file more than 0.")
        with needs("A query log needs pyarrow", "drift"):
            import pyarrow
            import pyarrow.parquet
        self._pyarrow, self._parquet = pyarrow, pyarrow.parquet
        self._folder = _own_folder(Path(folder))
        self._rows_per_file, self._seconds_per_file, self._max_files = rows_per_file, seconds_per_file, max_files
        self._schema = _schema(pyarrow, latents=latents)
        self._lock = threading.Lock()
        self._rows: list[dict[str, Any]] = []
        self._since = time.monotonic()
        self.lost = 0

    def add(self, found: Trusted, *, time_s: float | None = None) -> None:
        """Note a query; now and then this writes a file.

        Args:
            found: What `search_with_trust` returned.
            time_s: When it was asked, in s since 1970; None for now.
        """
        similarities = [neighbour.similarity for neighbour in found.neighbours[:NEIGHBOUR]]
        row = {
            "time_s": time.time() if time_s is None else time_s,
            "fingerprint": found.fingerprint,
            "similarity": similarities[0] if similarities else None,
            "similarities": similarities,
            "distance": found.trust.distance,
            "error": found.trust.error,
            "familiar": found.trust.familiar,
            "latent": found.latent,
        }
        with self._lock:
            self._rows.append({name: row[name] for name in self._schema.names})
            rows = self._taken() if self._is_full() else []
        self._write(rows)

    def flush(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            rows = self._taken()
        self._write(rows)

    def close(self) -> None:
        """Write what is not written yet; the log may be used on."""
        self.flush()

    def __enter__(self) -> Self:
        """Return the log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is not written yet."""
        self.close()

    def _is_full(self) -> bool:
        return len(self._rows) >= self._rows_per_file or time.monotonic() - self._since >= self._seconds_per_file

    def _taken(self) -> list[dict[str, Any]]:
        rows, self._rows, self._since = self._rows, [], time.monotonic()
        return rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        name = _NAME.format(time=datetime.now(UTC), pid=os.getpid(), chance=secrets.token_hex(4))

        def write(path: Path) -> None:
            path.touch(0o600)
            self._parquet.write_table(self._pyarrow.Table.from_pylist(rows, self._schema), path)

        try:
            write_atomically(self._folder / name, write)
            self._remove_oldest()
        except OSError as error:  # a search that was answered must not fail for its log
            self.lost += len(rows)
            log.warning("%d queries are missing in %s: %s", len(rows), self._folder, trouble_in_words(error))

    def _remove_oldest(self) -> None:
        names = sorted(entry.name for entry in os.scandir(self._folder) if NAMES.fullmatch(entry.name))
        for name in names[: -self._max_files]:
            (self._folder / name).unlink(missing_ok=True)  # another process may remove it as well


def _own_folder(folder: Path) -> Path:
    """Return a folder that can be written; a new one is its owner's only."""
    is_new = not folder.exists()
    make_folder(folder, "query log")
    if is_new:
        folder.chmod(0o700)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"Cannot write the query log {folder}: it is no folder of yours.")
    return folder


def _schema(pyarrow: Any, *, latents: bool) -> Any:
    floats = pyarrow.float32()
    fields = [
        pyarrow.field("time_s", pyarrow.float64(), nullable=False),
        pyarrow.field("fingerprint", pyarrow.string(), nullable=False),
        pyarrow.field("similarity", floats),
        pyarrow.field("similarities", pyarrow.list_(floats), nullable=False),
        pyarrow.field("distance", floats),
        pyarrow.field("error", floats),
        pyarrow.field("familiar", pyarrow.bool_()),
    ]
    return pyarrow.schema([*fields, pyarrow.field("latent", pyarrow.list_(floats))] if latents else fields)
