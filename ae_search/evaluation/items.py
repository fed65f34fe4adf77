"""The two sides of an evaluation, loaded once: the items of the index, and the queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ae_search.contract import Encoder, Index, Latents
from ae_search.data import Source
from ae_search.data.digests import ItemDigest
from ae_search.errors import ConfigurationError
from ae_search.evaluation.own_items import by_content, by_latent, contents_of
from ae_search.evaluation.reading import BLOCK, ImageShape, Reader, shrunk
from ae_search.nearest import NONE, Ids
from ae_search.views import Pixels


@dataclass(frozen=True)
class IndexedItems:
    """What the index holds at one moment.

    Attributes:
        keys: n keys.
        labels: n labels, None where an item has none.
        latents: float32 `[n, r, d]`: the latents of each item, its first one again where others have more.
        contents: n digests of their pictures' content, None where the index does not know one.
    """

    keys: list[str]
    labels: list[str | None]
    latents: Latents
    contents: list[str | None]

    @classmethod
    def of(cls, index: Index) -> "IndexedItems":
        """Read all items.

        Raises:
            ConfigurationError: There is none.
        """
        keys: list[str] = []
        labels: list[str | None] = []
        contents: list[str | None] = []
        latents: list[Latents] = []
        for some, items in index.blocks(thumbnails=False):
            keys += items.keys
            labels += items.labels
            digests = map(ItemDigest.parse, items.digests)
            contents += [None if digest is None else digest.content for digest in digests]
            latents.append(some)
        if not keys:
            raise ConfigurationError(f"{index.place} holds no item; there is nothing to evaluate.")
        return cls(keys, labels, _stacked(latents), contents)

    def own(self, source: Source, positions: Sequence[int], latents: Latents) -> Ids:
        """Return which item each image of a source is `[q]`, -1 where it is none.

        Their contents are compared; with items whose content the index does not know, as older releases built it, their
        latents.
        """
        namesakes = self.ids_of([source.key(position) for position in positions])
        known = np.array([content is not None for content in self.contents])
        own = np.full(len(positions), NONE)
        if known.any():
            own = by_content(contents_of(source, positions), self.contents, namesakes)
        if not known.all():
            unknown = np.flatnonzero(~known)
            place = np.full(len(known) + 1, NONE)  # the last place answers for -1
            place[unknown] = np.arange(len(unknown))
            found = by_latent(latents, self.latents[unknown], place[namesakes])
            own = np.where((own == NONE) & (found != NONE), unknown[found], own)
        return own

    def ids_of(self, keys: Sequence[str]) -> Ids:
        """Return where some keys are, -1 for those that are not here."""
        place = {key: at for at, key in enumerate(self.keys)}
        return np.array([place.get(key, NONE) for key in keys], np.int64)

    def keys_of(self, ids: Ids) -> list[str | None]:
        """Return the keys of some ids, None for -1."""
        return [None if at == NONE else self.keys[at] for at in ids]


def _stacked(blocks: list[Latents]) -> Latents:
    """Join blocks `[n, r, d]`; where an item has fewer latents than another, its first one fills the places."""
    most = max(block.shape[1] for block in blocks)
    stacked = np.empty((sum(map(len, blocks)), most, blocks[0].shape[2]), np.float32)
    start = 0
    while blocks:  # each is let go of as soon as it is copied
        block = blocks.pop(0)
        part = stacked[start : start + len(block)]
        part[:] = block[:, :1]
        part[:, : block.shape[1]] = block
        start += len(block)
    return stacked


@dataclass(frozen=True)
class Queries:
    """Images to search with.

    Attributes:
        source: Where they come from.
        positions: q positions in it.
        keys: q keys.
        labels: q labels, None where an image has none.
        latents: float32 `[q, d]`.
        pixels: For the baselines, uint8 `[q, h, w, c]`.
        own: Id of the item that is the query itself `[q]`, -1 where there is none; see `own_items`.
    """

    source: Source
    positions: list[int]
    keys: list[str]
    labels: list[str | None]
    latents: Latents
    pixels: Pixels
    own: Ids

    def __len__(self) -> int:
        return len(self.positions)

    def at(self, rows: list[int]) -> "Queries":
        """Return some of them."""
        if len(rows) == len(self):
            return self
        return Queries(
            self.source,
            [self.positions[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.labels[row] for row in rows],
            self.latents[rows],
            self.pixels[rows],
            self.own[rows],
        )


def draw_queries(
    source: Source, encoder: Encoder, reader: Reader, items: IndexedItems, *, count: int, seed: int, shape: ImageShape
) -> Queries:
    """Draw images of a source, read them and encode them.

    Args:
        source: The images.
        encoder: The index's.
        reader: Reads images in the model's shape.
        items: What the index holds.
        count: How many at most, at least 1; damaged ones are not made up for.
        seed: Seed of the drawing; all are taken, in another order, where there are no more.
        shape: Shape of the pixels for the baselines.

    Raises:
        ConfigurationError: None of them can be read.
        ServerError: The encoder does not answer.
    """
    drawn = np.random.default_rng(seed).permutation(len(source))[:count].tolist()
    positions: list[int] = []
    latents: list[Latents] = []
    pixels: list[Pixels] = []
    for start in range(0, len(drawn), BLOCK):
        images, read = reader.read(source, drawn[start : start + BLOCK])
        if read:
            latents.append(encoder.encode(images))
            pixels.append(shrunk(images, shape))
            positions += read
    if not positions:
        raise ConfigurationError(f"None of the {len(drawn)} images of {source.name} can be read.")
    encoded = np.concatenate(latents)
    return Queries(
        source,
        positions,
        [source.key(position) for position in positions],
        [source.labels[position] for position in positions],
        encoded,
        np.concatenate(pixels),
        items.own(source, positions, encoded),
    )
