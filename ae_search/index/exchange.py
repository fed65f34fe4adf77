"""Latents in and out: Parquet and NumPy files of other programs, JSON lines for other engines."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.contract import METRICS, Latents, Metric, ModelRef
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.files import write_atomically
from ae_search.index.build import IndexBuilder, Origin
from ae_search.index.checked_json import object_of, text_of, whole_of
from ae_search.index.generation import Snapshot
from ae_search.index.manifest import UNKNOWN_MODEL, Manifest

PARQUET, NPY, JSON_LINES = ".parquet", ".npy", ".jsonl"

_ROWS_PER_BLOCK = 4096
_ABOUT = b"ae_search"
# Names that other programs give to the same columns.
_KEY_COLUMNS = ("key", "id")
_LATENT_COLUMNS = ("latent", "embedding", "vector")


@dataclass(frozen=True)
class LatentOrigin:
    """Where imported latents come from; see `build.Origin`."""

    name: str
    version: int
    fingerprint: str
    latent_dim: int
    metric: Metric
    image_shape: tuple[int, int, int] | None = None


def export_latents(snapshot: Snapshot, path: Path, *, on_progress: Callable[[int], object] = lambda items: None) -> int:
    """Write keys and latents of all items to one file, which appears whole or not at all.

    Args:
        snapshot: The index.
        path: `.parquet` with the columns key, label, metadata (JSON) and latent; or `.jsonl` with an object
            `{"id", "embedding"}` in each line, which other engines read.
        on_progress: Called with the number of items done since the last call.

    Returns:
        The number of items.

    Raises:
        ConfigurationError: The name has another ending, pyarrow is missing, or the file cannot be written.
    """
    writers = {PARQUET: _write_parquet, JSON_LINES: _write_json_lines}
    suffix = path.suffix.lower()
    if path.absolute().parent.is_relative_to(snapshot.generation.folder.absolute().parent):
        raise ConfigurationError(f"{path} would lie within the index; export to another folder.")
    if suffix not in writers:
        raise ConfigurationError(f"An export is named *{PARQUET} or *{JSON_LINES}. Received: {str(path)!r}.")
    if suffix == PARQUET:
        _pyarrow()
    try:
        write_atomically(path, lambda temporary: writers[suffix](snapshot, temporary, on_progress))
    except OSError as error:
        raise ConfigurationError(f"Cannot write {path}: {error.strerror or error}.") from error
    return len(snapshot)


def import_latents(
    source: Path,
    index: Path,
    *,
    keys: Path | None = None,
    model: Origin | None = None,
    metric: Metric | None = None,
    on_progress: Callable[[int], object] = lambda items: None,
    **options: Any,
) -> Manifest:
    """Build an index from a file of latents.

    Args:
        source: `.parquet` with a column key or id and a column latent, embedding or vector, and maybe label and
            metadata; or `.npy` with an array `[n, d]`.
        index: Folder of the index.
        keys: Text file with one key a line, for `.npy`; without it the keys are the row numbers.
        model: The model that the latents come from. None: what an export of ours says of itself, else unknown, and
            then the index can be searched by latents and keys but not by images.
        metric: Distance to compare them with; None: the model's, else "angular".
        on_progress: Called with the number of items done since the last call.
        options: Options of `IndexBuilder`.

    Raises:
        ConfigurationError: The file is of another kind or malformed, or pyarrow is missing.
        ModelMismatchError: The file names another model.
        ValueError: A latent is not finite or the rows are of unequal size.
    """
    readers: dict[str, Callable[..., _Table]] = {PARQUET: _read_parquet, NPY: _read_npy}
    suffix = source.suffix.lower()
    if suffix not in readers:
        raise ConfigurationError(f"An import is a *{PARQUET} or *{NPY} file. Received: {str(source)!r}.")
    if keys is not None and suffix == PARQUET:
        raise ConfigurationError(f"Keys of {source} are in its column {' or '.join(_KEY_COLUMNS)}; leave --keys out.")
    with _malformed(source):
        table = readers[suffix](source, keys)
    origin = _origin(table, model, metric)
    with IndexBuilder(index, origin, sources=(), **options) as builder:
        blocks = iter(table.blocks)
        while True:
            with _malformed(source):
                block = next(blocks, None)
            if block is None:
                break
            builder.add(block.latents, block.keys, block.labels, metadata=block.metadata)
            on_progress(len(block.keys))
    return builder.manifest


@dataclass(frozen=True)
class _Block:
    latents: Latents
    keys: Sequence[str]
    labels: Sequence[str | None] | None = None
    metadata: Sequence[dict[str, Any] | None] | None = None


@dataclass(frozen=True)
class _Table:
    latent_dim: int
    about: dict[str, Any]
    blocks: Iterator[_Block]


def _origin(table: _Table, model: Origin | None, metric: Metric | None) -> LatentOrigin:
    try:
        told = object_of(table.about, "model")
        ref = ModelRef(text_of(told, "name"), whole_of(told, "version", 1), text_of(told, "fingerprint"))
        own = table.about["metric"]
    except (KeyError, ValueError):
        ref, own = UNKNOWN_MODEL, "angular"
    if model is not None:
        if ref.fingerprint not in (UNKNOWN_MODEL.fingerprint, model.fingerprint):
            raise ModelMismatchError(
                f"By their own word the latents come from {ref.name} version {ref.version} (fingerprint "
                f"{ref.fingerprint[:12]}), not from {model.name} version {model.version}; leave the model out."
            )
        if model.latent_dim != table.latent_dim:
            raise ConfigurationError(
                f"{model.name} version {model.version} gives latents of {model.latent_dim} floats. "
                f"Received: {table.latent_dim}."
            )
        ref, own = ModelRef(model.name, model.version, model.fingerprint), model.metric
    chosen = metric or own
    if chosen not in METRICS:
        raise ConfigurationError(f"The metric must be one of {', '.join(METRICS)}. Received: {chosen!r}.")
    image_shape = None if model is None else model.image_shape
    return LatentOrigin(ref.name, ref.version, ref.fingerprint, table.latent_dim, chosen, image_shape)


def _write_json_lines(snapshot: Snapshot, path: Path, on_progress: Callable[[int], object]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for latents, items in snapshot.blocks(pictures=False):
            for key, latent in zip(items.keys, latents, strict=True):
                # float32 in its shortest form: what is read back is the same float32.
                numbers = ",".join(str(number) for number in latent)
                file.write(f'{{"id": {json.dumps(key, ensure_ascii=False)}, "embedding": [{numbers}]}}\n')
            on_progress(len(items))


def _write_parquet(snapshot: Snapshot, path: Path, on_progress: Callable[[int], object]) -> None:
    pyarrow, parquet = _pyarrow()
    manifest = snapshot.manifest
    about = {"model": asdict(manifest.model), "metric": manifest.metric}
    schema = pyarrow.schema(
        [
            pyarrow.field("key", pyarrow.string(), nullable=False),
            pyarrow.field("label", pyarrow.string()),
            pyarrow.field("metadata", pyarrow.string()),
            pyarrow.field("latent", pyarrow.list_(pyarrow.float32(), manifest.latent_dim), nullable=False),
        ],
        metadata={_ABOUT: json.dumps(about)},
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for latents, items in snapshot.blocks(pictures=False):
            flat = pyarrow.array(latents.reshape(-1), pyarrow.float32())
            column = pyarrow.FixedSizeListArray.from_arrays(flat, type=schema.field("latent").type)
            texts = [pyarrow.array(texts, pyarrow.string()) for texts in (items.keys, items.labels, items.metadata)]
            writer.write_table(pyarrow.Table.from_arrays([*texts, column], schema=schema))
            on_progress(len(items))


def _read_parquet(path: Path, keys: Path | None) -> _Table:
    pyarrow, parquet = _pyarrow()
    file = parquet.ParquetFile(path)
    names = set(file.schema_arrow.names)
    key = _column(path, names, _KEY_COLUMNS)
    latent = _column(path, names, _LATENT_COLUMNS)
    kind = file.schema_arrow.field(latent).type
    if not pyarrow.types.is_nested(kind) or not hasattr(kind, "value_type"):
        raise ConfigurationError(f"{path}: the column {latent} must hold lists of numbers. Received: {kind}.")
    first = next(file.iter_batches(1, columns=[latent]), None)
    if first is None:
        raise ConfigurationError(f"{path} holds no row.")
    about = json.loads((file.schema_arrow.metadata or {}).get(_ABOUT, b"{}"))
    dim = len(first.column(0)[0].as_py() or ())

    def blocks() -> Iterator[_Block]:
        extra = [name for name in ("label", "metadata") if name in names]
        for batch in file.iter_batches(_ROWS_PER_BLOCK, columns=[key, latent, *extra]):
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
            yield _Block(flat.to_numpy(zero_copy_only=False).reshape(-1, dim), texts, labels, metadata)

    return _Table(dim, about if isinstance(about, dict) else {}, blocks())


def _read_npy(path: Path, keys: Path | None) -> _Table:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ConfigurationError(f"{path} must hold one array. Received: an archive of arrays.")
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise ConfigurationError(
            f"{path} must hold numbers [n, d]. Received: shape={array.shape}, dtype={array.dtype}."
        )
    names = None if keys is None else read_keys(keys)
    if names is not None and len(names) != len(array):
        raise ConfigurationError(
            f"{keys} must hold {len(array)} keys, one a line, as {path} has rows. Received: {len(names)}."
        )

    def blocks() -> Iterator[_Block]:
        for start in range(0, len(array), _ROWS_PER_BLOCK):
            rows = np.asarray(array[start : start + _ROWS_PER_BLOCK], dtype=np.float32)
            ids = range(start, start + len(rows))
            yield _Block(rows, [str(at) for at in ids] if names is None else names[start : start + len(rows)])

    return _Table(array.shape[1], {}, blocks())


def read_keys(path: Path) -> list[str]:
    """Read a text file with one key a line.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            # Not splitlines(), which cuts at characters that a key may hold.
            return [line.removesuffix("\n").removesuffix("\r") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read the keys in {path}: {error}.") from error


def _column(path: Path, names: set[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ConfigurationError(f"{path} needs a column {' or '.join(wanted)}. Received: {', '.join(sorted(names))}.")


@contextmanager
def _malformed(path: Path) -> Iterator[None]:
    """Tell what NumPy and Arrow raise about a file as an error of ours."""
    try:
        yield
    except (OSError, EOFError, ValueError, TypeError, RecursionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise ConfigurationError(f"{path} cannot be read: {reason}.") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ConfigurationError("Parquet files need pyarrow: pip install 'ae-search[parquet]'.") from error
    return pyarrow, pyarrow.parquet
