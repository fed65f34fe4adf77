"""Strict reverse search: an altered copy of an indexed image is the query, and the original must come first."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ae_search.evaluation.measures.baselines import Baseline
from ae_search.evaluation.measures.copy_alterations import ALTERATION_SETS, AlterationSet, altered
from ae_search.evaluation.reading import ImageShape, ItemImages, shrunk
from ae_search.evaluation.results import ReverseSearch
from ae_search.nearest import top_k
from ae_search.views import Pixels

TIMED_QUERIES = 50

# Takes uint8 images `[n, h, w, c]` of the model's shape and returns the key that comes first for each.
FirstKeySearch = Callable[[Pixels], Sequence[str]]


@dataclass(frozen=True)
class Copies:
    """Altered copies of indexed images, small enough for the baselines.

    Attributes:
        keys: n keys of the originals.
        pixels: uint8 `[n, h, w, c]` by alteration.
    """

    keys: list[str]
    pixels: dict[str, Pixels]


def search_altered(
    searches: Mapping[str, FirstKeySearch],
    keys: Sequence[str],
    images: ItemImages,
    *,
    shape: ImageShape,
    seed: int,
    alterations: AlterationSet = "everyday",
) -> tuple[list[ReverseSearch], Copies | None]:
    """Alter the images of some items in each way and search with them.

    Args:
        searches: The ways to search, by name.
        keys: Keys of the items; those without a readable image are left out.
        images: Where their images are.
        shape: Shape of the copies that are returned.
        seed: Seed of the alterations.
        alterations: Which ways to alter them.

    Returns:
        One row for each way to search, and the copies; no row and None where no image can be read.
    """
    ways, fit = ALTERATION_SETS[alterations], images.reader.fit
    found: dict[str, dict[str, list[bool]]] = {name: {way: [] for way in ways} for name in searches}
    ms: dict[str, list[float]] = {name: [] for name in searches}
    small: dict[str, list[Pixels]] = {way: [] for way in ways}
    read: list[str] = []
    for originals, at in images.blocks(keys):
        wanted = [keys[i] for i in at]
        for way in ways:
            copies = altered(originals, way, seed=seed, first=len(read), fit=fit)
            small[way].append(shrunk(copies, shape))
            for name, search in searches.items():
                found[name][way] += [key == own for key, own in zip(search(copies), wanted, strict=True)]
                if not read:
                    ms[name] += _timed(search, copies[: -(-TIMED_QUERIES // len(ways))])
        read += wanted
    if not read:
        return [], None
    rows = [_row(name, found[name], float(np.median(ms[name]))) for name in searches]
    return rows, Copies(read, {way: np.concatenate(blocks) for way, blocks in small.items()})


def _timed(search: FirstKeySearch, images: Pixels) -> Iterator[float]:
    """Yield the time of a search by each image alone, in ms."""
    for at in range(len(images)):
        began = time.perf_counter()
        search(images[at : at + 1])
        yield 1e3 * (time.perf_counter() - began)


def search_baseline(
    baseline: Baseline, items: npt.NDArray[np.generic], keys: Sequence[str], copies: Copies
) -> ReverseSearch:
    """Compare the copies with all items under a baseline.

    Args:
        baseline: The baseline.
        items: Its vectors of the items `[n, d]`.
        keys: Their n keys, among them those of the originals.
        copies: The altered images.
    """
    place = {key: at for at, key in enumerate(keys)}
    own = np.array([place[key] for key in copies.keys])
    first = {way: top_k(baseline.vectors(pixels), items, 1, "angular")[:, 0] for way, pixels in copies.pixels.items()}
    return _row(baseline.name, {way: (found == own).tolist() for way, found in first.items()}, None)


def _row(name: str, found: Mapping[str, list[bool]], ms: float | None) -> ReverseSearch:
    shares = {way: float(np.mean(hits)) for way, hits in found.items()}
    return ReverseSearch(name, shares, len(next(iter(found.values()))), ms if ms is None else round(ms, 4))
