"""Parquet files of strangers: what they unfold into is bounded before Arrow makes anything of it.

The footer is read without Arrow: pyarrow ends the process where it finds some of the faults that a footer may have.
"""

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ae_search.exchange.parquet_pages import read_pages
from ae_search.exchange.thrift_compact import I32, I64, LIST, STRUCT, Compact, Fields

_MAX_FOOTER_BYTES = 16 << 20
# What it may say: Arrow takes some hundred bytes for each part, whose own may be two. A column chunk has about 40.
_MAX_FOOTER_PARTS = 500_000
_FOOTER_DEPTH = 12
# A list of numbers has four.
_SCHEMA_DEPTH = 32
_MAX_PAGE_BYTES = 256 << 20
# A column chunk may unfold into so many bytes, or into so many times what it has in the file.
_SMALL_BYTES = 64 << 20
_MAX_UNFOLDING = 50
_FLOAT_BYTES = 4
_SHORT_BYTES = 256

_MAGIC = b"PAR1"
# The last bytes of a file: the footer's length, and the magic ones.
_END = struct.Struct("<I4s")


class ColumnChunk(NamedTuple):
    """What the footer says of one column of a row group.

    Attributes:
        values: Values, nulls and empty lists among them.
        start: Where it begins, in bytes.
        length: Its bytes in the file.
        has_dictionary: Whether values that occur again are kept once.
    """

    values: int
    start: int
    length: int
    has_dictionary: bool


class Group(NamedTuple):
    """What the footer says of a row group.

    Attributes:
        rows: Its rows.
        chunks: Its columns.
    """

    rows: int
    chunks: list[ColumnChunk]


def read_footer(path: Path) -> list[Group]:
    """Read what the footer of a file says of its row groups.

    Raises:
        ValueError: It is no Parquet file, or its footer is malformed or too large.
    """
    # Others, such as pipes, would never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        total = file.seek(0, os.SEEK_END)
        file.seek(max(0, total - _END.size))
        end = file.read(_END.size)
        if len(end) < _END.size or not end.endswith(_MAGIC):
            raise ValueError("it is no Parquet file, or cut short, or encrypted")
        size, _ = _END.unpack(end)
        if not 0 < size <= min(_MAX_FOOTER_BYTES, total - _END.size):
            raise ValueError(f"its footer may have {_MAX_FOOTER_BYTES} bytes, and less than the file. Received: {size}")
        file.seek(total - _END.size - size)
        content = file.read(size)
    try:
        footer = Compact(content, _MAX_FOOTER_PARTS).structure(_FOOTER_DEPTH)
        members = _members(footer, 2)
        _check_schema([_value(member, 5, I32, 0) for member in members])
        columns = sum(_value(member, 5, I32, 0) == 0 for member in members)
        groups = [_group(group) for group in _members(footer, 4)]
    except ValueError as error:
        raise ValueError(f"its footer cannot be read: {error}") from error
    if any(len(group.chunks) != columns for group in groups):
        raise ValueError("its footer has a row group with more or fewer columns than the file")
    return groups


def open_parquet(parquet: Any, path: Path, texts: Iterable[str] = ()) -> Any:
    """Open a file whose footer was read before.

    Args:
        parquet: The module pyarrow.parquet.
        path: The file.
        texts: Columns of texts that are kept once, however often they occur.
    """
    return parquet.ParquetFile(
        path,
        read_dictionary=list(texts),
        buffer_size=1 << 20,  # else Arrow reads a whole column chunk at once
        thrift_string_size_limit=_MAX_FOOTER_BYTES,
        thrift_container_size_limit=_MAX_FOOTER_PARTS,
    )


def check_group(file: BinaryIO, group: Group, flat: Iterable[int], latent: int) -> None:
    """Check what the columns of a row group unfold into.

    Args:
        file: The file.
        group: What the footer says of the group.
        flat: Numbers of the columns with one value in each row.
        latent: Number of the column of latents.

    Raises:
        ValueError: A column says different things of itself, or unfolds into too much.
    """
    check_flat(file, group, flat)
    chunk = group.chunks[latent]
    _check_chunk(file, chunk)
    _check_unfolding(chunk.length, _FLOAT_BYTES * chunk.values)


