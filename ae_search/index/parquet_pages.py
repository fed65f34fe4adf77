"""The pages of a Parquet file, read without Arrow: Arrow takes the memory that a page asks for before it looks at it.

A column chunk is a row of pages, each with a header in Thrift's compact protocol
(https://parquet.apache.org/docs/file-format/data-pages, https://github.com/apache/thrift/blob/master/doc/specs).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAX_HEADER_BYTES = 64 << 10
_MOST = 2**31 - 1
# Kinds of fields in Thrift's compact protocol; the others do not occur in these headers.
_TRUE, _FALSE, _BYTE, _I32, _I64, _BINARY, _STRUCT = 1, 2, 3, 5, 6, 8, 12
# Kinds of pages, the field that holds what is said of each, and that field's fields with values and encoding.
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)
_SAID_IN = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
_ENCODING_IN = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}
# Each text takes over the beginning of the one before, so that a few bytes unfold into any number.
_DELTA_BYTE_ARRAY = 7

# Field by number: its kind and, of numbers and structures, its value.
_Fields = dict[int, tuple[int, "int | _Fields"]]


@dataclass(frozen=True)
class Pages:
    """What the pages of one column chunk unfold into.

    Attributes:
        values: Values, nulls and empty lists among them.
        size: Bytes of all pages, unpacked.
        largest: Bytes of the largest one.
    """

    values: int
    size: int
    largest: int


def read_pages(file: BinaryIO, start: int, length: int) -> Pages:
    """Read the headers of all pages of a column chunk.

    Args:
        file: The file.
        start: Where the chunk begins, in bytes.
        length: Its bytes.

    Raises:
        ValueError: One is malformed, or its values are written in a way that has no bounds.
    """
    values = size = largest = 0
    at, end = start, start + length
    while at < end:
        file.seek(at)
        header = _Header(file.read(min(_MAX_HEADER_BYTES, end - at)))
        kind, unpacked, packed, held = header.page()
        at += header.at + packed
        values += held
        size += unpacked
        largest = max(largest, unpacked)
    if at != end:
        raise ValueError("a page goes beyond its column chunk")
    return Pages(values, size, largest)


class _Header:
    """One page's header; `at` is where it ends."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def page(self) -> tuple[int, int, int, int]:
        """Return kind, bytes when unpacked, bytes in the file, and values (none in a dictionary)."""
        fields = self._structure(depth=3)
        kind, unpacked, packed = (_number(fields, field) for field in (1, 2, 3))
        if kind == _INDEX:
            return kind, unpacked, packed, 0
        _, said = fields.get(_SAID_IN.get(kind, 0), (0, 0))
        if not isinstance(said, dict):
            raise ValueError(f"a page of unknown kind {kind}")
        if _number(said, _ENCODING_IN[kind]) == _DELTA_BYTE_ARRAY:
            raise ValueError("texts in the encoding DELTA_BYTE_ARRAY; write the file with another one")
        values = _number(said, 1)
        return kind, unpacked, packed, 0 if kind == _DICTIONARY else values

    def _structure(self, depth: int) -> _Fields:
        fields: _Fields = {}
        number = 0
        for head in iter(self._byte, 0):
            step, kind = divmod(head, 16)
            number = number + step if step else self._signed()
            # Who reads such a field a second time may take either.
            if number in fields:
                raise ValueError("a page header that says something twice")
            fields[number] = kind, self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> "int | _Fields":
        if kind in (_TRUE, _FALSE):
            return int(kind == _TRUE)
        if kind == _BYTE:
            return self._byte()
        if kind in (_I32, _I64):
            return self._signed()
        if kind == _STRUCT and depth:
            return self._structure(depth - 1)
        if kind != _BINARY:
            raise ValueError("a page header of unknown fields")
        length = self._varint()
        self.at += length
        return 0

    def _signed(self) -> int:
        folded = self._varint()
        return (folded >> 1) ^ -(folded & 1)

    def _varint(self) -> int:
        return sum((byte & 127) << (7 * place) for place, byte in enumerate(self._varint_bytes()))

    def _varint_bytes(self) -> Iterator[int]:
        for _ in range(10):
            byte = self._byte()
            yield byte
            if byte < 128:
                return
        raise ValueError("a page header with a number of more than 64 bits")

    def _byte(self) -> int:
        if self.at >= len(self._content):
            raise ValueError(f"a page header that is cut short, or longer than {_MAX_HEADER_BYTES} bytes")
        self.at += 1
        return self._content[self.at - 1]


def _number(fields: _Fields, field: int) -> int:
    kind, value = fields.get(field, (0, -1))
    if kind != _I32 or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError("a page header without its sizes")
    return value
