"""How a query is answered, written once for `ImageSearch` and `AsyncImageSearch`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Index, Latents, ModelCard, ModelRef, Neighbour, Where, image_batch
from ae_search.errors import ModelMismatchError, ModelNotServedError
from ae_search.handshake import shake_hands
from ae_search.image_file import PLAIN_SHAPE, image_pixels, is_plain, read_image_file
from ae_search.plan import Blocking, Plan, Question
from ae_search.search.as_files import ImageInput, as_file
from ae_search.views import VIEWS, Pixels, query_views

Images = list[ImageInput] | list[Path]
# All pixels of a model's shape, or all files.
OneKind = list[Path | str | bytes | npt.NDArray[Any]]

# How often the index may move on to another model within one search.
_HANDSHAKES = 3
# Queries whose views are in memory at once, at most, and the bytes that their pixels may take.
_VIEWED_QUERIES = 64
_VIEWED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Match:
    """An encoder, blocking or for asyncio, and the index's model that it is pinned to."""

    encoder: Any
    model: ModelRef
    card: ModelCard

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height and width in px, channels."""
        return self.card.image_shape


@dataclass(frozen=True)
class QueryOptions:
    """What to search for beside the images themselves; see `ImageSearch.search`."""

    k: int = 10
    where: Where | None = None
    effort: int | None = None
    exact: bool = False
    views: bool = False

    def search(self, index: Index, latents: Latents, match: Match) -> list[list[Neighbour]]:
        """Return what the index finds for latents `[n, d]`."""
        return index.search(
            latents,
            self.k,
            where=self.where,
            effort=self.effort,
            exact=self.exact,
            fingerprint=match.model.fingerprint,
        )


def matched(encoder: Any, index: Index) -> Plan[Match]:
    """Shake hands; end with the match."""
    model: ModelRef = yield Blocking(lambda: index.model)
    pinned, card = yield from shake_hands(encoder, model, index.place)
    return Match(pinned, model, card)


def answered(
    agree: Callable[[Match | None], Any], index: Index, images: Images, query: QueryOptions
) -> Plan[list[list[Neighbour]]]:
    """Search, and shake hands anew while index or server move on to another model; end with what is found.

    Args:
        agree: Returns a match, or an awaitable of one; it is given the one that no longer holds, None at first.
        index: The index.
        images: What `as_file` takes.
        query: What to search for.
    """
    if not len(images):
        return []
    search, stale = _searched_views if query.views else _searched, None
    for attempt in range(_HANDSHAKES):
        match: Match = yield Question(partial(agree, stale))
        try:
            return (yield from search(match, index, images, query))
        except (ModelMismatchError, ModelNotServedError):
            # The index has moved on to another model, or the server no longer has the version.
            if attempt == _HANDSHAKES - 1:
                raise
            stale = match
    raise AssertionError


def _searched(match: Match, index: Index, images: Images, query: QueryOptions) -> Plan[list[list[Neighbour]]]:
    given = yield from _of_one_kind(images, match.image_shape)
    latents = yield from _encoded(match, given)
    found: list[list[Neighbour]] = yield Blocking(partial(query.search, index, latents, match))
    return found


def _searched_views(match: Match, index: Index, images: Images, query: QueryOptions) -> Plan[list[list[Neighbour]]]:
    given = yield from _of_one_kind(images, match.image_shape)
    # The image itself goes the way of every query, so that one that is indexed still finds itself at distance 0.
    own: Latents = yield from _encoded(match, given)
    pixels = _pixels(given, match.card)
    together = max(1, min(_VIEWED_QUERIES, _VIEWED_BYTES // (VIEWS * prod(match.image_shape))))
    found: list[list[Neighbour]] = []
    for start in range(0, len(own), together):
        others = yield Blocking(partial(_other_views, pixels, together))
        encoded: Latents = yield Question(partial(match.encoder.encode, others))
        latents = _side_by_side(own[start : start + together], encoded)
        rows = yield Blocking(partial(query.search, index, latents, match))
        found += [_nearest(rows[at : at + VIEWS], query.k) for at in range(0, len(rows), VIEWS)]
    return found


def _of_one_kind(images: Images, image_shape: tuple[int, int, int]) -> Plan[OneKind]:
    """End with images that are all pixels of the model's shape, or else all files."""
    if all(isinstance(image, Path | str | bytes) for image in images):
        return images  # type: ignore[return-value]
    if all(isinstance(image, np.ndarray) and _fits(image, image_shape) for image in images):
        return [image.reshape(image_shape) for image in images]  # type: ignore[union-attr]
    files: OneKind = yield Blocking(lambda: [as_file(image, f"image {at}") for at, image in enumerate(images)])
    return files


def _fits(pixels: npt.NDArray[Any], image_shape: tuple[int, int, int]) -> bool:
    return pixels.shape == image_shape or (*pixels.shape, 1) == image_shape


def _encoded(match: Match, images: OneKind) -> Plan[Latents]:
    if not isinstance(images[0], np.ndarray):
        latents: Latents = yield Question(partial(match.encoder.encode_files, images))
        return latents
    stacked = images[0][np.newaxis] if len(images) == 1 else (yield Blocking(partial(np.stack, images)))
    latents = yield Question(partial(match.encoder.encode, stacked))
    return latents


def _other_views(pixels: Iterable[Pixels], count: int) -> Pixels:
    """Return the views of the next `count` images but for the images themselves, `[count * (VIEWS - 1), h, w, c]`."""
    return np.concatenate([query_views(one)[1:] for one in islice(pixels, count)])


def _side_by_side(own: Latents, others: Latents) -> Latents:
    """Return the latents of some images `[n, d]`, each followed by those of its other views, `[n * VIEWS, d]`."""
    by_image = others.reshape(len(own), VIEWS - 1, own.shape[1])
    return np.concatenate([own[:, np.newaxis], by_image], axis=1).reshape(-1, own.shape[1])


def _pixels(images: OneKind, card: ModelCard) -> Iterator[Pixels]:
    """Yield images in the model's shape, uint8 `[h, w, c]`."""
    read = partial(image_pixels, image_shape=card.image_shape, fit=card.fit, version=card.preprocessing_version)
    for at, image in enumerate(images):
        if isinstance(image, np.ndarray):
            _, (pixels,) = image_batch(image, card.image_shape)
            yield pixels if pixels.dtype == np.uint8 else np.rint(255 * pixels).astype(np.uint8)
        elif isinstance(image, bytes):
            yield read(image, f"image {at}")
        else:
            yield read(read_image_file(image), str(image))


def looks_plain(image: ImageInput) -> bool:
    """Return whether a query is of one colour; see `ImageSearch.plain`."""
    if isinstance(image, np.ndarray):
        return is_plain(image if image.dtype == np.uint8 else 255 * image)
    file = as_file(image, "image")
    data = file if isinstance(file, bytes) else read_image_file(file)
    return is_plain(image_pixels(data, "image" if file is data else str(file), PLAIN_SHAPE))


def _nearest(views: list[list[Neighbour]], k: int) -> list[Neighbour]:
    """Return the `k` nearest of what the views of one query found, each item once, equal distances by id."""
    best: dict[int, Neighbour] = {}
    for found in sorted(chain(*views), key=attrgetter("distance", "id")):
        best.setdefault(found.id, found)
    return [found._replace(rank=rank) for rank, found in enumerate(list(best.values())[:k], start=1)]
