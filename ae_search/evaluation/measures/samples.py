"""What a report shows beside its figures: queries with their neighbours, items for a map, reconstructions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Index, Latents
from ae_search.evaluation.items import IndexedItems, Queries
from ae_search.evaluation.measures.metrics import SHORT, Judged
from ae_search.evaluation.reading import ItemImages, Reader
from ae_search.evaluation.shown import Answer, Examples, LatentSample, QueryResult, Reconstructions
from ae_search.image_file import pixels_to_png
from ae_search.nearest import NONE, Ids

EXAMPLES = 6
MAP_ITEMS = 1000
RECONSTRUCTIONS = 10

# Takes float32 images `[n, h, w, c]` in [0, 1], and returns what an autoencoder makes of them, in the same form.
Reconstruct = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]


@dataclass(frozen=True)
class Pictures:
    """The picture of an item: its thumbnail, or else the pixels of its image.

    Attributes:
        index: The index.
        images: Where the images of its items are.
    """

    index: Index
    images: ItemImages

    def of(self, key: str) -> bytes | None:
        """Return an image file of an item, None where there is none."""
        if (picture := self.index.thumbnail(key)) is not None:
            return picture
        pixels, _ = self.images.read([key])
        return pixels_to_png(pixels[0]) if len(pixels) else None


def choose_examples(judged: Judged, seed: int) -> dict[str, Ids]:
    """Choose queries to show, none of them twice.

    Returns:
        Positions of up to 6 "hits", "misses" and "worst" each, as `Examples` says.
    """
    shares = judged.precision(SHORT)
    ranked = np.lexsort((judged.average_precision, shares))
    worst = ranked[shares[ranked] < 1.0][:EXAMPLES]
    shuffled = np.random.default_rng(seed).permutation(len(shares))
    others = shuffled[~np.isin(shuffled, worst)]
    missed = others[~judged.relevant[others, 0]]
    return {"hits": others[shares[others] == 1.0][:EXAMPLES], "misses": missed[:EXAMPLES], "worst": worst}


def examples(judged: Judged, queries: Queries, items: IndexedItems, pictures: Pictures, *, seed: int) -> Examples:
    """Return some queries with their neighbours and pictures.

    Args:
        judged: The neighbours; its rows are those of `queries`.
        queries: The queries.
        items: The items.
        pictures: Pictures of the items.
        seed: Seed of the choice.
    """
    shares = judged.precision(SHORT)

    def result(row: int) -> QueryResult:
        found = [item for item in judged.neighbours[row, :SHORT].tolist() if item != NONE]
        similarities = _cosines(queries.latents[row], items.latents[found])
        return QueryResult(
            queries.keys[row],
            queries.labels[row],
            tuple(
                Answer(items.keys[item], items.labels[item], similarity, pictures.of(items.keys[item]))
                for item, similarity in zip(found, similarities, strict=True)
            ),
            float(shares[row]),
            float(judged.average_precision[row]),
            _picture(pictures.images.reader, queries, row),
        )

    chosen = choose_examples(judged, seed)
    return Examples(**{name: tuple(map(result, rows.tolist())) for name, rows in chosen.items()})


def _cosines(latent: Latents, others: Latents) -> list[float]:
    """Return the cosine of a latent `[d]` with the nearest one of each item `[n, r, d]`."""
    one, many = latent.astype(np.float64), others.astype(np.float64)
    norms = np.linalg.norm(one) * np.linalg.norm(many, axis=2)
    cosines = np.divide(many @ one, norms, out=np.zeros(norms.shape), where=norms > 0)
    return list(map(float, cosines.max(axis=1)))


def _picture(reader: Reader, queries: Queries, row: int) -> bytes | None:
    pixels, _ = reader.read(queries.source, [queries.positions[row]])
    return pixels_to_png(pixels[0]) if len(pixels) else None


def sample_latents(items: IndexedItems, pictures: Pictures, seed: int) -> LatentSample:
    """Draw up to 1000 items for a map, in the order of the index; the first latent of each is its place."""
    count = len(items.keys)
    drawn = np.sort(np.random.default_rng(seed).choice(count, min(MAP_ITEMS, count), replace=False))
    keys = tuple(items.keys[at] for at in drawn)
    labels = tuple(items.labels[at] for at in drawn)
    return LatentSample(items.latents[drawn, 0], keys, labels, tuple(map(pictures.of, keys)))


def reconstructions(reconstruct: Reconstruct, queries: Queries, reader: Reader) -> Reconstructions:
    """Reconstruct the first 10 queries."""
    pixels, read = reader.read(queries.source, queries.positions[:RECONSTRUCTIONS])
    originals = np.asarray(pixels, np.float32) / np.float32(255)
    made = np.asarray(reconstruct(originals), np.float32)
    labels: Sequence[str | None] = [queries.source.labels[position] for position in read]
    return Reconstructions(originals, made, tuple(labels), float(np.mean((originals - made) ** 2)))
