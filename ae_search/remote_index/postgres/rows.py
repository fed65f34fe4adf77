"""Rows of a generation: items into them by COPY, and back."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from pgvector import Vector
from psycopg import sql

from ae_search.contract import Items, Latents
from ae_search.errors import IndexDamagedError
from ae_search.nearest.comparing import first_bad_row
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.names import name_of
from ae_search.remote_index.postgres.schema import table_of

# The server's types, in the order of the columns; JSON goes over the wire as text does.
_TYPES = ("int8", "int2", "uuid", "text", "text", "text", "text", "bytea", "vector")
_COPY = "COPY {} (id, at, name, key, label, metadata, digest, thumbnail, latent) FROM STDIN (FORMAT BINARY)"
ITEM_COLUMNS = "id, at, latent, key, label, metadata::text, digest"


class Row(NamedTuple):
    """One latent of an item, and what the item has besides.

    Attributes:
        id: Id of the item.
        at: Which of its latents.
        latent: Float32 `[d]`.
        key: Key of the item.
        label: Its label.
        metadata: Its metadata as JSON.
        digest: Its digest.
        thumbnail: Its picture, with the first latent where it was asked for.
    """

    id: int
    at: int
    latent: Latents
    key: str
    label: str | None
    metadata: str | None
    digest: str | None
    thumbnail: bytes | None


def copy_in(session: Session, generation: int, ids: Sequence[int], latents: Sequence[Latents], items: Items) -> None:
    """Write items with the latents `[r, d]` of each."""
    if not len(items):
        return
    columns = zip(ids, latents, items.keys, items.labels, items.metadata, items.digests, items.thumbnails, strict=True)
    with session.cursor() as cursor, cursor.copy(sql.SQL(_COPY).format(table_of(generation))) as copy:
        copy.set_types(_TYPES)
        for number, own, key, label, metadata, digest, thumbnail in columns:
            name = name_of(key)
            for at, latent in enumerate(own):
                picture = None if at else thumbnail
                copy.write_row((number, at, name, key, label, metadata, digest, picture, Vector(latent)))


def latents_of(values: Sequence[Any], latent_dim: int) -> Latents:
    """Return latents as the driver read them, as float32 `[n, d]` of our own.

    Raises:
        IndexDamagedError: They have another size, or are not finite; whoever may write to the database may have changed
            its tables.
    """
    rows = [value.to_numpy() if isinstance(value, Vector) else np.asarray(value) for value in values]
    if any(row.shape != (latent_dim,) for row in rows):
        raise IndexDamagedError(f"The index holds latents of another size than {latent_dim} floats; build it anew.")
    latents = np.array(rows, np.float32).reshape(len(rows), latent_dim)
    if first_bad_row(latents) is not None:
        raise IndexDamagedError("The index holds latents that are not finite; build it anew.")
    return latents


def check_texts(values: Iterable[Any]) -> None:
    """Check keys, labels and metadata as they come.

    Raises:
        IndexDamagedError: One is no text.
    """
    for value in values:
        if not isinstance(value, str | None):
            raise IndexDamagedError(f"The index holds {value!r:.60} in place of a text; build it anew.")


def blocks_of(rows: Iterable[Row], most: int) -> Iterator[tuple[Latents, Items]]:
    """Yield rows that come by id and by latent as blocks of up to so many items that have as many latents."""
    block: list[list[Row]] = []
    for _, group in groupby(rows, key=itemgetter(0)):
        own = list(group)
        if block and (len(block) == most or len(block[0]) != len(own)):
            yield _block(block)
            block = []
        block.append(own)
    if block:
        yield _block(block)


def _block(block: list[list[Row]]) -> tuple[Latents, Items]:
    first = [own[0] for own in block]
    latents = np.array([[row.latent for row in own] for own in block], np.float32)
    return latents, Items(
        [row.key for row in first],
        [row.label for row in first],
        [row.metadata for row in first],
        [row.thumbnail for row in first],
        [row.digest for row in first],
    )
