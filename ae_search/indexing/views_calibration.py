"""What tells an original in a search with altered views, measured with some images of an index."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ae_search.calibration import ViewsCalibration
from ae_search.contract import Encoder, Index
from ae_search.data import Source
from ae_search.indexing.held_out import images_of_items
from ae_search.search import ImageSearch

# Each image costs as much as encoding 33 others: one of 64 adds half to the time of a build, 32 little to a long one.
FEWEST, MOST = 16, 32
_SHARE = 64
# The image itself, its nearest other item, and one that is equal to the image.
_FOUND = 3


def views_calibration(
    index: Index, encoder: Encoder, sources: Sequence[Source], *, seed: int = 0
) -> ViewsCalibration | None:
    """Search with some images of an index, of which all other items are wrong answers.

    Args:
        index: The index, calibrated without views.
        encoder: An encoder of its model.
        sources: Where its images are, by their keys; the first one that has a key counts.
        seed: Seed of the choice.

    Returns:
        None where no image can be read.

    Raises:
        ServerError: The encoder does not answer.
    """
    keys = index.keys()
    count = int(np.clip(len(keys) // _SHARE, FEWEST, MOST))
    drawn = [keys[at] for at in np.random.default_rng(seed).permutation(len(keys))[:count]]
    images: dict[str, Any] = dict(images_of_items(drawn, sources, encoder.describe()))
    found = ImageSearch(encoder, index).originals_batch(list(images.values()), _FOUND)
    best = [
        max((one.score for one in row if one.neighbour.key != key), default=-1.0)
        for key, row in zip(images, found, strict=True)
    ]
    return ViewsCalibration.of(best) if best else None
