"""Parquet files of latents: key, label, metadata, latent."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ae_search.contract import Latents, Metric, ModelRef
from ae_search.errors import ConfigurationError
from ae_search.exchange.parquet_bounds import open_parquet, read_footer
from ae_search.extras import needs

ROWS_PER_BLOCK = 4096
_ABOUT = b"ae_search"
_LATENT_BYTES_AT_A_TIME = 16 << 20
_BYTES_PER_GROUP = 16 << 20
# At the least, however long they are: readers take a page as a whole.
_TEXTS_PER_PAGE = 64


@dataclass(frozen=True)
class TableRows:
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
    blocks: Iterator[TableRows]


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
    with parquet.ParquetWriter(path, schema, write_batch_size=_TEXTS_PER_PAGE) as writer:
        waiting: list[Any] = []

        def flush() -> None:
            if waiting:
                writer.write_table(pyarrow.concat_tables(waiting))
            waiting.clear()

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
            waiting.append(pyarrow.Table.from_arrays([*columns, column], schema=schema))
            # Each row group makes the footer longer.
            if sum(table.nbytes for table in waiting) >= _BYTES_PER_GROUP:
                flush()

        yield write
        flush()
        told = {"model": asdict(model), "metric": metric, **(about or {})}
        writer.add_key_value_metadata({_ABOUT.decode(): json.dumps(told)})


def about_parquet(path: Path) -> dict[str, Any]:
    """Return what `parquet_writer` wrote into a file about itself, empty where it is another program's.

    Raises:
        ConfigurationError: It cannot be read.
    """
    _, parquet = pyarrow_modules()
    with malformed(path):
        read_footer(path)
        return about_of(open_parquet(parquet, path))


def rows_per_block(dim: int) -> int:
    """Return how many latents of d floats are read at a time."""
    return max(1, min(ROWS_PER_BLOCK, _LATENT_BYTES_AT_A_TIME // (4 * dim)))


def about_of(file: Any) -> dict[str, Any]:
    """Return what `parquet_writer` wrote into an open file about itself."""
    told = json.loads((file.metadata.metadata or {}).get(_ABOUT, b"{}"))
    return told if isinstance(told, dict) else {}


@contextmanager
def malformed(path: Path) -> Iterator[None]:
    """Tell what NumPy and Arrow raise about a file as an error of ours."""
    arrow = sys.modules.get("pyarrow")
    foreign = () if arrow is None else (arrow.ArrowException,)
    try:
        yield
    except (OSError, EOFError, ValueError, TypeError, KeyError, RecursionError, NotImplementedError, *foreign) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise ConfigurationError(f"{path} cannot be read: {reason}.") from error


def pyarrow_modules() -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet.

    Raises:
        ConfigurationError: They are not installed.
    """
    with needs("Parquet files need pyarrow", "parquet"):
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet
