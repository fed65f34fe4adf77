"""Reading Parquet files of latents, ours and other programs', a part at a time."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ae_search.contract import MAX_ITEM_DIM, MAX_METADATA_BYTES, MAX_TEXT_BYTES
from ae_search.errors import ConfigurationError
from ae_search.exchange.parquet_bounds import check_group, check_texts, open_parquet, read_footer
from ae_search.exchange.parquet_file import Table, TableRows, about_of, malformed, pyarrow_modules, rows_per_block

# Names that other programs give to the same columns.
KEY_COLUMNS = ("key", "id")
_LATENT_COLUMNS = ("latent", "embedding", "vector")
_TEXT_BYTES_AT_A_TIME = 8 << 20
_LONG_TEXTS_AT_A_TIME = 8


def read_parquet(path: Path, keys: Path | None) -> Table:
    """Open a Parquet file of latents, ours or another program's.

    Raises:
        ConfigurationError: It lacks a column, or its latents are of no one size, or it unfolds into more than its size
            allows for.
    """
    return _ParquetTable(path).table()


class _ParquetTable:
    """A file whose columns are of the right kinds; its rows are read a part at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pyarrow, self._parquet = pyarrow_modules()
        with malformed(path):
            self._groups = read_footer(path)
            self._file = open_parquet(self._parquet, path)
            schema = self._file.schema_arrow
        key = _column(path, schema.names, KEY_COLUMNS)
        self._latent = _column(path, schema.names, _LATENT_COLUMNS)
        self._limits = {key: MAX_TEXT_BYTES, "label": MAX_TEXT_BYTES, "metadata": MAX_METADATA_BYTES}
        self._texts = [name for name in (key, "label", "metadata") if name in schema.names]
        numbers = [self._number(name) for name in [*self._texts, self._latent]]
        for name in self._texts:
            self._check_text_column(name, schema)
        self._check_latent_column(schema)
        *self._flat, self._leaf = numbers
        # A text that a dictionary holds is then kept once, however many rows have it.
        shared = [name for name, at in zip(self._texts, self._flat, strict=True) if self._has_dictionary(at)]
        if shared:
            with malformed(path):
                self._file = open_parquet(self._parquet, path, shared)

    def table(self) -> Table:
        """Return the table; its rows are read once they are asked for."""
        with malformed(self._path):
            first = next((at for at, group in enumerate(self._groups) if group.rows), None)
            if first is None:
                raise ConfigurationError(f"{self._path} holds no row.")
            self._check_group(first)
            row = next(self._file.iter_batches(1, row_groups=[first], columns=[self._latent])).column(0)
            dim = len(row.flatten())
            about = about_of(self._file)
        if not 1 <= dim <= MAX_ITEM_DIM:
            raise ConfigurationError(
                f"{self._path}: a latent has 1 to {MAX_ITEM_DIM} floats. Received: {dim} in the first row."
            )
        return Table(dim, about, self._blocks(dim))

    def _blocks(self, dim: int) -> Iterator[TableRows]:
        for at, group in enumerate(self._groups):
            if not group.rows:
                continue
            self._check_group(at)
            columns, size = [*self._texts, self._latent], 0
            for batch in self._file.iter_batches(rows_per_block(dim), row_groups=[at], columns=columns):
                own = sum(self._text_bytes(name, batch.column(name)) for name in self._texts)
                size += own
                check_texts(size, group, self._flat)
                yield from self._blocks_of(batch, dim, own)

    def _blocks_of(self, batch: Any, dim: int, text_bytes: int) -> Iterator[TableRows]:
        rows = batch.column(self._latent)
        flat = rows.flatten().cast(self._pyarrow.float32())
        if rows.null_count or flat.null_count or len(flat) != dim * len(rows):
            raise ConfigurationError(
                f"{self._path}: each {self._latent} must hold {dim} numbers, as the first one does."
            )
        latents = flat.to_numpy(zero_copy_only=False).reshape(-1, dim)
        # Parsed, metadata may take twenty times as many bytes.
        step = len(batch) if text_bytes <= _TEXT_BYTES_AT_A_TIME else _LONG_TEXTS_AT_A_TIME
        for start in range(0, len(batch), step):
            part = batch.slice(start, step)
            columns = {name: part.column(name).cast(self._pyarrow.string()).to_pylist() for name in self._texts}
            metadata = columns.get("metadata")
            parsed = metadata and [None if text is None else json.loads(text) for text in metadata]
            yield TableRows(latents[start : start + step], columns[self._texts[0]], columns.get("label"), parsed)

    def _text_bytes(self, name: str, column: Any) -> int:
        """Return the bytes of a column's texts, after checking each of them."""
        types, is_shared = self._pyarrow.types, self._pyarrow.types.is_dictionary(column.type)
        if types.is_integer(column.type) or types.is_null(column.type):
            return 0
        lengths = self._pyarrow.compute.binary_length(column.dictionary if is_shared else column)
        if (self._pyarrow.compute.max(lengths).as_py() or 0) > self._limits[name]:
            raise ConfigurationError(
                f"{self._path}: a {name} may have {self._limits[name]} bytes. Received a longer one."
            )
        each = lengths.take(column.indices) if is_shared else lengths
        return self._pyarrow.compute.sum(each).as_py() or 0

    def _number(self, name: str) -> int:
        """Return the number of the one column that Arrow reads when it is asked for a name."""
        schema = self._file.schema
        paths = [schema.column(at).path for at in range(len(schema))]
        # Arrow takes a name for the beginning of other names as well.
        numbers = [at for at, path in enumerate(paths) if path == name or path.startswith(f"{name}.")]
        if len(numbers) != 1 or self._file.schema_arrow.names.count(name) != 1:
            raise ConfigurationError(f"{self._path}: {name} must be one column. Received: {len(numbers)}.")
        return numbers[0]

    def _check_text_column(self, name: str, schema: Any) -> None:
        kind, types = schema.field(name).type, self._pyarrow.types
        inner = kind.value_type if types.is_dictionary(kind) else kind
        texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null)
        # Keys and labels of other programs are numbers now and then.
        if not any(is_kind(inner) for is_kind in texts) and (name == "metadata" or not types.is_integer(kind)):
            what = "objects as JSON texts" if name == "metadata" else "texts"
            raise ConfigurationError(f"{self._path}: the column {name} must hold {what}. Received: {str(kind)[:200]}.")

    def _check_latent_column(self, schema: Any) -> None:
        kind, types = schema.field(self._latent).type, self._pyarrow.types
        lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
        numbers = (types.is_floating, types.is_integer)
        if not any(is_kind(kind) for is_kind in lists) or not any(is_kind(kind.value_type) for is_kind in numbers):
            raise ConfigurationError(
                f"{self._path}: the column {self._latent} must hold lists of numbers. Received: {str(kind)[:200]}."
            )

    def _has_dictionary(self, at: int) -> bool:
        return any(group.chunks[at].has_dictionary for group in self._groups)

    def _check_group(self, at: int) -> None:
        with self._path.open("rb") as file:
            check_group(file, self._groups[at], self._flat, self._leaf)


