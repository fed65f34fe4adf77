"""Parquet files of strangers: what they unfold into is bounded before Arrow makes anything of it."""

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ae_search.index.parquet_pages import read_pages
from ae_search.index.thrift_compact import Compact

_MAX_FOOTER_BYTES = 16 << 20
# What it may say: Arrow takes some hundred bytes for each part, whose own may be two. A column chunk has about 40.
_MAX_FOOTER_PARTS = 500_000
_FOOTER_DEPTH = 12
_MAX_PAGE_BYTES = 256 << 20
# A column chunk may unfold into so many bytes, or into so many times what it has in the file.
_SMALL_BYTES = 64 << 20
_MAX_UNFOLDING = 50
_FLOAT_BYTES = 4
_SHORT_BYTES = 256

_MAGIC = b"PAR1"
# The last bytes of a file: the footer's length, and the magic ones.
_END = struct.Struct("<I4s")


def open_parquet(parquet: Any, path: Path, texts: Iterable[str] = ()) -> Any:
    """Open a file whose footer is of a bearable size.

    Args:
        parquet: The module pyarrow.parquet.
        path: The file.
        texts: Columns of texts; each different one is kept once, however often it occurs.

    Raises:
        ValueError: It is no Parquet file, or its footer is too large.
    """
    # Others, such as pipes, would never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        _check_footer(file)
    return parquet.ParquetFile(
        path,
        read_dictionary=list(texts),
        buffer_size=1 << 20,  # else Arrow reads a whole column chunk at once
        thrift_string_size_limit=_MAX_FOOTER_BYTES,
        thrift_container_size_limit=_MAX_FOOTER_PARTS,
    )


def _check_footer(file: BinaryIO) -> None:
    total = file.seek(0, os.SEEK_END)
    file.seek(max(0, total - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or not end.endswith(_MAGIC):
        raise ValueError("it is no Parquet file, or cut short, or encrypted")
    size, _ = _END.unpack(end)
    if not 0 < size <= min(_MAX_FOOTER_BYTES, total - _END.size):
        raise ValueError(f"its footer may have {_MAX_FOOTER_BYTES} bytes, and no more than the file. Received: {size}")
    file.seek(total - _END.size - size)
    try:
        Compact(file.read(size), _MAX_FOOTER_PARTS).structure(_FOOTER_DEPTH)
    except ValueError as error:
        raise ValueError(f"its footer cannot be read: {error}") from error


def leaves(schema: Any, name: str) -> list[int]:
    """Return the numbers of the columns that Arrow reads where it is asked for one by its name."""
    paths = [schema.column(at).path for at in range(len(schema))]
    return [at for at, path in enumerate(paths) if path == name or path.startswith(f"{name}.")]


def has_dictionary(metadata: Any, at: int) -> bool:
    """Tell whether a column has a dictionary in any row group."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return any(group.column(at).has_dictionary_page for group in groups)


def check_texts(size: int, group: Any, flat: Iterable[int]) -> None:
    """Check the bytes that the texts of a row group had so far.

    A text that many rows share lies in the file once, so short ones may unfold into any number of rows.

    Raises:
        ValueError: They are too many for the bytes in the file.
    """
    packed = sum(group.column(at).total_compressed_size for at in flat)
    if size > max(_SMALL_BYTES, _MAX_UNFOLDING * packed, _SHORT_BYTES * group.num_rows):
        raise ValueError(f"its texts would unfold from {packed} bytes into {size} or more")


def check_group(file: BinaryIO, group: Any, flat: Iterable[int], latent: int) -> None:
    """Check what the columns of a row group unfold into.

    Args:
        file: The file.
        group: What the footer says of the group.
        flat: Numbers of the columns with one value in each row.
        latent: Number of the column of latents.

    Raises:
        ValueError: A column says different things of itself, or unfolds into too much.
    """
    for at in flat:
        if _values(file, group.column(at)) != group.num_rows:
            raise ValueError(f"its column {group.column(at).path_in_schema} has more or fewer values than rows")
    column = group.column(latent)
    _check_unfolding(column, _FLOAT_BYTES * _values(file, column))


def _values(file: BinaryIO, column: Any) -> int:
    """Return the values of a column chunk, after checking its pages."""
    start, length = column.data_page_offset, column.total_compressed_size
    dictionary = column.dictionary_page_offset
    if column.has_dictionary_page and dictionary is not None and 0 < dictionary < start:
        start = dictionary
    file_bytes = file.seek(0, os.SEEK_END)
    if start < 0 or length < 0 or start + length > file_bytes:
        raise ValueError(f"its column {column.path_in_schema} goes beyond the file")
    pages = read_pages(file, start, length)
    # Arrow reads it all the same, as texts of which each takes its own memory.
    if pages.has_dictionary and not column.has_dictionary_page:
        raise ValueError(f"its column {column.path_in_schema} has a dictionary that the footer does not tell of")
    if pages.values != column.num_values:
        raise ValueError(f"its column {column.path_in_schema} has {pages.values} values, not {column.num_values}")
    if pages.largest > _MAX_PAGE_BYTES:
        raise ValueError(f"a page may have {_MAX_PAGE_BYTES} bytes when unpacked. Received: {pages.largest}")
    _check_unfolding(column, pages.size)
    return pages.values


def _check_unfolding(column: Any, size: int) -> None:
    if size > max(_SMALL_BYTES, _MAX_UNFOLDING * column.total_compressed_size):
        raise ValueError(
            f"its column {column.path_in_schema} would unfold from {column.total_compressed_size} bytes into {size}; "
            "write the file without compression if that is meant"
        )
