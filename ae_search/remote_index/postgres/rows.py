"""Rows of a generation: items into them by COPY, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pgvector import Vector
from psycopg import sql

from ae_search.contract import Items, Latents
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.names import name_of
from ae_search.remote_index.postgres.schema import table_of
from ae_search.remote_index.rows import finite_latents

# The server's types, in the order of the columns; JSON goes over the wire as text does.
_TYPES = ("int8", "int2", "uuid", "text", "text", "text", "text", "bytea", "vector")
_COPY = "COPY {} (id, at, name, key, label, metadata, digest, thumbnail, latent) FROM STDIN (FORMAT BINARY)"
ITEM_COLUMNS = "id, at, latent, key, label, metadata::text, digest"


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
    """Return latents as the driver read them, as float32 `[n, d]` of our own; see `finite_latents`."""
    rows = [value.to_numpy() if isinstance(value, Vector) else np.asarray(value) for value in values]
    return finite_latents(rows, latent_dim)