def check_flat(file: BinaryIO, group: Group, flat: Iterable[int]) -> None:
    """Check what the columns with one value in each row unfold into; see `check_group`.

    Raises:
        ValueError: A column says different things of itself, or unfolds into too much.
    """
    for at in flat:
        _check_chunk(file, group.chunks[at])
        if group.chunks[at].values != group.rows:
            raise ValueError(f"a column has {group.chunks[at].values} values in {group.rows} rows")


def check_texts(size: int, group: Group, flat: Iterable[int]) -> None:
    """Check the bytes that the texts of a row group had so far.

    A text that many rows share lies in the file once, so short ones may unfold into any number of rows.

    Raises:
        ValueError: They are too many for the bytes in the file.
    """
    if size > _SHORT_BYTES * group.rows:
        _check_unfolding(sum(group.chunks[at].length for at in flat), size)


def _check_chunk(file: BinaryIO, chunk: ColumnChunk) -> None:
    if chunk.start + chunk.length > file.seek(0, os.SEEK_END):
        raise ValueError("a column goes beyond the file")
    pages = read_pages(file, chunk.start, chunk.length)
    # Arrow reads it all the same, as texts of which each takes its own memory.
    if pages.has_dictionary and not chunk.has_dictionary:
        raise ValueError("a column has a dictionary that the footer does not tell of")
    if pages.values != chunk.values:
        raise ValueError(f"a column has {pages.values} values by its pages, and {chunk.values} by the footer")
    if pages.largest > _MAX_PAGE_BYTES:
        raise ValueError(f"a page may have {_MAX_PAGE_BYTES} bytes when unpacked. Received: {pages.largest}")
    _check_unfolding(chunk.length, pages.size)


def _check_unfolding(packed: int, size: int) -> None:
    if size > max(_SMALL_BYTES, _MAX_UNFOLDING * packed):
        raise ValueError(
            f"{packed} bytes would unfold into {size} or more; write the file without compression if that is meant"
        )


def _check_schema(children: list[int]) -> None:
    """Check the counts of the children of each member, depth first: Arrow walks them by recursion, however deep."""
    to_come: list[int] = []
    for count in children:
        while to_come and not to_come[-1]:
            to_come.pop()
        if to_come:
            to_come[-1] -= 1
        if count:
            to_come.append(count)
        if len(to_come) > _SCHEMA_DEPTH:
            raise ValueError(f"its schema is more than {_SCHEMA_DEPTH} levels deep")
    if sum(children) != len(children) - 1:
        raise ValueError("its schema counts other members than it has")


def _group(fields: Fields) -> Group:
    return Group(_value(fields, 3, I64), [_chunk(chunk) for chunk in _members(fields, 1)])


def _chunk(fields: Fields) -> ColumnChunk:
    kind, said = fields.get(3, (0, 0))
    if kind != STRUCT or not isinstance(said, dict) or 1 in fields:
        raise ValueError("a column that lies in another file, or nowhere")
    start = _value(said, 9, I64)
    dictionary = _value(said, 11, I64, 0)
    if 0 < dictionary < start:
        start = dictionary
    return ColumnChunk(_value(said, 5, I64), start, _value(said, 7, I64), 11 in said)


def _members(fields: Fields, field: int) -> list[Fields]:
    kind, members = fields.get(field, (0, 0))
    if kind != LIST or not isinstance(members, list):
        raise ValueError("it lacks a list")
    return members


def _value(fields: Fields, field: int, wanted: int, default: int | None = None) -> int:
    if field not in fields and default is not None:
        return default
    kind, value = fields.get(field, (0, 0))
    if kind != wanted or not isinstance(value, int) or not 0 <= value < 2**62:
        raise ValueError("it lacks a number, or has one that cannot be")
    return value
