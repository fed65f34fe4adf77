"""Key, label and metadata by id, mapped from one flat file: what an answer needs, without a query to SQLite.

Ten rows take SQLite 22 to 104 µs more than they take here; all the rest of a search beside the engine takes 20.
Those of many answers are read together, most of it within C: decision 21.

Layout: the records one after another, padded with zeros to 8 bytes, then n + 1 little-endian 64-bit offsets of the
records' starts and the last one's end. A record is UTF-8: key, NUL, metadata as JSON or nothing, and, where the item
has a label, NUL and the label.
"""

import mmap
import shutil
import struct
import tempfile
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ae_search.contract import MAX_METADATA_BYTES, MAX_TEXT_BYTES
from ae_search.errors import IndexDamagedError

NAMES = "names.bin"

# Key, label, metadata as JSON text.
Name = tuple[str, str | None, str | None]
# The same of many items: all keys, all labels, all metadata.
Columns = tuple[Sequence[str], Sequence[str | None], Sequence[str | None]]

_OFFSETS_AT_A_TIME = 1 << 18
_PADDED_TO = 8

# A record is a key, NUL, metadata, NUL and a label; the second NUL is left out with the label.
_LEAST, _MOST = 1, 2 * MAX_TEXT_BYTES + MAX_METADATA_BYTES + 2


class Names:
    """Reads the file.

    Args:
        path: The file, proved to be the one that its manifest describes.
        items: How many records it holds.

    Raises:
        IndexDamagedError: It is too short for so many.
    """

    def __init__(self, path: Path, items: int) -> None:
        self._path = path
        self._offsets_at = path.stat().st_size - 8 * (items + 1)
        if self._offsets_at < 0:
            raise IndexDamagedError(f"{path} does not hold {items} items; restore it or build the index anew.")
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._offsets = np.frombuffer(self._map, "<u8", offset=self._offsets_at)
        # A number of it comes in a third of the time that NumPy takes for one.
        offsets: Any = self._offsets.astype("=u8", copy=False)
        self._starts = memoryview(offsets)

    def check(self) -> None:
        """Check that the records lie one after another, from the first byte to the last, none too long for an item.

        Raises:
            IndexDamagedError: They do not.
        """
        offsets = self._offsets
        end = self._offsets_at - int(offsets[-1])
        if offsets[0] or not 0 <= end < _PADDED_TO:
            raise self._damaged("records that fill it", f"the first at {offsets[0]}, the last one's end {offsets[-1]}")
        for start in range(0, len(offsets) - 1, _OFFSETS_AT_A_TIME):
            # An offset that goes back comes out as a length of about 2**64.
            lengths = np.diff(offsets[start : start + _OFFSETS_AT_A_TIME + 1])
            if (bad := np.flatnonzero((lengths < _LEAST) | (lengths > _MOST))).size:
                raise self._damaged(f"records of {_LEAST} to {_MOST} bytes", f"another length at item {start + bad[0]}")

    def of(self, ids: Sequence[int]) -> list[Name]:
        """Return key, label and metadata of some ids in [0, n).

        Raises:
            IndexDamagedError: A record is no record.
        """
        return list(zip(*self.columns(ids), strict=True))

    def columns(self, ids: Sequence[int]) -> Columns:
        """Return the keys, the labels and the metadata of some ids in [0, n); errors as in `of`."""
        starts, file = self._starts, self._map
        records = [file[starts[item] : starts[item + 1]] for item in ids]
        nuls = set(map(bytes.count, records, repeat(b"\0")))
        try:
            if nuls == {2}:
                texts = b"\0".join(records).decode().split("\0")
                return texts[::3], texts[2::3], [text or None for text in texts[1::3]]
            if nuls == {1}:
                texts = b"\0".join(records).decode().split("\0")
                return texts[::2], [None] * len(records), [text or None for text in texts[1::2]]
        except ValueError:
            pass  # the one that is damaged is named below
        keys, labels, metadata = zip(*map(self._read, ids, records), strict=True) if records else ((), (), ())
        return keys, labels, metadata

    def _read(self, item: int, record: bytes) -> Name:
        try:
            key, metadata, *label = record.decode().split("\0", 2)
        except ValueError as error:
            raise IndexDamagedError(f"{self._path} is damaged at item {item} ({error}).") from error
        return key, (label[0] if label else None), metadata or None

    def _damaged(self, expected: str, received: str) -> IndexDamagedError:
        return IndexDamagedError(
            f"{self._path} is damaged: expected {expected}. Received: {received}. Restore it or build the index anew."
        )


class NamesWriter:
    """Writes the file as a stream.

    Args:
        path: Where it goes.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._offsets = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def add(self, names: Iterable[Name]) -> None:
        """Append records."""
        records = [
            "\0".join((key, metadata or "") if label is None else (key, metadata or "", label)).encode()
            for key, label, metadata in names
        ]
        lengths = np.fromiter(map(len, records), np.uint64, len(records))
        starts = self._end + np.cumsum(lengths) - lengths
        self._offsets.write(starts.astype("<u8").tobytes())
        self._file.write(b"".join(records))
        self._end += int(lengths.sum())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file, self._offsets:
            if error is None:
                self._offsets.write(struct.pack("<Q", self._end))
                self._file.write(bytes(-self._end % _PADDED_TO))
                self._offsets.seek(0)
                shutil.copyfileobj(self._offsets, self._file)
