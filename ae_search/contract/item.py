"""What an index holds beside latents, and what a search answers with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ae_search.errors import IndexDamagedError

Metadata = Mapping[str, Any]

# What an item may have, as UTF-8; no file's path is longer than half of the former.
MAX_TEXT_BYTES = 8192
MAX_METADATA_BYTES = 1 << 20
# Floats in one latent, and latents of one item.
MAX_ITEM_DIM = 1 << 16
MAX_LATENTS_PER_ITEM = 64


class Neighbour(NamedTuple):
    """One answer to a query.

    Attributes:
        rank: Place among the answers, from 1.
        key: Key of the item.
        label: Label of the item, if it has one.
        similarity: Cosine similarity in [-1, 1].
        distance: Distance by the index's metric.
        id: Number of the item in this state of the index.
        metadata_json: Metadata of the item as a JSON object, if it has any.
    """

    rank: int
    key: str
    label: str | None
    similarity: float
    distance: float
    id: int
    metadata_json: str | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the item; empty where it has none."""
        return metadata_of(self.metadata_json)


@dataclass(frozen=True)
class Items:
    """A block of n items, checked: what each has besides its latents.

    Attributes:
        keys: Their keys, all different.
        labels: Their labels, None where an item has none.
        metadata: Their metadata as JSON objects, None where an item has none.
        thumbnails: Their pictures as JPEG files, None where an item has none.
        digests: Digests of their content, None where an item has none.
    """

    keys: Sequence[str]
    labels: Sequence[str | None]
    metadata: Sequence[str | None]
    thumbnails: Sequence[bytes | None]
    digests: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.keys)


def metadata_of(text: str | None) -> dict[str, Any]:
    """Return metadata that are stored as JSON, empty where there are none.

    Raises:
        IndexDamagedError: They are no JSON object.
    """
    if not text:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IndexDamagedError(f"The index holds metadata that are no JSON ({error}); build it anew.") from error
    if not isinstance(metadata, dict):
        raise IndexDamagedError(f"The index holds metadata that are no JSON object ({text[:60]!r}); build it anew.")
    return metadata
