"""How a query is answered, written once for `ImageSearch` and `AsyncImageSearch`."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ae_search.calibration import Calibration, score, stored
from ae_search.contract import Fit, Index, Latents, ModelCard, ModelRef, Neighbour, Where, image_batch
from ae_search.errors import ModelMismatchError, ModelNotServedError
from ae_search.handshake import shake_hands
from ae_search.image_file import PLAIN_SHAPE, image_pixels, is_plain, read_image_file
from ae_search.plan import Blocking, Plan, Question
from ae_search.regions import has_regions
from ae_search.search.as_files import ImageInput, as_file
from ae_search.search.candidates import Candidate, Scored, calibration_of, candidates
from ae_search.search.examples import Examples
from ae_search.search.readings import Reading, readings
from ae_search.trust import Usual
from ae_search.trust import stored as stored_usual
from ae_search.views import MOST_VIEWS, Pixels, query_views

T = TypeVar("T")
Images = list[ImageInput] | list[Path]
# All pixels of a model's shape, or all files.
OneKind = list[Path | str | bytes | npt.NDArray[Any]]

# The index's calibration, if it has one, and what was found for each query.
Found = tuple[Calibration | None, list[list[Scored]]]
# Returns a match, or an awaitable of one.
Agree = Callable[["Match | None"], Any]

# Queries that were weighed anew are compared with all of so many items; among more, they take more effort than others.
_COMPARED_WITH_ALL = 100_000
_MORE_EFFORT = 8
# From here on, an item is the query itself but for rounding.
_SAME = 1.0 - 1e-6
# How often the index may move on to another model within one search.
_HANDSHAKES = 3
# The index may have been tuned, or built anew with the same model, so that what is known of it holds for so long.
_HOLDS_S = 30.0
# Queries whose views are in memory at once, at most, and the bytes that their pixels may take.
_VIEWED_QUERIES = 64
_VIEWED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Match:
    """An encoder, blocking or for asyncio, the index's model that it is pinned to, and what the index knows of it."""

    encoder: Any
    model: ModelRef
    card: ModelCard
    calibration: Calibration | None = None
    usual: Usual | None = None
    has_regions: bool = False
    made: float = field(default_factory=time.monotonic)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height and width in px, channels."""
        return self.card.image_shape


class Asked(NamedTuple):
    """Images of a query, of one kind, and their latents `[n, d]`."""

    images: OneKind
    latents: Latents


@dataclass(frozen=True)
class QueryOptions:
    """What to search for beside the images themselves; see `ImageSearch.search`."""

    k: int = 10
    where: Where | None = None
    effort: int | None = None
    exact: bool = False
    views: bool = False
    examples: Examples = Examples()

    def search(self, index: Index, latents: Latents, match: Match, *, copies: bool = False) -> list[list[Neighbour]]:
        """Return what the index finds for latents `[n, d]`; with examples, for one image.

        Args:
            index: The index.
            latents: The latents.
            match: The match.
            copies: Whether copies are wanted, parts among them, and not what resembles the image.
        """
        shown = self.examples.keys
        found = index.search(
            self.examples.latent(index, latents) if shown else latents,
            self.k + len(shown),
            where=self.where,
            effort=self.effort,
            exact=self.exact,
            fingerprint=match.model.fingerprint,
            first_latents=match.has_regions and not copies,
        )
        return [self.examples.without(row, self.k) for row in found] if shown else found

    def search_reading(self, index: Index, reading: Reading, match: Match) -> list[list[Neighbour]]:
        """Return what the index finds for queries whose parts may have been weighed anew."""
        query = self
        if reading.factors is not None and not self.exact:
            # An engine's base is grown, and its effort chosen, for queries like the items; these are not.
            few = len(index) <= _COMPARED_WITH_ALL
            effort = None if few else _MORE_EFFORT * (self.effort or index.info().effort)
            query = replace(self, exact=few, effort=effort)
        return reading.weighed(query.search(index, reading.latents, match, copies=True))


def matched(encoder: Any, index: Index) -> Plan[Match]:
    """Shake hands; end with the match."""
    model: ModelRef = yield Blocking(lambda: index.model)
    pinned, card = yield from shake_hands(encoder, model, index.place)
    calibration: Calibration | None = yield Blocking(partial(stored, index))
    usual: Usual | None = yield Blocking(partial(stored_usual, index))
    regions: bool = yield Blocking(partial(has_regions, index))
    return Match(pinned, model, card, calibration, usual, regions)


def answered(agree: Agree, index: Index, images: Images, query: QueryOptions) -> Plan[list[list[Neighbour]]]:
    """Search, and shake hands anew while index or server move on to another model; end with what is found.

    Args:
        agree: Returns a match, or an awaitable of one; it is given the one that no longer holds, None at first.
        index: The index.
        images: What `as_file` takes.
        query: What to search for.
    """
    _, found = yield from while_models_move(agree, partial(_searched, index=index, images=images, query=query))
    return [[neighbour for _, neighbour in row] for row in found]


def judged(agree: Agree, index: Index, images: Images, query: QueryOptions) -> Plan[list[list[Candidate]]]:
    """Search as `answered` does; end with the candidates for the original of each image, the best first.

    Raises:
        ConfigurationError: The index has no calibration.
    """
    calibration, found = yield from while_models_move(
        agree, partial(_searched, index=index, images=images, query=query, calibrated=True)
    )
    return [candidates(row, calibration, views=query.views) for row in found if calibration is not None]


def while_models_move(agree: Agree, search: Callable[[Match], Plan[T]]) -> Plan[T]:
    """Search, and shake hands anew while index or server move on to another model; end with what the search does."""
    stale = None
    for attempt in range(_HANDSHAKES):
        match: Match = yield Question(partial(agree, stale))
        if time.monotonic() - match.made > _HOLDS_S:
            match = yield Question(partial(agree, match))
        try:
            return (yield from search(match))
        except (ModelMismatchError, ModelNotServedError):
            # The index has moved on to another model, or the server no longer has the version.
            if attempt == _HANDSHAKES - 1:
                raise
            stale = match
    raise AssertionError


def _searched(
    match: Match, index: Index, images: Images, query: QueryOptions, *, calibrated: bool = False
) -> Plan[Found]:
    """End with the index's calibration, if there is one, and what is found for each image, the best first."""
    if not len(images):
        return match.calibration, []
    if calibrated and match.calibration is None:  # it may have been calibrated since
        match = replace(match, calibration=(yield Blocking(partial(calibration_of, index))))
    asked = yield from encoded(match, images)
    if query.views:
        return match.calibration, (yield from by_views(match, index, asked, query))
    own = asked.latents
    found: list[list[Neighbour]] = yield Blocking(partial(query.search, index, own, match, copies=calibrated))
    levels = _levels(own, match.calibration if calibrated else None)
    return match.calibration, [
        [(score(neighbour.similarity, level), neighbour) for neighbour in row]
        for row, level in zip(found, levels, strict=True)
    ]


