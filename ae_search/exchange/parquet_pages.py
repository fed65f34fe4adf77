"""The pages of a Parquet file, read without Arrow: Arrow takes the memory that a page asks for before it looks at it.

A column chunk is a row of pages, each with a header in Thrift's compact protocol
(https://parquet.apache.org/docs/file-format/data-pages).
"""

from dataclasses import dataclass
from typing import BinaryIO

from ae_search.exchange.thrift_compact import I32, Compact, Fields

_MAX_HEADER_BYTES = 64 << 10
_MAX_HEADER_FIELDS = 100
_MOST = 2**31 - 1
# Kinds of pages, the field that holds what is said of each, and that field's fields with values and encoding.
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)
_SAID_IN = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
_ENCODING_IN = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}
# Each text takes over the beginning of the one before, so that a few bytes unfold into any number.
_DELTA_BYTE_ARRAY = 7


@dataclass(frozen=True)
class Pages:
    """What the pages of one column chunk unfold into.

    Attributes:
        values: Values, nulls and empty lists among them.
        size: Bytes of all pages, unpacked.
        largest: Bytes of the largest one.
        has_dictionary: Whether there is a page of a dictionary.
    """

    values: int
    size: int
    largest: int
    has_dictionary: bool


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
    has_dictionary = False
    at, end = start, start + length
    while at < end:
        file.seek(at)
        header = Compact(file.read(min(_MAX_HEADER_BYTES, end - at)), _MAX_HEADER_FIELDS)
        kind, unpacked, packed, held = _page(header)
        at += header.at + packed
        values += held
        size += unpacked
        largest = max(largest, unpacked)
        has_dictionary |= kind == _DICTIONARY
    if at != end:
        raise ValueError("a page goes beyond its column chunk")
    return Pages(values, size, largest, has_dictionary)


def _page(header: Compact) -> tuple[int, int, int, int]:
    """Return a page's kind, its bytes when unpacked, its bytes in the file, and its values (none in a dictionary)."""
    try:
        fields = header.structure(depth=3)
    except ValueError as error:
        raise ValueError(f"a page header cannot be read: {error}") from error
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


def _number(fields: Fields, field: int) -> int:
    kind, value = fields.get(field, (0, -1))
    if kind != I32 or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError("a page header without its sizes")
    return value
