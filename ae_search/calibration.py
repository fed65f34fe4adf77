"""What tells an original from what merely resembles a query: similarities between different items of an index."""

import base64
import binascii
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ae_search.checked_json import object_of, text_of, value_of, whole_of
from ae_search.contract import Index, Latents, ModelCard

log = logging.getLogger(__name__)

Verdict = Literal["this is it", "probably", "not here"]

NAME = "originals"
# The scores that the rest of all items reach with the nearest of the others: what reaches them is rarely another image.
PROBABLY, CERTAINLY = 0.85, 0.97
# Where more items than these have copies in the index, that score is one of copies. So it is at most what the scores
# below would let expect, which are those of a normal distribution, or nearly so: 0.97 is 1.88 of its deviations above
# the median, 0.85 is 1.04.
_DEVIATIONS = (1.04, 1.88)
# Standard deviation of a normal distribution, in median absolute deviations.
_NORMAL_MAD = 1.4826
_EXPECTED = _DEVIATIONS[1] / _DEVIATIONS[0]
FEWEST_ITEMS = 3
# Least cosine similarity of what is almost the same, where nothing better is known.
SIMILARITY = 0.99
# The same where latents have a part that tells copies, which is compared at so many times the length of the other one;
# bench/duplicates.py measures it. Near shots of one scene seldom reach it.
_COPY_LENGTH, _COPY_SIMILARITY = 3.0, 0.98

