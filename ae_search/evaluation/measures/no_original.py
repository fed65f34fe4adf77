"""Whether a search knows that the original is not there: half of the altered copies have theirs hidden."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ae_search.evaluation.measures.copy_alterations import ALTERATION_SETS, AlterationSet, altered
from ae_search.evaluation.reading import ItemImages
from ae_search.evaluation.results import MissingOriginals
from ae_search.views import Pixels

MOST_ITEMS = 200
PRECISION = 0.9


class Scored(NamedTuple):
    """An item that a search found.

    Attributes:
        key: Its key.
        similarity: Cosine similarity.
        score: The same, normalised by the index's calibration.
    """

    key: str
    similarity: float
    score: float


# Takes uint8 images `[n, h, w, c]` of the model's shape and returns the best two items for each.
ScoredSearch = Callable[[Pixels], Sequence[Sequence[Scored]]]


def search_with_half_hidden(
    searches: Mapping[str, ScoredSearch],
    keys: Sequence[str],
    images: ItemImages,
    *,
    seed: int,
    alterations: AlterationSet = "everyday",
) -> list[MissingOriginals]:
    """Search with altered copies of up to 200 items, every second one hidden from what is found.

    Args:
        searches: The ways to search, by name.
        keys: Keys of the items; those without a readable image are left out.
        images: Where their images are.
        seed: Seed of the alterations.
        alterations: Which ways to alter them.

    Returns:
        Two rows for each way to search, by similarity and by score; none where no image can be read.
    """
    found: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in searches}
    read = there = 0
    for originals, at in images.blocks(keys[:MOST_ITEMS]):
        for way in ALTERATION_SETS[alterations]:
            copies = altered(originals, way, seed=seed, first=read, fit=images.reader.fit)
            for name, search in searches.items():
                found[name] += _best(search(copies), [keys[one] for one in at], read)
        there += len(ALTERATION_SETS[alterations]) * int(np.sum((read + np.arange(len(at))) % 2 == 0))
        read += len(at)
    rows = []
    for name, answers in found.items():
        if answers:
            similarities, scores, right = np.array(answers).T
            for told, normalised in ((similarities, False), (scores, True)):
                average, recall = ranked(told, right > 0, there)
                rows.append(MissingOriginals(name, normalised, average, recall, len(answers)))
    return rows


def _best(found: Sequence[Sequence[Scored]], own: Sequence[str], first: int) -> list[tuple[float, float, bool]]:
    """Return similarity and score of the best item for each image, and whether it is the original and not hidden."""
    best = []
    for number, (row, key) in enumerate(zip(found, own, strict=True), start=first):
        hidden = number % 2 == 1
        shown = [one for one in row if not (hidden and one.key == key)]
        if shown:
            best.append((shown[0].similarity, shown[0].score, shown[0].key == key))
    return best


def ranked(told: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], there: int) -> tuple[float, float]:
    """Return micro average precision, and the largest recall at a precision of at least 0.9.

    Args:
        told: How sure the search is of each answer; float64 `[n]`.
        right: Whether it is right; bool `[n]`.
        there: Number of queries that have a right answer, at least 1.
    """
    by_sureness = right[np.argsort(-told, kind="stable")]
    hits = np.cumsum(by_sureness)
    precision = hits / np.arange(1, len(hits) + 1)
    good = hits[precision >= PRECISION]
    return float(precision[by_sureness].sum() / there), float(good.max() / there) if len(good) else 0.0
