"""Why a query and an item are similar, as far as a model's latents and its decoder say.

Nothing here asks a model: `Pair.latents` are to be decoded, and `Pair.explain` makes the explanation of the images.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, Metric, Pictures

MOST_STEPS, MOST_PARTS = 64, 32
STEPS, PARTS = 9, 8
# As in Wang et al. (2004), for pixels in [0, 1].
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
# Share of the shorter side that a window of the heat map has: their 11 of 256 px were for eyes at a screen; the small
# images of a model show less in so many pixels.
_WINDOW = 1 / 4
_SMALLEST_WINDOW_PX = 3
# A pixel that changes by less than this with a part of the latent does not show it.
_VISIBLE = 1e-3

Map = npt.NDArray[np.float32]


class Part(NamedTuple):
    """One float of the latents.

    Attributes:
        dimension: Its number, from 0.
        contribution: What it adds to the cosine similarity; negative where it sets the two apart.
        where: Where it shows in the two reconstructions, float32 `[h, w]` in [0, 1]; 0 everywhere where it does not.
    """

    dimension: int
    contribution: float
    where: Map


@dataclass(frozen=True)
class Explanation:
    """Why a query and an item are similar.

    Attributes:
        key: The item's key.
        similarity: Cosine similarity of the two latents.
        query: Reconstruction of the query, float32 `[h, w, c]` in [0, 1].
        item: Reconstruction of the item, likewise.
        agreement: Heat map of the two reconstructions, float32 `[h, w]` in [-1, 1]: 1 where they look the same, 0 where
            they have nothing in common, below 0 where one is the other's negative. It is the structural similarity of
            Wang et al. (2004).
        parts: The dimensions of the latents that contribute most to the similarity, the largest contribution first.
        rest: What all other dimensions contribute together.
        walk: From the query's latent to the item's, float32 `[steps, h, w, c]` in [0, 1].
    """

    key: str
    similarity: float
    query: Pictures
    item: Pictures
    agreement: Map
    parts: tuple[Part, ...]
    rest: float
    walk: Pictures


@dataclass(frozen=True)
class Pair:
    """The latents of a query and of an item.

    Attributes:
        query: Float32 `[d]`.
        item: Float32 `[d]`.
        metric: That of the model.
        steps: Images of the walk, both ends among them.
        parts: Dimensions to show.
    """

    query: Latents
    item: Latents
    metric: Metric
    steps: int = STEPS
    parts: int = PARTS

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 2 <= self.steps <= MOST_STEPS:
            raise ValueError(f"A walk has 2 to {MOST_STEPS} steps. Received: {self.steps}.")
        if not 0 <= self.parts <= MOST_PARTS:
            raise ValueError(f"0 to {MOST_PARTS} parts of the latent can be shown. Received: {self.parts}.")

    def contributions(self) -> npt.NDArray[np.float64]:
        """Return what each dimension adds to the cosine similarity, float64 `[d]`."""
        query, item = self.query.astype(np.float64), self.item.astype(np.float64)
        lengths = np.linalg.norm(query) * np.linalg.norm(item)
        return query * item / (lengths if lengths > 0 else 1.0)

    def largest(self) -> npt.NDArray[np.intp]:
        """Return the dimensions that contribute most, the largest contribution first."""
        return np.argsort(-self.contributions(), kind="stable")[: self.parts]

    def latents(self) -> Latents:
        """Return all that is to be decoded: the walk, then each end without each of the largest parts, `[n, d]`."""
        both = np.stack([self.query, self.item])
        without = np.repeat(both, len(largest := self.largest()), axis=0).reshape(2, len(largest), len(self.query))
        without[:, np.arange(len(largest)), largest] = 0.0
        return np.concatenate([self._walk(), without.reshape(-1, len(self.query))]).astype(np.float32)

    def explain(self, key: str, images: Pictures) -> Explanation:
        """Return the explanation.

        Args:
            key: The item's key.
            images: What the decoder makes of `latents`, float32 `[n, h, w, c]` in [0, 1].
        """
        walk, contributions, largest = images[: self.steps], self.contributions(), self.largest()
        ends = walk[[0, -1]]
        without = images[self.steps :].reshape(2, len(largest), *walk.shape[1:])
        changes = np.abs(without - ends[:, np.newaxis]).mean(axis=-1).max(axis=0)  # [parts, h, w]
        parts = tuple(
            Part(int(dimension), float(contributions[dimension]), _from_0_to_1(change))
            for dimension, change in zip(largest, changes, strict=True)
        )
        similarity, told = float(contributions.sum()), sum(part.contribution for part in parts)
        return Explanation(key, similarity, ends[0], ends[1], agreement(*ends), parts, similarity - told, walk)

    def _walk(self) -> npt.NDArray[np.float64]:
        """Return latents on the way, `[steps, d]`: along the sphere where angles are compared, else straight on.

        Straight on between two directions, latents in the middle would be shorter than any that the decoder knows.
        """
        share = np.linspace(0.0, 1.0, self.steps)[:, np.newaxis]
        query, item = self.query.astype(np.float64), self.item.astype(np.float64)
        straight = (1.0 - share) * query + share * item
        lengths = np.linalg.norm(query), np.linalg.norm(item)
        if self.metric != "angular" or not min(lengths) > 0.0:
            return straight
        angle = np.arccos(np.clip(query @ item / (lengths[0] * lengths[1]), -1.0, 1.0))
        if not np.sin(angle) > 1e-6:  # the same direction, or opposite ones, between which there are many ways
            return straight
        first, last = np.sin((1.0 - share) * angle), np.sin(share * angle)
        directions = (first * query / lengths[0] + last * item / lengths[1]) / np.sin(angle)
        way: npt.NDArray[np.float64] = directions * ((1.0 - share) * lengths[0] + share * lengths[1])
        way[0], way[-1] = query, item
        return way


def agreement(first: Pictures, second: Pictures) -> Map:
    """Return where two images agree, float32 `[h, w]` in [-1, 1]: their structural similarity (Wang et al., 2004).

    Args:
        first: Float32 `[h, w, c]` in [0, 1].
        second: Likewise.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    side = max(_SMALLEST_WINDOW_PX, round(min(a.shape[:2]) * _WINDOW)) | 1
    mean_a, mean_b = _means(a, side), _means(b, side)
    variance_a, variance_b = _means(a * a, side) - mean_a**2, _means(b * b, side) - mean_b**2
    shared = _means(a * b, side) - mean_a * mean_b
    light = (2 * mean_a * mean_b + _LUMINANCE) / (mean_a**2 + mean_b**2 + _LUMINANCE)
    structure = (2 * shared + _CONTRAST) / (np.maximum(variance_a, 0) + np.maximum(variance_b, 0) + _CONTRAST)
    found: Map = np.clip((light * structure).mean(axis=-1), -1.0, 1.0).astype(np.float32)
    return found


def _means(values: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """Return the mean of the square of `side` px around each pixel `[h, w, c]`; the edge is continued outwards."""
    half = side // 2
    padded = np.pad(values, ((half, half), (half, half), (0, 0)), mode="edge")
    sums = np.pad(padded, ((1, 0), (1, 0), (0, 0))).cumsum(axis=0).cumsum(axis=1)
    corners = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    means: npt.NDArray[np.float64] = corners / side**2
    return means


def _from_0_to_1(change: npt.NDArray[np.float32]) -> Map:
    largest = float(change.max())
    return np.asarray(change / largest if largest > _VISIBLE else np.zeros_like(change), np.float32)
