"""What searching with altered views adds to the scores of items that are not the original of a query."""

from typing import Any

import numpy as np

from ae_search.contract import Encoder, Index
from ae_search.data import Source
from ae_search.errors import ImageError
from ae_search.search import ImageSearch

# Each image costs as much as encoding 33 others: one of 64 adds half to the time of a build, 32 little to a long one.
FEWEST, MOST = 8, 32
_SHARE = 64
# The image itself, its nearest other item, and one that is equal to the image.
_FOUND = 3


def added_by_views(source: Source, encoder: Encoder, index: Index, *, seed: int = 0) -> float:
    """Measure it with some images of an index, each searched for with and without views.

    An image is nearest to itself, so the best of the other items stands for an original that is not there. The index
    must be calibrated without views.

    Args:
        source: The images of the index.
        encoder: An encoder of its model.
        index: The index.
        seed: Seed of the choice.

    Returns:
        The mean difference of scores, at least 0; 0 where no image can be read.
    """
    count = int(np.clip(len(source) // _SHARE, FEWEST, MOST))
    images: list[Any] = []
    keys: list[str] = []
    for position in np.random.default_rng(seed).permutation(len(source))[:count].tolist():
        if (key := source.key(position)) in index:
            try:
                images.append(source.read(position))
            except ImageError:
                continue  # it has become unreadable since
            keys.append(key)
    if not images:
        return 0.0
    search = ImageSearch(encoder, index)
    plain, viewed = (
        [
            max((candidate.score for candidate in row if candidate.neighbour.key != key), default=-1.0)
            for key, row in zip(keys, search.originals_batch(images, _FOUND, views=views), strict=True)
        ]
        for views in (False, True)
    )
    return max(0.0, float(np.mean(np.subtract(viewed, plain))))
