"""Rows of texts and numbers from a stranger's Parquet file, a few at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ae_search.contract import MAX_METADATA_BYTES
from ae_search.errors import ConfigurationError
from ae_search.exchange.parquet_bounds import check_flat, check_texts, open_parquet, read_footer
from ae_search.exchange.parquet_file import malformed, pyarrow_modules

_ROWS_AT_A_TIME = 4096
_TEXT_BYTES_AT_A_TIME = 8 << 20
_LONG_TEXTS_AT_A_TIME = 8


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        ConfigurationError: It is no Parquet file, is damaged, or pyarrow is missing.
    """
    return _ParquetRows(path).names


def read_rows(path: Path, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Yield the values of some columns by name, row by row: texts, numbers, true and false, None for null.

    Args:
        path: The file.
        wanted: Tells of a column's name whether to read it; such a column must hold texts, numbers or booleans.

    Raises:
        ConfigurationError: The file is malformed, a column holds something else, or it unfolds into more than its size
            allows for.
    """
    with malformed(path):
        yield from _ParquetRows(path).rows(wanted)


class _ParquetRows:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._pyarrow, self._parquet = pyarrow_modules()
        with malformed(path):
            self._groups = read_footer(path)
            self._file = open_parquet(self._parquet, path)
            self.names: list[str] = self._file.schema_arrow.names

    def rows(self, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
        names = [name for name in self.names if wanted(name)]
        flat = [self._number(name) for name in names]
        shared = [name for name, at in zip(names, flat, strict=True) if self._is_shared(name, at)]
        file = open_parquet(self._parquet, self._path, shared)
        for at, group in enumerate(self._groups):
            if not group.rows:
                continue
            with self._path.open("rb") as opened:
                check_flat(opened, group, flat)
            size = 0
            for batch in file.iter_batches(_ROWS_AT_A_TIME, row_groups=[at], columns=names):
                own = sum(self._text_bytes(name, batch.column(name)) for name in names)
                size += own
                check_texts(size, group, flat)
                step = len(batch) if own <= _TEXT_BYTES_AT_A_TIME else _LONG_TEXTS_AT_A_TIME
                for start in range(0, len(batch), step):
                    yield from batch.slice(start, step).to_pylist()

    def _number(self, name: str) -> int:
        """Return the number of the one column that Arrow reads when it is asked for a name."""
        schema, types = self._file.schema, self._pyarrow.types
        paths = [schema.column(at).path for at in range(len(schema))]
        # Arrow takes a name for the beginning of other names as well.
        numbers = [at for at, path in enumerate(paths) if path == name or path.startswith(f"{name}.")]
        if len(numbers) != 1 or self.names.count(name) != 1:
            raise ConfigurationError(f"{self._path}: {name} must be one column. Received: {len(numbers)}.")
        kind = self._kind(name)
        plain = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
        if not any(is_kind(kind) for is_kind in (*plain, types.is_null)):
            raise ConfigurationError(
                f"{self._path}: the column {name} must hold texts, numbers or booleans. Received: {str(kind)[:200]}."
            )
        return numbers[0]

    def _kind(self, name: str) -> Any:
        kind = self._file.schema_arrow.field(name).type
        return kind.value_type if self._pyarrow.types.is_dictionary(kind) else kind

    def _is_shared(self, name: str, at: int) -> bool:
        """Tell whether a column's texts lie in a dictionary, so that each is kept once, however many rows have it."""
        kind, types = self._kind(name), self._pyarrow.types
        is_text = types.is_string(kind) or types.is_large_string(kind)
        return is_text and any(group.chunks[at].has_dictionary for group in self._groups)

    def _text_bytes(self, name: str, column: Any) -> int:
        """Return the bytes of a column's texts, after checking that none is too long."""
        types, compute = self._pyarrow.types, self._pyarrow.compute
        texts = column.dictionary if types.is_dictionary(column.type) else column
        if not (types.is_string(texts.type) or types.is_large_string(texts.type)):
            return 0
        lengths = compute.binary_length(texts)
        if (compute.max(lengths).as_py() or 0) > MAX_METADATA_BYTES:
            raise ConfigurationError(
                f"{self._path}: a {name} may have {MAX_METADATA_BYTES} bytes. Received a longer one."
            )
        each = lengths.take(column.indices) if texts is not column else lengths
        return compute.sum(each).as_py() or 0
