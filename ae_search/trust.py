"""Whether a query is like what a model was trained on, so that what is found for it can be believed.

An index keeps what is usual for its own items, each held out in turn: how far it is from its tenth neighbour among the
others, how similar the first of them is, and how well the model's decoder gives it back.
"""

import base64
import binascii
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ae_search.checked_json import value_of, whole_of
from ae_search.contract import Index, Latents, Neighbour, Pictures
from ae_search.regions import has_regions

log = logging.getLogger(__name__)

NAME = "trust"
UNLIKE = "unlike what this model was trained on"
# Distances are those to this neighbour: nearer ones may be a copy of the query.
NEIGHBOUR = 10
# Beyond so many of all held-out items, a query is marked.
BEYOND = 0.99
# Fewer items have no such share.
FEWEST_ITEMS = 100
MOST_ITEMS = 1000

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trust:
    """How usual a query is.

    Attributes:
        distance: To its tenth neighbour, by the index's metric; None in an index of fewer items.
        distance_share: Share of held-out items that are nearer to theirs, in [0, 1]; None where nothing is kept.
        error: Reconstruction error, see `reconstruction_errors`; None where it was not asked for, or without a decoder.
        error_share: Share of held-out items with a smaller one, in [0, 1]; None where nothing is kept.
    """

    distance: float | None = None
    distance_share: float | None = None
    error: float | None = None
    error_share: float | None = None

    @property
    def familiar(self) -> bool | None:
        """Whether it is like what the model was trained on, None where there is nothing to compare with."""
        shares = [share for share in (self.distance_share, self.error_share) if share is not None]
        return max(shares) <= BEYOND if shares else None

    def to_json(self) -> dict[str, Any]:
        """Return all of it, and `familiar`."""
        return {"familiar": self.familiar, **asdict(self)}


class Trusted(NamedTuple):
    """What was found for a query, and whether to believe it.

    Attributes:
        neighbours: The most similar images, the most similar first.
        trust: How usual the query is for the index; where `trust.familiar` is False, it is unlike what the model was
            trained on.
        latent: The query's latent, float32 `[d]`.
        fingerprint: That of the model, hex sha256.
    """

    neighbours: list[Neighbour]
    trust: Trust
    latent: Latents
    fingerprint: str


@dataclass(frozen=True)
class Usual:
    """What is usual for items that were held out, each figure float32, ascending.

    Attributes:
        similarities: Cosine similarity of the nearest other item, `[n]`.
        distances: Distance to the tenth other item, `[n]`.
        errors: Reconstruction errors, `[m]`; none where the model has no decoder, or no image was there.
    """

    similarities: Floats
    distances: Floats
    errors: Floats = field(default_factory=lambda: np.zeros(0, np.float32))

    def of(self, distance: float | None, error: float | None = None) -> Trust:
        """Return how usual a query is, by the distance to its tenth neighbour and by its reconstruction error."""
        return Trust(distance, _share(distance, self.distances), error, _share(error, self.errors))

    def to_json(self) -> dict[str, Any]:
        """Return it as an index stores it."""
        return {"format": 1} | {
            name: {"count": len(values), "values": base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")}
            for name, values in vars(self).items()
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read and check one that a stranger may have written.

        Raises:
            ValueError: It is malformed, or of another format.
        """
        raw = dict(raw)
        whole_of(raw, "format", 1, 1)
        return cls(*(_values_of(raw, name) for name in ("similarities", "distances", "errors")))


def tenth_distance(found: Sequence[Neighbour]) -> float | None:
    """Return the distance to the tenth neighbour, None where fewer were found."""
    return found[NEIGHBOUR - 1].distance if len(found) >= NEIGHBOUR else None


def reconstruction_errors(images: npt.NDArray[Any], decoded: Pictures) -> npt.NDArray[np.float64]:
    """Return how badly images are given back, float64 `[n]`: the mean squared difference of values in [0, 1].

    Args:
        images: As the model sees them, uint8 or float `[n, h, w, c]` in [0, 1].
        decoded: What the decoder makes of their latents, float32 `[n, h, w, c]` in [0, 1].
    """
    pixels = np.asarray(images, np.float32) / (255.0 if images.dtype == np.uint8 else 1.0)
    errors: npt.NDArray[np.float64] = np.square(pixels - decoded).mean(axis=(1, 2, 3), dtype=np.float64)
    return errors


def measure(index: Index, errors: Floats | None = None, *, seed: int = 0) -> Usual | None:
    """Measure what is usual for the items of an index, by searching for up to 1000 of them; only the others count.

    Args:
        index: The index.
        errors: Reconstruction errors of items, `[m]`, None where there are none.
        seed: Seed of the sample.

    Returns:
        None where it holds fewer than 100 items.
    """
    drawn = held_out(index, MOST_ITEMS, seed=seed)
    if not drawn:
        return None
    latents: Latents = index.latents(drawn)
    found = index.search(latents, NEIGHBOUR + 1, fingerprint=index.model.fingerprint, first_latents=has_regions(index))
    others = [[one for one in row if one.key != key][:NEIGHBOUR] for key, row in zip(drawn, found, strict=True)]
    return Usual(
        _ascending([row[0].similarity for row in others if row]),
        _ascending([row[-1].distance for row in others if len(row) == NEIGHBOUR]),
        _ascending([] if errors is None or len(errors) < FEWEST_ITEMS else errors),
    )


def held_out(index: Index, most: int, *, seed: int = 0) -> list[str]:
    """Return the keys of up to so many items, chosen by chance; none where the index holds fewer than 100."""
    keys = index.keys()
    if len(keys) < FEWEST_ITEMS:
        return []
    return [keys[at] for at in np.random.default_rng(seed).permutation(len(keys))[:most]]


def remember(index: Index, errors: Floats | None = None, *, wait_s: float = 0.0) -> Usual | None:
    """Measure an index, and store in it what was found.

    Args:
        index: The index.
        errors: Reconstruction errors of items, `[m]`; None for those that it has.
        wait_s: How long to wait for another writer, in s.

    Returns:
        What was stored; None where the index holds too few items, which then stays as it is.

    Raises:
        IndexBusyError: Another process writes the index.
    """
    old = stored(index) if errors is None else None
    usual = measure(index, old.errors if old is not None else errors)
    if usual is not None:
        index.calibrate(NAME, usual.to_json(), wait_s=wait_s)
    return usual


def stored(index: Index) -> Usual | None:
    """Return what `remember` stored, None where there is nothing, or nothing that can be read."""
    raw = index.calibration().get(NAME)
    if raw is None:
        return None
    try:
        return Usual.from_json(raw)
    except ValueError as error:
        log.warning("%s: what is usual in it is left alone (%s); `ae-search index tune` asks anew", index.place, error)
        return None


def _share(value: float | None, usual: Floats) -> float | None:
    if value is None or not len(usual):
        return None
    return float(np.searchsorted(usual, np.float32(value), side="left") / len(usual))


def _ascending(values: Sequence[float] | Floats) -> Floats:
    return np.sort(np.asarray(values, np.float32))


def _values_of(raw: dict[str, Any], name: str) -> Floats:
    held: dict[str, Any] = value_of(raw, name, dict)
    count = whole_of(held, "count", 0, MOST_ITEMS)
    try:
        data = base64.b64decode(value_of(held, "values", str), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name!r} is no base64 ({error})") from error
    if len(data) != 4 * count:
        raise ValueError(f"{name!r} must hold {count} numbers")
    values = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(values).all() or (np.diff(values) < 0).any():
        raise ValueError(f"{name!r} must hold finite numbers in ascending order")
    return values
