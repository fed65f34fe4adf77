"""TFRecord files without TensorFlow: where their records are, with every length and checksum checked.

A record is its length (uint64), the masked CRC-32C of the length, its bytes, and their masked CRC-32C.
https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import gzip
import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

from ae_search.errors import ConfigurationError
from ae_search.extras import needs
from ae_search.image_file import MAX_FILE_MIB

# An image file and what else is told of it.
MAX_RECORD_BYTES = (MAX_FILE_MIB + 1) * 2**20
_HEAD, _CRC = struct.Struct("<QI"), struct.Struct("<I")
# A gzipped file may unfold into so many bytes, or into so many times what it has.
_SMALL_BYTES, _MAX_UNFOLDING = 64 << 20, 100


class RecordStore(Protocol):
    """Where files lie that are not local; see `ObjectStore`."""

    def stream(self, url: str, /) -> BinaryIO:
        """Open a file, to be read from its beginning."""

    def part(self, url: str, start: int, count: int, /) -> bytes:
        """Return some bytes of a file."""

    def size(self, url: str, /) -> int:
        """Return the bytes of a file."""


@dataclass(frozen=True)
class RecordFile:
    """One TFRecord file.

    Attributes:
        place: Its path or URL.
        name: What its records' keys begin with.
        store: The store that it lies in, None for a local file.
    """

    place: str
    name: str
    store: RecordStore | None = None

    def open(self) -> BinaryIO:
        """Open it.

        Raises:
            ConfigurationError: It is no regular file, or cannot be read.
        """
        if self.store is not None:
            return self.store.stream(self.place)
        try:
            descriptor = os.open(self.place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            file = os.fdopen(descriptor, "rb", buffering=1 << 18)
        except OSError as error:
            raise ConfigurationError(f"{self.place} cannot be read: {error.strerror}.") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise ConfigurationError(f"{self.place} is no regular file.")
        return file

    def part(self, start: int, count: int) -> bytes:
        """Return some bytes of it."""
        if self.store is not None:
            return self.store.part(self.place, start, count)
        with self.open() as file, _readable(self.place):
            file.seek(start)
            return file.read(count)

    def size(self) -> int:
        """Return its bytes."""
        return self.store.size(self.place) if self.store is not None else Path(self.place).stat().st_size

    def is_gzipped(self) -> bool:
        """Tell whether it is, by its content."""
        with self.open() as file, _readable(self.place):
            return file.read(2) == b"\x1f\x8b"


class Record(NamedTuple):
    """A record.

    Attributes:
        offset: Where its bytes begin in the file.
        length: How many they are.
        data: The bytes; None where they are not asked for, or are not what their checksum says.
    """

    offset: int
    length: int
    data: bytes | None


def records(file: RecordFile, *, gzipped: bool, with_data: bool = True) -> Iterator[Record]:
    """Yield the records of a file in their order.

    Raises:
        ConfigurationError: It is no TFRecord file, is cut short, or has a record that is too large.
    """
    with file.open() as raw, _readable(file.place):
        stream = cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 18)) if gzipped else raw
        most = max(_SMALL_BYTES, _MAX_UNFOLDING * file.size()) if gzipped else None
        offset = number = 0
        while head := stream.read(_HEAD.size):
            length = _checked_length(head, file.place, number)
            offset += _HEAD.size
            if most is not None and offset + length > most:
                raise ConfigurationError(f"{file.place} unfolds into more than {most} bytes; unpack it with gunzip.")
            yield _record(stream, offset, length, with_data=with_data or gzipped, where=(file.place, number))
            offset += length + _CRC.size
            number += 1


def _record(stream: BinaryIO, offset: int, length: int, *, with_data: bool, where: tuple[str, int]) -> Record:
    place, number = where
    if not with_data:
        stream.seek(length, os.SEEK_CUR)
        data, end = None, stream.read(_CRC.size)
    else:
        data = stream.read(length)
        end = stream.read(_CRC.size)
    if (data is not None and len(data) < length) or len(end) < _CRC.size:
        raise ConfigurationError(f"{place} is cut short: only {number} of its records are whole.")
    return Record(offset, length, data if data is not None and is_whole(data + end) else None)


def is_whole(data: bytes) -> bool:
    """Tell whether the bytes of a record are what the checksum behind them says."""
    body, end = memoryview(data)[: -_CRC.size], data[-_CRC.size :]
    return len(end) == _CRC.size and _CRC.unpack(end)[0] == _masked_crc(bytes(body))


def _checked_length(head: bytes, place: str, number: int) -> int:
    if len(head) < _HEAD.size:
        raise ConfigurationError(f"{place} is cut short: only {number} of its records are whole.")
    length, checksum = _HEAD.unpack(head)
    if checksum != _masked_crc(head[:8]):
        told = "is no TFRecord file" if not number else f"is damaged after record {number - 1}"
        raise ConfigurationError(f"{place} {told}: the checksum of a length is wrong.")
    if length > MAX_RECORD_BYTES:
        raise ConfigurationError(f"{place}: record {number} has {length} bytes; at most {MAX_RECORD_BYTES} are read.")
    return int(length)


def _masked_crc(data: bytes) -> int:
    with needs("TFRecord files need google-crc32c", "tfrecord"):
        import google_crc32c
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@contextmanager
def _readable(place: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{place} cannot be read: {reason}.") from error
