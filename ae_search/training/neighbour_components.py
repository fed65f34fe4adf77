"""Where latents behind a backbone begin: components that count less the more an image's neighbours differ by them.

Principal components count for as much as images differ by them, whatever it is that differs: light, background, or the
thing itself. Neighbours, which mostly show the same, tell these apart without any label: directions in which neighbours
differ are shrunk first (within-class covariance normalisation, Hatch and Stolcke, 2006, with neighbours as classes).
"""

import numpy as np
import numpy.typing as npt

from ae_search.nearest import top_k
from ae_search.principal import Components

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]

NEIGHBOURS = 5
# Components that the neighbours are found by.
SEARCHED_BY = 128
# Added to the variances of neighbours' differences, in means of them: few images say little of most directions.
SHRINKAGE = 1.0
# Directions in which images vary less than this, relative to the largest deviation, are rounding.
LEAST_DEVIATION = 1e-4
ROWS_AT_ONCE = 4096


def neighbour_components(rows: Rows, count: int) -> Components:
    """Find the leading components after what neighbours differ by was shrunk.

    Args:
        rows: float32 `[n, d]`.
        count: Components, at least 1; fewer come where the rows span fewer.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    basis = _basis(rows - mean.astype(np.float32))
    turned = (rows - mean.astype(np.float32)) @ basis.astype(np.float32)
    within = _within(turned)
    values, axes = np.linalg.eigh(within)
    scales = (np.maximum(values, 0.0) + SHRINKAGE * max(values.mean(), np.finfo(np.float32).tiny)) ** -0.5
    whitened = axes * scales
    spread = whitened.T @ _covariance(turned) @ whitened
    leading = np.linalg.eigh(spread)[1][:, ::-1][:, :count]
    return Components(mean.astype(np.float32), (basis @ whitened @ leading).astype(np.float32))


def _basis(centred: Rows) -> Floats:
    """Return unit vectors `[d, r]` along which rows vary, the one of the largest variance first."""
    count, dim = centred.shape
    if count < dim:
        # Products of the rows among each other say all that there is to say.
        values, mixtures = np.linalg.eigh((centred @ centred.T).astype(np.float64) / count)
        axes = centred.T @ (mixtures / np.sqrt(np.maximum(values * count, np.finfo(np.float32).tiny)))
    else:
        values, axes = np.linalg.eigh(_covariance(centred))
    kept = values > LEAST_DEVIATION**2 * values[-1]
    kept[-1] = True
    found: Floats = axes[:, kept][:, ::-1]
    return found


def _covariance(centred: Rows) -> Floats:
    total = np.zeros((centred.shape[1],) * 2)
    for first in range(0, len(centred), ROWS_AT_ONCE):
        block = centred[first : first + ROWS_AT_ONCE]
        total += block.T @ block
    return total / len(centred)


def _within(turned: Rows) -> Floats:
    """Return half the mean product of the differences of neighbours, `[r, r]`."""
    nearest = min(NEIGHBOURS, len(turned) - 1)
    if nearest < 1:
        return np.eye(turned.shape[1])
    found = top_k(turned[:, :SEARCHED_BY], turned[:, :SEARCHED_BY], nearest, "angular", skip=np.arange(len(turned)))
    pairs = np.stack([np.repeat(np.arange(len(turned)), nearest), found.reshape(-1)], axis=1)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    total = np.zeros((turned.shape[1],) * 2)
    for first in range(0, len(pairs), ROWS_AT_ONCE):
        one, other = turned[pairs[first : first + ROWS_AT_ONCE]].transpose(1, 0, 2)
        total += (one - other).T @ (one - other)
    return total / (2 * len(pairs))
