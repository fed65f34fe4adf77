"""Changes of the index that callers ask for: all of what one request names, or nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ae_search.contract import Encoder, Index, no_progress
from ae_search.data.digests import SENT
from ae_search.data.sources.source import SourceDefaults
from ae_search.errors import ConfigurationError
from ae_search.indexing.encoding import EncodedBlock, SourceEncoder
from ae_search.indexing.jobs import encoder_of
from ae_search.web.parameters import NewItem
from ae_search.web.problems import Problem

# How long a change waits for another writer, in s.
WAIT_S = 5.0
_LISTS = ("keys", "labels", "thumbnails", "digests", "metadata")


class SentImages(SourceDefaults):
    """Images of a request, as a source."""

    name = argument = SENT

    def __init__(self, items: Sequence[NewItem], images: Sequence[bytes]) -> None:
        """Take items, and an image for each."""
        self._items, self._images = items, images
        self.labels = [item.label for item in items]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._items)

    def key(self, position: int) -> str:
        """Return the key of an image."""
        return self._items[position].key

    def position(self, key: str) -> int | None:
        """Return where the image of a key is."""
        return next((at for at, item in enumerate(self._items) if item.key == key), None)

    def place(self, position: int) -> str:
        """Return what to call an image."""
        return f"image {position}"

    def read(self, position: int) -> bytes:
        """Return an image."""
        return self._images[position]

    def metadata(self, position: int) -> dict[str, Any] | None:
        """Return what was said of an image."""
        return self._items[position].metadata


def add(index: Index, encoder: Encoder, items: Sequence[NewItem], images: Sequence[bytes]) -> int:
    """Add items; return how many.

    Raises:
        Problem: A key is there already, or occurs twice, or an image cannot be read.
        AeSearchError: The encoder or the index does not take them.
    """
    keys = [item.key for item in items]
    _check_once(keys)
    if there := index.known(keys):
        raise _conflict(sorted(there))
    block = _encoded(index, encoder, SentImages(items, images))
    try:
        index.add(
            block.latents,
            block.keys,
            block.labels,
            metadata=block.metadata,
            thumbnails=block.thumbnails,
            digests=block.digests,
            wait_s=WAIT_S,
        )
    except ConfigurationError:
        if there := index.known(keys):  # somebody else added it meanwhile
            raise _conflict(sorted(there)) from None
        raise
    return len(keys)


def replace_image(index: Index, encoder: Encoder, key: str, image: bytes) -> None:
    """Give an item another image; label and metadata stay.

    Raises:
        Problem: There is no such item, or the image cannot be read.
        AeSearchError: The encoder or the index does not take it.
    """
    _check_there(index, [key])
    block = _encoded(index, encoder, SentImages([NewItem(key=key)], [image]))
    index.update([key], latents=block.latents, thumbnails=block.thumbnails, digests=block.digests, wait_s=WAIT_S)


def describe(index: Index, items: Sequence[NewItem]) -> int:
    """Change labels and metadata: those that each item names; return how many items were changed.

    Raises:
        Problem: There is no such item, or one occurs twice.
        AeSearchError: The index does not take it.
    """
    keys = [item.key for item in items]
    _check_once(keys)
    _check_there(index, keys)
    old = index.details(keys)
    labels = [
        item.label if "label" in item.model_fields_set else label for item, (label, _) in zip(items, old, strict=True)
    ]
    metadata = [
        item.metadata if "metadata" in item.model_fields_set else before
        for item, (_, before) in zip(items, old, strict=True)
    ]
    index.update(keys, labels=labels, metadata=metadata, wait_s=WAIT_S)
    return len(keys)


def remove(index: Index, keys: Sequence[str]) -> int:
    """Remove items; return how many.

    Raises:
        Problem: There is no such item, or one occurs twice.
        AeSearchError: The index does not take it.
    """
    _check_once(keys)
    _check_there(index, keys)
    index.remove(keys, wait_s=WAIT_S)
    return len(keys)


def _encoded(index: Index, encoder: Encoder, source: SentImages) -> EncodedBlock:
    """Return all images of a request as one block, so that they are one change."""
    encoding: SourceEncoder = encoder_of(source, encoder, index)
    blocks = list(encoding.blocks(range(len(source)), no_progress))
    codes = [("ImageError", encoding.damaged), ("ImageRefusedError", encoding.refused)]
    faults = [{"key": key, "code": code, "detail": detail} for code, bad in codes for key, detail in bad.items()]
    if faults:
        raise Problem(faults[0]["code"], f"{len(faults)} images were not taken; nothing was changed.", faults=faults)
    return EncodedBlock(
        np.concatenate([block.latents for block in blocks]),
        *([one for block in blocks for one in getattr(block, name)] for name in _LISTS),
    )


def _check_once(keys: Sequence[str]) -> None:
    if len(set(keys)) < len(keys):
        raise Problem("BadRequest", "Each key may occur once.")


def _check_there(index: Index, keys: Sequence[str]) -> None:
    known = index.known(keys)
    if missing := [key for key in keys if key not in known]:
        faults = [{"key": key, "code": "NotFound", "detail": "There is no such item."} for key in missing[:100]]
        raise Problem("NotFound", f"The index has no item {missing[0]!r:.200}.", faults=faults)


def _conflict(there: Sequence[str]) -> Problem:
    faults = [{"key": key, "code": "Conflict", "detail": "It is there already."} for key in there[:100]]
    return Problem("Conflict", f"The index has an item {there[0]!r:.200} already; nothing was added.", faults=faults)
