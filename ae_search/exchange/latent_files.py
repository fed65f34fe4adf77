"""Latents in and out: Parquet and NumPy files of other programs, JSON lines for other engines."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.checked_json import object_of, text_of, whole_of
from ae_search.contract import METRICS, Metric, ModelRef
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.exchange.parquet_file import (
    Block,
    Table,
    malformed,
    parquet_writer,
    pyarrow_modules,
    rows_per_block,
)
from ae_search.exchange.parquet_table import KEY_COLUMNS, read_folder, read_parquet
from ae_search.files import write_atomically
from ae_search.index.builder import IndexBuilder, Origin
from ae_search.index.store.generation import Snapshot
from ae_search.index.store.manifest import UNKNOWN_MODEL, Manifest

PARQUET, NPY, JSON_LINES = ".parquet", ".npy", ".jsonl"


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
    if path.parent.resolve().is_relative_to(snapshot.generation.folder.resolve().parent):
        raise ConfigurationError(f"{path} would lie within the index; export to another folder.")
    if suffix not in writers:
        raise ConfigurationError(f"An export is named *{PARQUET} or *{JSON_LINES}. Received: {str(path)!r}.")
    if suffix == PARQUET:
        pyarrow_modules()
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
            metadata; a folder of such files, as `ae-search embed` writes it; or `.npy` with an array `[n, d]`.
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
    readers: dict[str, Callable[..., Table]] = {PARQUET: read_parquet, NPY: _read_npy}
    suffix = source.suffix.lower()
    if source.is_dir():
        suffix, readers = PARQUET, {PARQUET: read_folder}
    if suffix not in readers:
        raise ConfigurationError(f"An import is a *{PARQUET} or *{NPY} file. Received: {str(source)!r}.")
    if keys is not None and suffix == PARQUET:
        raise ConfigurationError(f"Keys of {source} are in its column {' or '.join(KEY_COLUMNS)}; leave --keys out.")
    with malformed(source):
        table = readers[suffix](source, keys)
    origin = _origin(table, model, metric)
    with IndexBuilder(index, origin, sources=(), **options) as builder:
        blocks = iter(table.blocks)
        while True:
            with malformed(source):
                block = next(blocks, None)
            if block is None:
                break
            builder.add(block.latents, block.keys, block.labels, metadata=block.metadata)
            on_progress(len(block.keys))
    return builder.manifest


def _origin(table: Table, model: Origin | None, metric: Metric | None) -> LatentOrigin:
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
    manifest = snapshot.manifest
    with parquet_writer(path, manifest.model, manifest.metric, manifest.latent_dim) as write:
        for latents, items in snapshot.blocks(pictures=False):
            write(latents, items.keys, items.labels, items.metadata)
            on_progress(len(items))


def _read_npy(path: Path, keys: Path | None) -> Table:
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

    def blocks() -> Iterator[Block]:
        step = rows_per_block(array.shape[1])
        for start in range(0, len(array), step):
            rows = np.asarray(array[start : start + step], dtype=np.float32)
            ids = range(start, start + len(rows))
            yield Block(rows, [str(at) for at in ids] if names is None else names[start : start + len(rows)])

    return Table(array.shape[1], {}, blocks())


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
