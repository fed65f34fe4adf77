"""A table of image paths, with labels and metadata: CSV, TSV or Parquet."""

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ae_search.data.sources.local_file import local_stamp, read_local
from ae_search.data.sources.object_store import PACKAGES, ObjectStore, joined, last_part, open_store, scheme_of
from ae_search.data.sources.source import SourceDefaults, Stamp, damaged
from ae_search.data.sources.table_rows import TableRows
from ae_search.errors import ConfigurationError

# What separates the columns; None is for Parquet.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".parquet": None, ".pq": None}
_MAX_BYTES = 4 << 30


class TableSource(SourceDefaults):
    """The images that a table names.

    Its columns: path (or file, file_name, uri), and maybe key, label, metadata (JSON) and metadata_* for one field
    each. A path is relative to the table's folder, or absolute, or the URL of an object. A table in an object store
    names objects only: those below its own folder by relative paths, others by URLs.

    Args:
        text: The table's path or URL.

    Raises:
        ConfigurationError: It cannot be read, a column is missing, a row is malformed, or a key occurs twice.
    """

    def __init__(self, text: str) -> None:
        self._url = text if scheme_of(text) else None
        self._path = Path(text)
        self.name = last_part(text) if self._url else self._path.resolve().name
        suffix = Path(self.name).suffix.lower()
        if suffix not in SEPARATORS:
            raise ConfigurationError(f"A table is one of *{', *'.join(SEPARATORS)}. Received: {text!r}.")
        self._store = cache(open_store)
        if self._url is None:
            if not self._path.is_file():
                raise ConfigurationError(f"There is no table {text}.")
            self._folder = str(self._path.resolve().parent)
            self._rows = TableRows(self._path, text, SEPARATORS[suffix])
        else:
            self._folder = self._url.rpartition("/")[0]
            self._rows = _fetched(self._store(self._url), self._url, SEPARATORS[suffix])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    @property
    def argument(self) -> str:
        """The table."""
        return f"table:{self._url or self._path.resolve()}"

    @property
    def labels(self) -> Sequence[str | None]:
        """One label an image, or None."""
        return self._rows.labels

    @property
    def notes(self) -> Sequence[str]:
        """Which columns say nothing here."""
        if not self._rows.not_taken:
            return ()
        columns = ", ".join(self._rows.not_taken[:20])
        return [f"columns that are not taken: {columns} (metadata have names such as metadata_price)"]

    def key(self, position: int) -> str:
        """Return the stable key of an image: its column key, else its path as it stands in the table."""
        return self._rows[position].key

    def position(self, key: str) -> int | None:
        """Return where the image of a key is, None where it is no key of this source."""
        return self._rows.position(key)

    def metadata(self, position: int) -> dict[str, Any] | None:
        """Return the metadata of a row."""
        text = self._rows[position].metadata
        return None if text is None else json.loads(text)

    def place(self, position: int) -> str:
        """Return path or URL of an image."""
        path = self._rows[position].path
        if scheme_of(path):
            return path
        return str(Path(self._folder) / path) if self._url is None else f"{self._folder}/{path}"

    def path(self, position: int) -> Path | None:
        """Return the image's own local file, None where it lies in an object store."""
        path = self._rows[position].path
        return None if self._url is not None or scheme_of(path) else Path(self._folder) / path

    def read(self, position: int) -> bytes:
        """Return the bytes of an image file."""
        if (path := self.path(position)) is not None:
            return read_local(path)
        return self._read_object(self._rows[position].path)

    def stamp(self, position: int) -> Stamp | None:
        """Return size and time of a local image file."""
        path = self.path(position)
        return None if path is None else local_stamp(path)

    def _read_object(self, path: str) -> bytes:
        scheme = scheme_of(path)
        if scheme is None:
            try:
                path = joined(self._folder, path)
            except ValueError as error:
                raise damaged(path, f"a table in an object store names objects below its folder ({error})") from error
        elif scheme not in PACKAGES:
            raise damaged(path, "no object store that is known here")
        return self._store(f"{scheme_of(path)}://").read(path)


def _fetched(store: ObjectStore, url: str, separator: str | None) -> TableRows:
    """Read a table from a local copy, as Parquet is read from its end."""
    if (size := store.size(url)) > _MAX_BYTES:
        raise ConfigurationError(f"{url} has {size} bytes; a table in an object store may have {_MAX_BYTES}.")
    with tempfile.NamedTemporaryFile(prefix="ae-search-") as copy:
        with store.stream(url) as stream:
            while block := stream.read(1 << 20):
                copy.write(block)
        copy.flush()
        return TableRows(Path(copy.name), url, separator)
