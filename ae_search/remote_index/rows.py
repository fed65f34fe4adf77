"""Rows as a server answers them: one for each latent."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ae_search.contract import Items, Latents
from ae_search.errors import IndexDamagedError
from ae_search.nearest.comparing import first_bad_row


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


def finite_latents(rows: Sequence[Any], latent_dim: int) -> Latents:
    """Return latents as a server answered them, as float32 `[n, d]` of our own.

    Raises:
        IndexDamagedError: They have another size, or are not finite; whoever may write to the server may have changed
            what it holds.
    """
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
