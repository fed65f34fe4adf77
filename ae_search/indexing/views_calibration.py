"""What tells an original in a search with altered views, measured with some images of an index."""

from typing import Any

import numpy as np

from ae_search.calibration import ViewsCalibration
from ae_search.contract import Encoder, Index
from ae_search.data import Source
from ae_search.errors import ImageError
from ae_search.search import ImageSearch

# Each image costs as much as encoding 33 others: one of 64 adds half to the time of a build, 32 little to a long one.
FEWEST, MOST = 8, 32
_SHARE = 64
# The image itself, its nearest other item, and one that is equal to the image.
_FOUND = 3


def views_calibration(source: Source, encoder: Encoder, index: Index, *, seed: int = 0) -> ViewsCalibration | None:
    """Search with some images of an index, of which all other items are wrong answers.

    Args:
        source: The images of the index.
        encoder: An encoder of its model.
        index: The index, calibrated without views.
        seed: Seed of the choice.

    Returns:
        None where no image can be read.
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
    best = [
        max((one.score for one in row if one.neighbour.key != key), default=-1.0)
        for key, row in zip(keys, ImageSearch(encoder, index).originals_batch(images, _FOUND), strict=True)
    ]
    return ViewsCalibration.of(best) if best else None