_SAMPLE = 1000
_BACKGROUND = 512
_BACKGROUND_BYTES = 1 << 19
# A query's level is its mean similarity to so many nearest items of the background. The nearest one of all is left out,
# since it may be the original itself.
_NEAREST = 10
# A level of 1 leaves no room above it: all latents are the same.
_MOST_LEVEL = 1.0 - 1e-6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ViewsCalibration:
    """From which scores on a search with altered views has found the original: each view finds wrong items as well.

    Attributes:
        probable: Score from which an item is probably the original of a query.
        certain: Score from which it is the original, as good as certainly.
    """

    probable: float
    certain: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> Self:
        """Tell it from the best scores of other items for some images, as if they were normally distributed.

        Some of the others may be copies after all, so the median and the absolute deviations from it stand for mean and
        standard deviation.
        """
        median = float(np.median(scores))
        deviation = _NORMAL_MAD * float(np.median(np.abs(np.subtract(scores, median))))
        probable, certain = (min(median + one * deviation, _MOST_LEVEL) for one in _DEVIATIONS)
        return cls(probable, certain)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read and check one that a stranger may have written.

        Raises:
            ValueError: It is malformed.
        """
        return cls(_score_of(raw, "probable"), _score_of(raw, "certain"))


@dataclass(frozen=True)
class Calibration:
    """How similar different items of an index are.

    A query that resembles many items, such as a blurred one or one of many shots of one scene, is similar to what is
    not its original. So a similarity is told as how far it is on the way from what is usual for the query, its level,
    to 1, which is the query itself. The level is the mean similarity to the nearest of a background of items.

    Attributes:
        background: Latents of some items, of length 1, float32 `[b, d]`.
        probable: Score from which an item is probably the original of a query.
        certain: Score from which it is the original, as good as certainly.
        views: The same of a search with altered views; None where no images were at hand to tell.
        copies_from: Index of the first float of the part that tells altered copies, see `ModelCard`; None where latents
            have no such part, the metric is not angular, or no model was at hand to tell.
    """

    background: Latents
    probable: float
    certain: float
    views: ViewsCalibration | None = None
    copies_from: int | None = None

    def levels(self, latents: Latents, factors: Floats | None = None) -> Floats:
        """Return the level of each query, float64 `[n]`.

        Args:
            latents: float32 `[n, d]`.
            factors: What the similarities of each query are multiplied by, `[n]`; None for 1.
        """
        similarities = _unit(latents) @ self.background.T
        if factors is not None:
            similarities = np.minimum(similarities * factors[:, None], 1.0)
        nearest = np.sort(similarities, axis=1)[:, ::-1][:, 1 : _NEAREST + 1]
        if not nearest.shape[1]:
            return np.zeros(len(latents))
        levels: Floats = np.minimum(nearest.mean(axis=1, dtype=np.float64), _MOST_LEVEL)
        return levels

    def least_similarities(self, latents: Latents) -> Floats:
        """Return from which similarity on an item is the original of each query `[n, d]`, float64 `[n]`."""
        levels = self.levels(latents)
        return levels + self.certain * (1.0 - levels)

    def verdict(self, score: float, *, views: bool = False) -> Verdict:
        """Say what a score means, that of a search with altered views if `views`.

        Where such searches were not measured, nothing is certain: their scores are higher for every item.
        """
        if views and self.views is None:
            return "probably" if score >= self.certain else "not here"
        least = self.views if views and self.views else self
        return "this is it" if score >= least.certain else "probably" if score >= least.probable else "not here"

    def to_json(self) -> dict[str, Any]:
        """Return it as an index stores it."""
        rows = base64.b64encode(self.background.astype("<f2").tobytes()).decode("ascii")
        told: dict[str, Any] = {
            "format": 1,
            "items": len(self.background),
            "background": rows,
            "probable": self.probable,
            "certain": self.certain,
        }
        told |= {"views": asdict(self.views)} if self.views else {}
        return told | ({"copies_from": self.copies_from} if self.copies_from else {})

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], latent_dim: int) -> Self:
        """Read and check one that a stranger may have written.

        Raises:
            ValueError: It is malformed, of another format or of latents of another size.
        """
        raw = dict(raw)
        whole_of(raw, "format", 1, 1)
        items = whole_of(raw, "items", 1, _BACKGROUND)
        try:
            data = base64.b64decode(text_of(raw, "background"), validate=True)
        except binascii.Error as error:
            raise ValueError(f"'background' is no base64 ({error})") from error
        if len(data) != 2 * items * latent_dim:
            raise ValueError(f"'background' must hold {items} latents of {latent_dim} floats")
        background = np.frombuffer(data, "<f2").reshape(items, latent_dim).astype(np.float32)
        if not np.isfinite(background).all():
            raise ValueError("'background' must be finite")
        views = ViewsCalibration.from_json(object_of(raw, "views")) if "views" in raw else None
        copies_from = whole_of(raw, "copies_from", 1, latent_dim - 1) if "copies_from" in raw else None
        return cls(_unit(background), _score_of(raw, "probable"), _score_of(raw, "certain"), views, copies_from)


def score(similarity: float, level: float, raised: float = 0.0) -> float:
    """Return how far a cosine similarity is on the way from a level to 1, and more; at most 1, and at least -1."""
    return max(-1.0, min(1.0, (similarity - level) / (1.0 - level) + raised))


def measure(index: Index, *, seed: int = 0) -> Calibration | None:
    """Measure how similar different items of an index are, by searching for up to 1000 of them.

    Each is a query whose original is not there: only the others count. No image and no encoder is needed.

    Args:
        index: The index.
        seed: Seed of the sample.

    Returns:
        None where it holds fewer than 3 items.
    """
    keys = index.keys()
    if len(keys) < FEWEST_ITEMS:
        return None
    drawn = [keys[at] for at in np.random.default_rng(seed).permutation(len(keys))[:_SAMPLE]]
    latents = index.latents(drawn)
    most = max(1, min(_BACKGROUND, _BACKGROUND_BYTES // (2 * index.latent_dim)))
    unfinished = Calibration(_unit(latents[:most]), math.inf, math.inf)
    # Items that are equal to a query may come before it.
    found = index.search(latents, 3, fingerprint=index.model.fingerprint)
    scores = []
    for key, level, row in zip(drawn, unfinished.levels(latents).tolist(), found, strict=True):
        others = [neighbour.similarity for neighbour in row if neighbour.key != key]
        scores += [score(max(others), level)] if others else []
    if not scores:
        return None
    median, probable, certain = np.quantile(scores, (0.5, PROBABLY, CERTAINLY)).tolist()
    return Calibration(unfinished.background, probable, min(certain, median + _EXPECTED * (probable - median)))


def calibrate(index: Index, *, card: ModelCard | None = None, wait_s: float = 0.0) -> Calibration | None:
    """Measure an index, and store in it what was found.

    What was stored about searches with altered views is kept, since measuring it takes images. What was stored about
    the model is kept where no card is given.

    Args:
        index: The index.
        card: That of its model; None where nobody has it.
        wait_s: How long to wait for another writer, in s.

    Returns:
        What was stored; None where the index holds too few items, which then stays as it is.

    Raises:
        IndexBusyError: Another process writes the index.
    """
    measured = measure(index)
    if measured is not None:
        before = stored(index)
        if before is not None:
            measured = replace(measured, views=before.views, copies_from=before.copies_from)
        if card is not None:
            parts_count = card.metric == index.metric == "angular"
            measured = replace(measured, copies_from=card.copies_from if parts_count else None)
        store(index, measured, wait_s=wait_s)
    return measured


def store(index: Index, calibration: Calibration, *, wait_s: float = 0.0) -> None:
    """Store a calibration in an index.

    Raises:
        IndexBusyError: Another process writes the index.
    """
    index.calibrate(NAME, calibration.to_json(), wait_s=wait_s)


def stored(index: Index) -> Calibration | None:
    """Return what `calibrate` stored, None where there is nothing, or nothing that can be read."""
    raw = index.calibration().get(NAME)
    if raw is None:
        return None
    try:
        return Calibration.from_json(raw, index.latent_dim)
    except ValueError as error:
        log.warning("%s: its calibration is left alone (%s); `ae-search index tune` makes it anew", index.place, error)
        return None


class Alike(NamedTuple):
    """What tells which items are almost the same.

    Attributes:
        least: Returns from which similarity on others are almost the same as each of some items, from their latents.
        compared: Returns what is compared in place of latents `[n, d]`, float64 `[n, d]` of length 1; None for the
            latents themselves.
        reach: Returns about the least cosine similarity that latents of items alike by what is compared can have.
    """

    least: Callable[[Latents], Floats]
    compared: Callable[[Latents], Floats] | None = None
    reach: Callable[[Latents], Floats] | None = None


def alike_of(similarity: float | None, calibration: Calibration | None, *, several: bool = False) -> Alike:
    """Return what tells which items are almost the same.

    Args:
        similarity: Least cosine similarity, in (0, 1]. None: 0.98 of latents weighted for copies, where they have a
            part for that and items have one latent each; else what the calibration says, or 0.99 without one.
        calibration: The index's.
        several: Whether items have several latents, any of which may be the one that is alike.

    Raises:
        ValueError: `similarity` is out of range.
    """
    if similarity is not None and not 0.0 < similarity <= 1.0:
        raise ValueError(f"Expected a similarity in (0, 1]. Received: {similarity}.")

    compared = reach = None
    if similarity is None and calibration is not None and calibration.copies_from is not None and not several:
        similarity, first = _COPY_SIMILARITY, calibration.copies_from
        compared, reach = partial(_weighed, first=first), partial(_reach, first=first)

    def least(latents: Latents) -> Floats:
        if similarity is None and calibration is not None:
            found = calibration.least_similarities(latents)
        else:
            found = np.full(len(latents), SIMILARITY if similarity is None else similarity)
        # Equal latents come out with 1 - 1e-16 as well.
        return np.minimum(found, 1.0 - 1e-9)

    return Alike(least, compared, reach)


def _reach(latents: Latents, first: int) -> Floats:
    """Return the least cosine similarity of latents that are alike by `_weighed`, if their parts are as long as these.

    With similarities x and y of the parts, (1 - x) + l^2 (1 - y) is at most (1 + l^2) (1 - least) then; the latents'
    dissimilarity is the sum of (1 - x) and (1 - y) by the parts' shares of the squared length.
    """
    squares = np.square(latents, dtype=np.float64)
    whole = squares.sum(axis=1)
    copies = np.divide(squares[:, first:].sum(axis=1), whole, out=np.zeros(len(latents)), where=whole > 0)
    most = (1.0 + _COPY_LENGTH**2) * (1.0 - _COPY_SIMILARITY)
    reached: Floats = 1.0 - most * np.maximum(1.0 - copies, copies / _COPY_LENGTH**2)
    return reached


def _weighed(latents: Latents, first: int) -> Floats:
    """Return latents of two parts `[n, d]` at length 1, float64, the part from `first` on at its length for copies."""
    parts = np.split(latents.astype(np.float64), [first], axis=1)
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    kinds, copies = (part / np.where(length > 0, length, 1) for part, length in zip(parts, lengths, strict=True))
    joined = np.concatenate([kinds, _COPY_LENGTH * copies], axis=1)
    length = np.linalg.norm(joined, axis=1, keepdims=True)
    weighed: Floats = joined / np.where(length > 0, length, 1)
    return weighed


def _score_of(raw: dict[str, Any], name: str) -> float:
    value = float(value_of(raw, name, float))
    if not abs(value) <= 2.0:  # NaN fails as well
        raise ValueError(f"{name!r} must lie in [-2, 2]. Received: {value}")
    return value


def _unit(latents: Latents) -> Latents:
    """Return latents `[n, d]` of length 1; those of length 0 stay."""
    lengths = np.linalg.norm(latents, axis=1, keepdims=True)
    return np.asarray(latents / np.where(lengths > 0, lengths, 1), np.float32)
