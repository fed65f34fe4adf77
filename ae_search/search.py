"""Search by image: an encoder, served or in this process, and an index that belong together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Encoder, Latents, ModelRef, Where, image_batch
from ae_search.errors import ModelMismatchError, ModelNotServedError
from ae_search.handshake import matching
from ae_search.image_file import image_pixels, read_image_file
from ae_search.index import LatentIndex, Neighbour
from ae_search.views import VIEWS, Pixels, query_views

ImageInput = Path | str | bytes | npt.NDArray[Any]
Images = list[ImageInput] | list[Path]

# How often the index may move on to another model within one search.
_HANDSHAKES = 3
# Queries whose views are in memory at once, at most, and the bytes that their pixels may take.
_VIEWED_QUERIES = 64
_VIEWED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Match:
    """An encoder, and the index's model that it is pinned to."""

    encoder: Encoder
    model: ModelRef

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        return self.encoder.describe().image_shape


class ImageSearch:
    """Finds the images of an index that are most similar to a query image.

    Construction is the handshake: the encoder is pinned to the version that the index was built with, or to the
    newest one if that has the same fingerprint. When the index is rebuilt with another model, the next search shakes
    hands anew; no latent is ever compared with those of another model.

    Args:
        encoder: `LatentClient` or `LocalEncoder`.
        index: The index.

    Attributes:
        index: The index.

    Raises:
        ModelMismatchError: The encoder has no version with the index's fingerprint.
        ServerError: The encoder does not answer.

    Example:
        search = ImageSearch(LatentClient("127.0.0.1:8500", model="fashion"), LatentIndex.open("index"))
        for neighbour in search.search("photo.jpg", k=10):
            print(neighbour.rank, neighbour.key, neighbour.similarity)
    """

    def __init__(self, encoder: Encoder, index: LatentIndex) -> None:
        self.index = index
        self._given = encoder
        self._match = self._shake_hands()

    @property
    def encoder(self) -> Encoder:
        """The encoder, pinned to the index's version."""
        return self._match.encoder

    def search(
        self,
        image: ImageInput,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
    ) -> list[Neighbour]:
        """Return the `k` most similar images, the most similar first.

        Args:
            image: A path, the bytes of an image file, or pixels `[h, w, c]` of the model's shape, uint8 or in [0, 1].
            k: How many, at least 1; fewer come where the index holds fewer.
            where: Conditions that an item must meet; see `LatentIndex.search`.
            effort: Candidates to look at; see `LatentIndex.search`.
            exact: Whether to compare with every item instead of asking the forest.
            views: Whether to search with 33 altered views of the image as well, at several times the cost: what was
                cropped, turned, moved or mirrored is found through a view that undoes it. An item counts by the view
                that it is nearest to; similarity and distance are that view's.

        Raises:
            ImageError: The image cannot be decoded or has the wrong shape.
            ModelMismatchError: The index was rebuilt with a model that the encoder does not have.
            ServerError: The encoder does not answer.
        """
        return self.search_batch([image], k, where=where, effort=effort, exact=exact, views=views)[0]

    def search_batch(
        self,
        images: Images,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
    ) -> list[list[Neighbour]]:
        """Return the `k` most similar images for each of `images`: all arrays of one shape, or all files."""
        if not len(images):
            return []
        search = self._search_views if views else self._search
        options = {"where": where, "effort": effort, "exact": exact}
        for attempt in range(_HANDSHAKES):
            try:
                return search(self._match, images, k, options)
            except (ModelMismatchError, ModelNotServedError):
                # The index has moved on to another model, or the server no longer has the version.
                if attempt == _HANDSHAKES - 1:
                    raise
                self._match = self._shake_hands()
        raise AssertionError

    def _search(self, match: _Match, images: Images, k: int, options: dict[str, Any]) -> list[list[Neighbour]]:
        latents = _encode(match.encoder, images)
        return self.index.search(latents, k, fingerprint=match.model.fingerprint, **options)

    def _search_views(self, match: _Match, images: Images, k: int, options: dict[str, Any]) -> list[list[Neighbour]]:
        # The image itself goes the way of every query, so that one that is indexed still finds itself at distance 0.
        own = _encode(match.encoder, images)
        pixels = _pixels(images, match.image_shape)
        together = max(1, min(_VIEWED_QUERIES, _VIEWED_BYTES // (VIEWS * prod(match.image_shape))))
        found: list[list[Neighbour]] = []
        for start in range(0, len(own), together):
            latents = _with_views(match.encoder, own[start : start + together], islice(pixels, together))
            rows = self.index.search(latents, k, fingerprint=match.model.fingerprint, **options)
            found += [_nearest(rows[at : at + VIEWS], k) for at in range(0, len(rows), VIEWS)]
        return found

    def _shake_hands(self) -> _Match:
        model = self.index.model
        return _Match(matching(self._given, model, self.index.place), model)


def _encode(encoder: Encoder, images: Images) -> Latents:
    if isinstance(images[0], np.ndarray):
        return encoder.encode(np.stack(images))  # type: ignore[arg-type]
    return encoder.encode_files(images)  # type: ignore[arg-type]


def _with_views(encoder: Encoder, own: Latents, pixels: Iterable[Pixels]) -> Latents:
    """Return the latents of some images `[n, d]`, each followed by those of its other views, `[n * VIEWS, d]`."""
    others = encoder.encode(np.concatenate([query_views(one)[1:] for one in pixels]))
    by_image = others.reshape(len(own), VIEWS - 1, own.shape[1])
    return np.concatenate([own[:, np.newaxis], by_image], axis=1).reshape(-1, own.shape[1])


def _pixels(images: Images, image_shape: tuple[int, int, int]) -> Iterator[Pixels]:
    """Yield images in the model's shape, uint8 `[h, w, c]`."""
    for at, image in enumerate(images):
        if isinstance(image, np.ndarray):
            _, (pixels,) = image_batch(image, image_shape)
            yield pixels if pixels.dtype == np.uint8 else np.rint(255 * pixels).astype(np.uint8)
        elif isinstance(image, bytes):
            yield image_pixels(image, f"image {at}", image_shape)
        else:
            yield image_pixels(read_image_file(image), str(image), image_shape)


def _nearest(views: list[list[Neighbour]], k: int) -> list[Neighbour]:
    """Return the `k` nearest of what the views of one query found, each item once, equal distances by id."""
    best: dict[int, Neighbour] = {}
    for found in sorted(chain(*views), key=attrgetter("distance", "id")):
        best.setdefault(found.id, found)
    return [found._replace(rank=rank) for rank, found in enumerate(list(best.values())[:k], start=1)]