def read_folder(path: Path, keys: Path | None) -> Table:
    """Open all Parquet files of a folder, in the order of their names; they must be of one model.

    Raises:
        ConfigurationError: None of them has a row, or they are of several models.
    """
    shards = [shard for shard in sorted(path.glob("*.parquet")) if _rows(shard)]
    if not shards:
        raise ConfigurationError(f"{path} holds no *.parquet file with rows.")
    first = read_parquet(shards[0], keys)
    for shard in shards[1:]:
        table = read_parquet(shard, keys)
        if table.latent_dim != first.latent_dim or _fingerprint(table) != _fingerprint(first):
            raise ConfigurationError(f"{shard} holds latents of another model than {shards[0]}.")
    # Opened one by one: a folder may hold more files than a process may have open.
    blocks = chain.from_iterable(read_parquet(shard, keys).blocks for shard in shards)
    return Table(first.latent_dim, first.about, blocks)


def _fingerprint(table: Table) -> object:
    model = table.about.get("model")
    return model.get("fingerprint") if isinstance(model, dict) else None


def _rows(path: Path) -> int:
    with malformed(path):  # of many files, the one that is damaged
        return sum(group.rows for group in read_footer(path))


def _column(path: Path, names: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ConfigurationError(f"{path} needs a column {' or '.join(wanted)}. Received: {', '.join(sorted(names))}.")