def by_views(match: Match, index: Index, asked: "Asked", query: QueryOptions) -> Plan[list[list[Scored]]]:
    """Search by altered views of images as well; end with what is found for each image, the best first."""
    # The image itself has gone the way of every query, so that one that is indexed still finds itself at distance 0.
    own, pixels = asked.latents, model_pixels(asked.images, match.card)
    together = max(1, min(_VIEWED_QUERIES, _VIEWED_BYTES // (MOST_VIEWS * prod(match.image_shape))))
    found: list[list[Scored]] = []
    for start in range(0, len(own), together):
        others: list[Pixels] = yield Blocking(partial(_other_views, pixels, together, match.card.fit))
        of_others: Latents = yield Question(partial(match.encoder.encode, np.concatenate(others)))
        counts = [1 + len(views) for views in others]
        latents = _side_by_side(own[start : start + together], of_others, counts)
        answers: list[list[Scored]] = [[] for _ in counts]
        image_of = np.repeat(np.arange(len(counts)), counts)
        for reading in readings(latents, counts, match.card):
            rows: list[list[Neighbour]] = yield Blocking(partial(query.search_reading, index, reading, match))
            levels = _levels(reading.latents, match.calibration, reading.factors)
            for image, row, level in zip(image_of[reading.rows].tolist(), rows, levels, strict=True):
                answers[image] += [(score(one.similarity, level, reading.raised), one) for one in row]
        found += [_best(answer, query.k, calibrated=match.calibration is not None) for answer in answers]
    return found


def _levels(
    latents: Latents, calibration: Calibration | None, factors: npt.NDArray[np.float64] | None = None
) -> Sequence[float]:
    return [0.0] * len(latents) if calibration is None else calibration.levels(latents, factors).tolist()


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


def encoded(match: Match, images: Images) -> Plan["Asked"]:
    """Encode images, of which there is one at least; end with them and their latents."""
    given: OneKind = yield from _of_one_kind(images, match.image_shape)
    if not isinstance(given[0], np.ndarray):
        return Asked(given, (yield Question(partial(match.encoder.encode_files, given))))
    stacked = given[0][np.newaxis] if len(given) == 1 else (yield Blocking(partial(np.stack, given)))
    return Asked(given, (yield Question(partial(match.encoder.encode, stacked))))


def _other_views(pixels: Iterable[Pixels], count: int, fit: Fit) -> list[Pixels]:
    """Return the views of the next `count` images but for the images themselves, `[views, h, w, c]` each."""
    return [query_views(one, fit)[1:] for one in islice(pixels, count)]


def _side_by_side(own: Latents, others: Latents, counts: Sequence[int]) -> Latents:
    """Return the latents of some images `[n, d]`, each followed by those of its other views: `counts` rows each."""
    first = np.cumsum([0, *counts[:-1]])
    latents = np.empty((sum(counts), own.shape[1]), np.float32)
    is_own = np.zeros(len(latents), bool)
    is_own[first] = True
    latents[is_own], latents[~is_own] = own, others
    return latents


def model_pixels(images: OneKind, card: ModelCard) -> Iterator[Pixels]:
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


def _best(found: list[Scored], k: int, *, calibrated: bool) -> list[Scored]:
    """Return the `k` best of what the views of one query found, each item once.

    Without a calibration they are the nearest ones, equal distances by id.
    """
    if calibrated:
        # What is the query itself comes first, whatever else is more similar to a view than is usual for that one.
        found.sort(key=lambda pair: (pair[1].similarity < _SAME, -pair[0], pair[1].distance, pair[1].id))
    else:
        found.sort(key=lambda pair: (pair[1].distance, pair[1].id))
    best: dict[int, Scored] = {}
    for reached, neighbour in found:
        best.setdefault(neighbour.id, (reached, neighbour))
    return [(reached, one._replace(rank=rank)) for rank, (reached, one) in enumerate(list(best.values())[:k], start=1)]
