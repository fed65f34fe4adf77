"""Which images are to have similar latents: nearest neighbours by what can be measured without training."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from ae_search.data.pipeline import Images, Positions, images_at_once
from ae_search.model.histograms import oriented_gradients
from ae_search.model.hsv_histogram import hsv_histogram
from ae_search.nearest import top_k
from ae_search.principal import fit_components

Rows = npt.NDArray[np.float32]
NEIGHBOURS = 5
COMPONENTS = 128
# Every image is compared with every other of its group: at most so many, for the time grows with the square.
LARGEST_GROUP = 65_536


def nearest_partners(
    images: Images, groups: Sequence[Positions], *, seed: int, latents: Latents | None = None
) -> npt.NDArray[np.int32]:
    """Find the five nearest neighbours of each image by given latents, or by components of gradients (and colours).

    Args:
        images: The images.
        groups: Positions that are each other's neighbours: those trained on, and those held out.
        seed: Seed of the parts that a group of more than 65,536 images is divided into.
        latents: Latents at each position of the source, float32 `[len(source), d]`.

    Returns:
        int32 `[len(source), 5]`: positions of the neighbours at the position of each image.
    """

    def rows(part: Positions) -> Rows:
        if latents is not None:
            return latents[part]
        batches = images.batches(part, images_at_once(images.image_shape)).as_numpy_iterator()
        vectors = np.concatenate([histograms(batch) for _, batch in batches])
        return fit_components(lambda: iter([vectors]), COMPONENTS, seed=0).of(vectors)

    return partners_by(rows, len(images.source), groups, seed=seed)


def partners_by(
    rows: Callable[[Positions], Rows], count: int, groups: Sequence[Positions], *, seed: int
) -> npt.NDArray[np.int32]:
    """Find the five nearest neighbours of each image by some vectors.

    Args:
        rows: Returns the vectors `[n, d]` of the images at some positions.
        count: Images of the source.
        groups: Positions that are each other's neighbours: those trained on, and those held out.
        seed: Seed of the parts that a group of more than 65,536 images is divided into.

    Returns:
        int32 `[count, 5]`: positions of the neighbours at the position of each image.
    """
    table = np.tile(np.arange(count, dtype=np.int32)[:, None], NEIGHBOURS)
    for group in groups:
        shuffled = np.random.default_rng(seed).permutation(group)
        for part in np.array_split(shuffled, -(-len(group) // LARGEST_GROUP) or 1):
            if len(part) > 1:
                table[part] = _neighbours_within(rows(part), part)
    return table


def _neighbours_within(rows: Rows, part: Positions) -> npt.NDArray[np.int64]:
    found = top_k(rows, rows, min(NEIGHBOURS, len(part) - 1), "angular", skip=np.arange(len(part)))
    return np.resize(part[found].T, (NEIGHBOURS, len(part))).T


def histograms(images: Any) -> npt.NDArray[np.float32]:
    """Return gradients, and colours where there are any, of float32 images `[n, h, w, c]`: `[n, floats]`."""
    parts = [oriented_gradients(images)] + ([hsv_histogram(images)] if images.shape[3] == 3 else [])
    return np.concatenate([np.asarray(part) for part in parts], axis=1)
