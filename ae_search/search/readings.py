"""Ways to read latents of two parts: by what an image shows, and by which image it is.

The parts have fixed lengths, so multiplying one part of a query gives that part another weight in each similarity,
whatever the items are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, ModelCard, Neighbour
from ae_search.views import unmoved

# Lengths of the part that tells copies, where that of the other is 1. What is left of a crop is told by what it shows,
# for which it need not be moved: each further view is another chance for a wrong image. Most other alterations leave
# the second part as it was, once they are undone.
_BY_KIND, _BY_COPY = 0.15, 3.0
# What the scores of the first reading are raised by: an original and a wrong item both lie further from 1 there.
_RAISED = 0.1
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Reading:
    """Queries whose parts were weighed anew.

    Attributes:
        rows: Which of the latents they are, `[n]`.
        latents: float32 `[n, d]`.
        factors: What the cosine similarity of each with an item is multiplied by, to be 1 with itself; float64 `[n]`.
            None where nothing was weighed.
        raised: What scores are raised by, to be compared with those of other readings.
    """

    rows: npt.NDArray[np.intp]
    latents: Latents
    factors: npt.NDArray[np.float64] | None = None
    raised: float = 0.0

    def weighed(self, found: Sequence[list[Neighbour]]) -> list[list[Neighbour]]:
        """Return what was found for each query, with similarity and distance of the reading."""
        if self.factors is None:
            return list(found)
        return [
            [_at(one, one.similarity * factor) for one in row]
            for row, factor in zip(found, self.factors.tolist(), strict=True)
        ]


def readings(latents: Latents, counts: Sequence[int], card: ModelCard) -> Sequence[Reading]:
    """Return the ways in which altered copies are searched for: one where latents have no parts, else two.

    Args:
        latents: Those of the views of each image, one image after the other, `[n, d]`.
        counts: Views of each image.
        card: Their model.
    """
    rows, first = np.arange(len(latents)), card.copies_from
    if first is None or card.metric != "angular":
        return [Reading(rows, latents)]
    starts = np.cumsum([0, *counts[:-1]])
    straight = np.concatenate([start + unmoved(count) for start, count in zip(starts, counts, strict=True)])
    by_kind = _reading(latents, straight, _BY_KIND, first)
    return [replace(by_kind, raised=_RAISED), _reading(latents, rows, _BY_COPY, first)]


def _reading(latents: Latents, rows: npt.NDArray[np.intp], length: float, first: int) -> Reading:
    """Return queries in whose similarities the part from `first` on has a length, where that of the other is 1."""
    latents = latents[rows]
    kinds, copies = (np.linalg.norm(part, axis=1).astype(float) for part in (latents[:, :first], latents[:, first:]))
    # A part of zeros, as that of an even picture, has no say whatever its weight.
    weight = np.where((kinds > 0) & (copies > 0), (length * kinds / np.maximum(copies, _TINY)) ** 2, 1.0)
    weighed = latents.copy()
    weighed[:, first:] *= weight[:, None].astype(np.float32)
    both = np.linalg.norm(weighed, axis=1).astype(float) * np.linalg.norm(latents, axis=1)
    itself = kinds**2 + weight * copies**2
    return Reading(rows, weighed, np.where(itself > 0, both / np.maximum(itself, _TINY), 1.0))


def _at(neighbour: Neighbour, similarity: float) -> Neighbour:
    similarity = max(-1.0, min(1.0, similarity))
    return neighbour._replace(similarity=similarity, distance=(2.0 - 2.0 * similarity) ** 0.5)
