"""Typical patches of images: centroids of their whitened patches (Coates and Ng, 2012)."""

import numpy as np
import numpy.typing as npt

from ae_search.data.pipeline import Images, Positions, images_at_once
from ae_search.model.patches import ADDED_VARIANCE, SIDE_PX, PatchKinds, shrunk

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]

# Patches that are looked at for each typical one.
SAMPLED_EACH = 2_000
ROUNDS = 12
# Added to the eigenvalues before they are divided by: the least of them are noise.
WHITENING = 0.1
# Patches of a lower variance show nothing.
LEAST_VARIANCE = 1e-4
ROWS_AT_ONCE = 20_000
_TINY = float(np.finfo(np.float32).tiny)


def learn_patches(layer: PatchKinds, images: Images, positions: Positions, *, seed: int) -> None:
    """Let a layer know the typical patches of some images.

    Args:
        layer: Its weights change.
        images: The images.
        positions: Which of them to learn from, sorted; all are held in memory, at 28 px.
        seed: Seed of the choice of patches.
    """
    random = np.random.default_rng(seed)
    at_once = images_at_once(images.image_shape)
    shown = np.concatenate([np.asarray(shrunk(batch)) for _, batch in images.batches(positions, at_once)])
    patches = _patches(shown[..., 0], SAMPLED_EACH * layer.kinds, random)
    mean = patches.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(np.cov((patches - mean).T, bias=True))
    whitening = (axes * (values + WHITENING) ** -0.5) @ axes.T
    centroids = _centroids(((patches - mean) @ whitening).astype(np.float32), layer.kinds, random)
    kernel = whitening @ centroids.T
    # What a layer multiplies with takes the mean off by itself.
    layer.set_weights([(kernel - kernel.mean(axis=0)).reshape(SIDE_PX, SIDE_PX, 1, layer.kinds), -mean @ kernel])


def _patches(shown: Rows, sample: int, random: np.random.Generator) -> Rows:
    """Return up to so many patches `[some, 36]` of images `[n, h, w]`, each without its mean and of deviation 1."""
    count, height, width = shown.shape
    at = random.integers(0, count, sample)
    rows, columns = (random.integers(0, side - SIDE_PX + 1, sample)[:, None] for side in (height, width))
    down, across = (part.ravel() for part in np.mgrid[:SIDE_PX, :SIDE_PX])
    patches = shown[at[:, None], rows + down, columns + across]
    variances = patches.var(axis=1)
    kept = variances > LEAST_VARIANCE
    if not kept.any():
        kept[:] = True
    patches, variances = patches[kept], variances[kept, None]
    found: Rows = (patches - patches.mean(axis=1, keepdims=True)) / np.sqrt(variances + np.float32(ADDED_VARIANCE))
    return found


def _centroids(rows: Rows, count: int, random: np.random.Generator) -> Floats:
    """Return unit vectors `[count, d]`, each the direction of the rows that are most like it (spherical k-means)."""
    found = _unit(rows[random.choice(len(rows), count, replace=len(rows) < count)])
    for _ in range(ROUNDS):
        sums = np.zeros((count, rows.shape[1]))
        for first in range(0, len(rows), ROWS_AT_ONCE):
            block = rows[first : first + ROWS_AT_ONCE]
            alike = block @ found.T.astype(np.float32)
            nearest = alike.argmax(axis=1)
            np.add.at(sums, nearest, block * alike[np.arange(len(block)), nearest][:, None])
        alone = np.linalg.norm(sums, axis=1) < 1e-6
        sums[alone] = rows[random.choice(len(rows), int(alone.sum()))]
        found = _unit(sums)
    return found


def _unit(rows: npt.NDArray[np.floating]) -> Floats:
    wide = rows.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), _TINY)
    return wide
