"""Latents in and out: Parquet and NumPy files of other programs, JSON lines for other engines."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.checked_json import object_of, text_of, whole_of
from ae_search.contract import (
    MAX_LATENTS_PER_ITEM,
    METRICS,
    UNKNOWN_MODEL,
    Builder,
    Index,
    Items,
    Latents,
    Metric,
    ModelRef,
    OnItems,
    Origin,
    metadata_of,
    no_progress,
)
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.exchange.parquet_file import (
    Table,
    TableRows,
    malformed,
    parquet_writer,
    pyarrow_modules,
    rows_per_block,
)
from ae_search.exchange.parquet_table import KEY_COLUMNS, read_folder, read_parquet
from ae_search.files import trouble_in_words, write_atomically

PARQUET, NPY, JSON_LINES = ".parquet", ".npy", ".jsonl"
# What an export says of itself where items have several latents, a row each.
SEVERAL = "several_latents"
# What the index has stored by `calibrate`, such as whether it has regions; more of it than a footer holds stays behind.
CALIBRATION = "calibration"
_MAX_CALIBRATION_BYTES = 8 << 20


@dataclass(frozen=True)
class LatentOrigin:
    """Where imported latents come from; see `contract.Origin`."""

    name: str
    version: int
    fingerprint: str
    latent_dim: int
    metric: Metric
    image_shape: tuple[int, int, int] | None = None


def export_latents(index: Index, path: Path, *, on_progress: OnItems = no_progress) -> int:
    """Write keys and latents of all items to one file, which appears whole or not at all.

    Args:
        index: The index.
        path: `.parquet` with the columns key, label, metadata (JSON) and latent, one row for each latent, those of one
            item next to each other, and with what was measured about them; or `.jsonl` with an object
            `{"id", "embedding"}` in each line, which other engines read, and "label" and "metadata" for an item that
            has them. An item with several latents has the others there as "more".
        on_progress: Called with the number of items done since the last call.

    Returns:
        The number of items.

    Raises:
        ConfigurationError: The name has another ending, pyarrow is missing, or the file cannot be written.
    """
    writers = {PARQUET: _write_parquet, JSON_LINES: _write_json_lines}
    suffix = path.suffix.lower()
    if path.parent.resolve().is_relative_to(Path(index.place).resolve()):
        raise ConfigurationError(f"{path} would lie within the index; export to another folder.")
    if suffix not in writers:
        raise ConfigurationError(f"An export is named *{PARQUET} or *{JSON_LINES}. Received: {str(path)!r}.")
    if suffix == PARQUET:
        pyarrow_modules()
    written = 0

    def blocks() -> Iterator[tuple[Latents, Items]]:
        nonlocal written
        for latents, items in index.blocks(thumbnails=False):
            yield latents, items
            written += len(items)
            on_progress(len(items))

    try:
        write_atomically(path, lambda temporary: writers[suffix](index, blocks(), temporary))
    except OSError as error:
        raise ConfigurationError(f"Cannot write {path}: {trouble_in_words(error)}.") from error
    return written


def import_latents(
    source: Path,
    build: Callable[[Origin], Builder],
    *,
    keys: Path | None = None,
    model: Origin | None = None,
    metric: Metric | None = None,
    on_progress: OnItems = no_progress,
) -> None:
    """Build an index from a file of latents.

    Args:
        source: `.parquet` with a column key or id and a column latent, embedding or vector, and maybe label and
            metadata; a folder of such files, as `ae-search embed` writes it; or `.npy` with an array `[n, d]`.
        build: Returns the builder of the index, for the model that the latents come from.
        keys: Text file with one key a line, for `.npy`; without it the keys are the row numbers.
        model: The model that the latents come from. None: what an export of ours says of itself, else unknown, and
            then the index can be searched by latents and keys but not by images.
        metric: Distance to compare them with; None: the model's, else "angular".
        on_progress: Called with the number of rows done since the last call.

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
    with build(origin) as builder:
        with malformed(source):
            for name, values in _calibration(table, origin):
                builder.calibrate(name, values)
        blocks = _by_item(table.blocks) if table.about.get(SEVERAL) is True else ((b, b.latents) for b in table.blocks)
        while True:
            with malformed(source):
                block, latents = next(blocks, (None, None))
            if block is None or latents is None:
                break
            builder.add(latents, block.keys, block.labels, metadata=block.metadata)
            on_progress(len(block.keys))


def _calibration(table: Table, origin: LatentOrigin) -> list[tuple[str, dict[str, Any]]]:
    """Return what the file tells of what was measured, which holds for the metric that it was measured with."""
    if CALIBRATION not in table.about or table.about.get("metric") != origin.metric:
        return []
    told = object_of(table.about, CALIBRATION)
    return [(name, object_of(told, name)) for name in told]


def _by_item(blocks: Iterator[TableRows]) -> Iterator[tuple[TableRows, Latents]]:
    """Put rows of the same key that follow each other together, as the latents `[1, r, d]` of one item."""
    for key, rows in groupby(_rows(blocks), key=lambda row: row.keys[0]):
        first = next(rows)
        parts = [first.latents, *(row.latents for row in islice(rows, MAX_LATENTS_PER_ITEM))]
        if len(parts) > MAX_LATENTS_PER_ITEM:
            raise ConfigurationError(f"An item has up to {MAX_LATENTS_PER_ITEM} latents. Received more for {key!r}.")
        yield first, np.concatenate(parts)[np.newaxis]


def _rows(blocks: Iterator[TableRows]) -> Iterator[TableRows]:
    for block in blocks:
        for at in range(len(block.keys)):
            part = slice(at, at + 1)
            labels = None if block.labels is None else block.labels[part]
            metadata = None if block.metadata is None else block.metadata[part]
            yield TableRows(block.latents[part], block.keys[part], labels, metadata)


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


def _write_json_lines(index: Index, blocks: Iterator[tuple[Latents, Items]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for latents, items in blocks:
            about = zip(items.keys, items.labels, items.metadata, latents, strict=True)
            for key, label, metadata, own in about:
                first, *others = map(_floats, own)
                fields = {"id": _text(key), "embedding": first}
                fields |= {"more": f"[{', '.join(others)}]"} if others else {}
                fields |= {} if label is None else {"label": _text(label)}
                fields |= {"metadata": json.dumps(metadata_of(metadata), ensure_ascii=False)} if metadata else {}
                file.write("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}\n")


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _floats(latent: Latents) -> str:
    # float32 in its shortest form: what is read back is the same float32.
    return f"[{','.join(str(number) for number in latent)}]"


def _write_parquet(index: Index, blocks: Iterator[tuple[Latents, Items]], path: Path) -> None:
    about: dict[str, Any] = {}
    if len(json.dumps(measured := index.calibration())) <= _MAX_CALIBRATION_BYTES:
        about[CALIBRATION] = measured
    with parquet_writer(path, index.model, index.metric, index.latent_dim, about=about) as write:
        for latents, items in blocks:
            each = latents.shape[1]
            if each > 1:
                about[SEVERAL] = True
            texts = ([text for text in column for _ in range(each)] for column in (items.keys, items.labels))
            keys, labels = texts
            metadata = [text for text in items.metadata for _ in range(each)]
            write(latents.reshape(-1, index.latent_dim), keys, labels, metadata)


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

    def blocks() -> Iterator[TableRows]:
        step = rows_per_block(array.shape[1])
        for start in range(0, len(array), step):
            rows = np.asarray(array[start : start + step], dtype=np.float32)
            ids = range(start, start + len(rows))
            yield TableRows(rows, [str(at) for at in ids] if names is None else names[start : start + len(rows)])

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
