"""Items as rows of a generation, and back."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ae_search.contract import Items, Latents, Metric
from ae_search.errors import IndexDamagedError, NotSupportedError
from ae_search.remote_index.milvus.conditions import fields_json, fields_of, key_hash, label_hash
from ae_search.remote_index.milvus.options import MAX_TEXT
from ae_search.remote_index.milvus.schema import ROWS_PER_ITEM, width_of
from ae_search.remote_index.rows import Row, check_texts, finite_latents

# What a search or a look-up reads of a row.
NAMES = ("pk", "has", "key", "label", "metadata")
WITH_LATENT = (*NAMES, "scale", "latent")
WITH_ALL = (*WITH_LATENT, "digest", "thumbnail")
# Milvus 2.3 has no null: these bits tell what an item has.
_LABEL, _METADATA, _DIGEST, _THUMBNAIL = 1, 2, 4, 8
# Below the 64 MiB that a server takes at once, whatever the rows take on the way.
_BYTES_AT_ONCE = 8 << 20
_BYTES_BESIDE = 256


def rows_of(ids: Sequence[int], latents: Sequence[Latents], items: Items, metric: Metric) -> Iterator[dict[str, Any]]:
    """Yield the rows of items with the latents `[r, d]` of each.

    Raises:
        NotSupportedError: Metadata or a thumbnail are larger than Milvus takes.
    """
    columns = zip(ids, latents, items.keys, items.labels, items.metadata, items.digests, items.thumbnails, strict=True)
    for number, own, key, label, metadata, digest, thumbnail in columns:
        fields = fields_of(key, label, metadata)
        picture = "" if thumbnail is None else base64.b64encode(thumbnail).decode()
        _check_sizes(key, {"metadata": metadata or "", "thumbnail": picture, "fields": fields_json(fields)})
        given = {_LABEL: label, _METADATA: metadata, _DIGEST: digest, _THUMBNAIL: thumbnail}
        row = {
            "key_hash": key_hash(key),
            "label_hash": label_hash(label),
            "has": sum(bit for bit, value in given.items() if value is not None),
            "key": key,
            "label": label or "",
            "metadata": metadata or "",
            "digest": digest or "",
            "fields": fields,
        }
        for at, (latent, scale) in enumerate(_scaled(own, metric)):
            yield {
                **row,
                "pk": number * ROWS_PER_ITEM + at,
                "scale": scale,
                "thumbnail": "" if at else picture,
                "latent": latent,
            }


def in_blocks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in blocks that one call can take."""
    block: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        texts = (row["key"], row["label"], row["metadata"], row["thumbnail"])
        own = 4 * len(row["latent"]) + _BYTES_BESIDE + 64 * len(row["fields"]) + 3 * sum(map(len, texts))
        if block and size + own > _BYTES_AT_ONCE:
            yield block
            block, size = [], 0
        block.append(row)
        size += own
    if block:
        yield block


def rows_at_once(latent_dim: int) -> int:
    """Return how many rows with their latents one answer can hold."""
    return max(1, min(8192, _BYTES_AT_ONCE // (4 * latent_dim + _BYTES_BESIDE)))


def latents_of(rows: Sequence[dict[str, Any]], latent_dim: int) -> Latents:
    """Return the latents of some rows, float32 `[n, d]`, as they were written.

    Raises:
        IndexDamagedError: They have another size, or are not finite.
    """
    width = width_of(latent_dim)
    stored = [np.asarray(row["latent"], np.float32) for row in rows]
    if any(one.shape != (width,) for one in stored):
        raise IndexDamagedError(f"The index holds latents of another size than {latent_dim} floats; build it anew.")
    scales = np.array([_whole(row["scale"]) for row in rows], np.int64).reshape(-1, 1)
    values = np.array(stored, np.float32).reshape(len(rows), width)[:, :latent_dim]
    return finite_latents(list(np.ldexp(values, -np.clip(scales, 0, 300))), latent_dim)


def row_of(row: dict[str, Any], latent: Latents, *, thumbnails: bool = True) -> Row:
    """Return a row in the words of this package.

    Raises:
        IndexDamagedError: Somebody else has written it.
    """
    has, number = _whole(row["has"]), _whole(row["pk"])
    key, label, metadata = names_of(row)
    digest = digest_of(row)
    picture = None
    if thumbnails and has & _THUMBNAIL and number % ROWS_PER_ITEM == 0:
        picture = thumbnail_of(row)
    return Row(number // ROWS_PER_ITEM, number % ROWS_PER_ITEM, latent, key, label, metadata, digest, picture)


def names_of(row: dict[str, Any]) -> tuple[str, str | None, str | None]:
    """Return key, label and metadata of a row; see `row_of`."""
    has = _whole(row["has"])
    names = row["key"], row["label"] if has & _LABEL else None, row["metadata"] if has & _METADATA else None
    check_texts(names)
    return names


def digest_of(row: dict[str, Any]) -> str | None:
    """Return the digest of a row; see `row_of`."""
    digest = row["digest"] if _whole(row["has"]) & _DIGEST else None
    check_texts((digest,))
    return digest


def thumbnail_of(row: dict[str, Any]) -> bytes | None:
    """Return the picture of an item's first row; see `row_of`."""
    if not _whole(row["has"]) & _THUMBNAIL:
        return None
    try:
        return base64.b64decode(row["thumbnail"], validate=True)
    except (ValueError, TypeError) as error:
        raise IndexDamagedError(f"The index holds a thumbnail that is none ({error}); build it anew.") from error


def scaled_queries(latents: Latents, latent_dim: int) -> Latents:
    """Return queries `[q, d]` as wide as the rows are."""
    return _padded(latents, width_of(latent_dim))


def _scaled(latents: Latents, metric: Metric) -> Iterator[tuple[Latents, int]]:
    """Yield each latent as it is stored, and the power of two that it was multiplied by.

    By the angle, the server divides by norms in float32, in which the squares of very small numbers are 0. A power of
    two changes no digit.
    """
    wide = _padded(latents, width_of(latents.shape[1]))
    if metric == "euclidean":
        yield from zip(wide, [0] * len(wide), strict=True)
        return
    _, exponents = np.frexp(np.abs(wide).max(axis=1))
    scales = np.maximum(0, -exponents.astype(np.int64))
    scaled = np.ldexp(wide, scales[:, np.newaxis])
    yield from zip(scaled, scales.tolist(), strict=True)


def _padded(latents: Latents, width: int) -> Latents:
    missing = width - latents.shape[1]
    return np.pad(latents, ((0, 0), (0, missing))) if missing else latents


def _check_sizes(key: str, texts: dict[str, str]) -> None:
    for what, text in texts.items():
        size = len(text.encode())
        if size > MAX_TEXT:
            raise NotSupportedError(
                f"Milvus holds up to {MAX_TEXT} bytes of an item's {_SAID[what]}; an index in a folder or on "
                f"PostgreSQL takes more. Received: {size} bytes for {key!r:.80}; nothing was changed."
            )


_SAID: dict[str, str] = {
    "metadata": "metadata as JSON",
    "thumbnail": "thumbnail as base64",
    "fields": "metadata as numbers to filter by",
}


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise IndexDamagedError(f"The index holds {value!r:.60} in place of a whole number; build it anew.")
    return value
