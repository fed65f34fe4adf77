"""Parquet files of latents: key, label, metadata, latent."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ae_search.contract import Latents, Metric, ModelRef
from ae_search.errors import ConfigurationError

ROWS_PER_BLOCK = 4096
_ABOUT = b"ae_search"
# Names that other programs give to the same columns.
KEY_COLUMNS = ("key", "id")
_LATENT_COLUMNS = ("latent", "embedding", "vector")


@dataclass(frozen=True)
class Block:
    """Some rows of a file."""

    latents: Latents
    keys: Sequence[str]
    labels: Sequence[str | None] | None = None
    metadata: Sequence[dict[str, Any] | None] | None = None


@dataclass(frozen=True)
class Table:
    """A file of latents: their size, what it says of itself, and its rows."""

    latent_dim: int
    about: dict[str, Any]
    blocks: Iterator[Block]


@contextmanager
def parquet_writer(
    path: Path, model: ModelRef, metric: Metric, latent_dim: int, *, about: dict[str, Any] | None = None
) -> Iterator[Callable[..., None]]:
    """Yield a function that writes rows: latents `[n, d]`, keys, labels, and metadata as JSON or None for none.

    Args:
        path: The file.
        model: Where the latents come from; written into the file, as is the metric.
        metric: Distance to compare them with.
        latent_dim: d.
        about: More to write into the file; a dict that may grow until the block ends.
    """
    pyarrow, parquet = pyarrow_modules()
    schema = pyarrow.schema(
        [
            pyarrow.field("key", pyarrow.string(), nullable=False),
            pyarrow.field("label", pyarrow.string()),
            pyarrow.field("metadata", pyarrow.string()),
            pyarrow.field("latent", pyarrow.list_(pyarrow.float32(), latent_dim), nullable=False),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:

        def write(
            latents: Latents,
            keys: Sequence[str],
            labels: Sequence[str | None],
            metadata: Sequence[str | None] | None = None,
        ) -> None:
            flat = pyarrow.array(latents.reshape(-1), pyarrow.float32())
            column = pyarrow.FixedSizeListArray.from_arrays(flat, type=schema.field("latent").type)
            texts = (keys, labels, [None] * len(keys) if metadata is None else metadata)
            columns = [pyarrow.array(values, pyarrow.string()) for values in texts]
            writer.write_table(pyarrow.Table.from_arrays([*columns, column], schema=schema))

        yield write
        told = {"model": asdict(model), "metric": metric, **(about or {})}
        writer.add_key_value_metadata({_ABOUT.decode(): json.dumps(told)})


def about_parquet(path: Path) -> dict[str, Any]:
    """Return what `parquet_writer` wrote into a file about itself, empty where it is another program's.

    Raises:
        ConfigurationError: It cannot be read.
    """
    _, parquet = pyarrow_modules()
    with malformed(path):
        told = json.loads((parquet.read_metadata(path).metadata or {}).get(_ABOUT, b"{}"))
    return told if isinstance(told, dict) else {}


def read_parquet(path: Path, keys: Path | None) -> Table:
    """Open a Parquet file of latents, ours or another program's.

    Raises:
        ConfigurationError: It lacks a column, or its latents are of no one size.
    """
    pyarrow, parquet = pyarrow_modules()
    file = parquet.ParquetFile(path)
    names = set(file.schema_arrow.names)
    key = _column(path, names, KEY_COLUMNS)
    latent = _column(path, names, _LATENT_COLUMNS)
    kind = file.schema_arrow.field(latent).type
    if not pyarrow.types.is_nested(kind) or not hasattr(kind, "value_type"):
        raise ConfigurationError(f"{path}: the column {latent} must hold lists of numbers. Received: {kind}.")
    first = next(file.iter_batches(1, columns=[latent]), None)
    if first is None:
        raise ConfigurationError(f"{path} holds no row.")
    about = json.loads((file.metadata.metadata or {}).get(_ABOUT, b"{}"))
    dim = len(first.column(0)[0].as_py() or ())

    def blocks() -> Iterator[Block]:
        extra = [name for name in ("label", "metadata") if name in names]
        for batch in file.iter_batches(ROWS_PER_BLOCK, columns=[key, latent, *extra]):
            columns = {name: batch.column(name) for name in [key, latent, *extra]}
            rows = columns[latent]
            flat = rows.flatten().cast(pyarrow.float32())
            if rows.null_count or flat.null_count or len(flat) != dim * len(rows):
                raise ConfigurationError(f"{path}: each {latent} must hold {dim} numbers, as the first one does.")
            metadata = columns["metadata"].to_pylist() if "metadata" in columns else None
            if metadata is not None:
                metadata = [json.loads(text) if isinstance(text, str) else text for text in metadata]
            labels = columns["label"].cast(pyarrow.string()).to_pylist() if "label" in columns else None
            texts = columns[key].cast(pyarrow.string()).to_pylist()
            yield Block(flat.to_numpy(zero_copy_only=False).reshape(-1, dim), texts, labels, metadata)

    return Table(dim, about if isinstance(about, dict) else {}, blocks())


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
    parquet = pyarrow_modules()[1]
    with malformed(path):  # of many files, the one that is damaged
        count: int = parquet.read_metadata(path).num_rows
    return count


def _column(path: Path, names: set[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ConfigurationError(f"{path} needs a column {' or '.join(wanted)}. Received: {', '.join(sorted(names))}.")


@contextmanager
def malformed(path: Path) -> Iterator[None]:
    """Tell what NumPy and Arrow raise about a file as an error of ours."""
    try:
        yield
    except (OSError, EOFError, ValueError, TypeError, RecursionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise ConfigurationError(f"{path} cannot be read: {reason}.") from error


def pyarrow_modules() -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet.

    Raises:
        ConfigurationError: They are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ConfigurationError("Parquet files need pyarrow: pip install 'ae-search[parquet]'.") from error
    return pyarrow, pyarrow.parquet
