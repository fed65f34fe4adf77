"""Where latents of images in colour begin: components that count less the more an image's neighbours differ by them.

Principal components count for as much as images differ by them, whatever it is that differs: light, background, or the
thing itself. Neighbours, which mostly show the same, tell these apart without any label: directions in which neighbours
differ are shrunk first (within-class covariance normalisation, Hatch and Stolcke, 2006, with neighbours as classes).
They also tell what colours are worth: much where neighbours by features have the same colours, little elsewhere.
"""

import numpy as np
import numpy.typing as npt

from ae_search.nearest import top_k
from ae_search.principal import Components, fit_components

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

NEIGHBOURS = 5
# Components that the first neighbours are found by.
SEARCHED_BY = 128
# Neighbours are found again by the components that they led to.
ROUNDS = 2
# Added to the variances of neighbours' differences, in means of them: few images say little of most directions.
SHRINKAGE = 0.3
# Power of its deviation that each component is scaled by.
POWER = 0.5
# Directions in which images vary less than this, relative to the largest deviation, are rounding.
LEAST_DEVIATION = 1e-4
ROWS_AT_ONCE = 4096

# What colours count where they vary among neighbours half as much as among all images, and at most.
COLOURS = 0.5
MOST_COLOURS = 3.0


def weighed_components(rows: Rows, features: int, count: int) -> Components:
    """Find the leading components of features and colours, the colours weighed by what they are worth here.

    Args:
        rows: float32 `[n, d]`: features, then colours, each of length 1.
        features: Floats of the features.
        count: Components, at least 1; fewer come where the rows span fewer.
    """
    weights = np.ones(rows.shape[1], np.float32)
    weights[features:] = colour_weight(rows[:, :features], rows[:, features:])
    found = neighbour_components(rows * weights, count)
    return Components(rows.mean(axis=0, dtype=np.float64).astype(np.float32), found.axes * weights[:, None])


def colour_weight(features: Rows, colours: Rows) -> float:
    """Return what colours count beside features of the same length.

    Args:
        features: float32 `[n, f]`.
        colours: float32 `[n, c]`.

    Returns:
        `0.5 * sqrt((1 - rho) / rho)`, at most 3, rho being how much the colours of neighbours by features differ, in
        parts of how much those of any two images do.
    """
    centred = colours - colours.mean(axis=0)
    any_two = 2.0 * float(np.square(centred).sum(axis=1, dtype=np.float64).mean())
    searched = fit_components(lambda: iter([features]), SEARCHED_BY, seed=0, power=0.0).of(features)
    pairs = _neighbours(searched)
    if not len(pairs) or any_two <= LEAST_DEVIATION**2:
        return 0.0
    apart = [np.square(centred[one] - centred[other]).sum(axis=1, dtype=np.float64) for one, other in _blocks(pairs)]
    rho = float(np.concatenate(apart).mean()) / any_two
    return float(min(MOST_COLOURS, COLOURS * np.sqrt(max(0.0, 1.0 - rho) / max(rho, LEAST_DEVIATION))))


def neighbour_components(rows: Rows, count: int) -> Components:
    """Find the leading components after what neighbours differ by was shrunk.

    Args:
        rows: float32 `[n, d]`.
        count: Components, at least 1; fewer come where the rows span fewer.
    """
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    basis = _basis(rows - mean)
    turned = np.asarray((rows - mean) @ basis, np.float32)
    covariance, latents = _covariance(turned), turned[:, :SEARCHED_BY]
    for _ in range(ROUNDS):
        found = _shrunk(turned, covariance, _neighbours(latents))[:, :count]
        latents = np.asarray(turned @ found, np.float32)
    return Components(mean, (basis @ found).astype(np.float32))


def _shrunk(turned: Rows, covariance: Floats, pairs: Ids) -> Floats:
    """Return components `[r, r]`, the one of the largest variance first, for rows `[n, r]` and their neighbours."""
    values, axes = np.linalg.eigh(_within(turned, pairs))
    values = np.maximum(values, 0.0)
    whitened = axes * (values + SHRINKAGE * max(values.mean(), np.finfo(np.float32).tiny)) ** -0.5
    spread, leading = np.linalg.eigh(whitened.T @ covariance @ whitened)
    found: Floats = whitened @ (leading * np.maximum(spread, 0.0) ** (POWER / 2))
    return found[:, ::-1]


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


def _within(turned: Rows, pairs: Ids) -> Floats:
    """Return half the mean product of the differences of neighbours, `[r, r]`."""
    if not len(pairs):
        return np.eye(turned.shape[1])
    # Each pair once, whichever of both has found the other.
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    total = np.zeros((turned.shape[1],) * 2)
    for one, other in _blocks(pairs):
        apart = turned[one] - turned[other]
        total += apart.T @ apart
    return total / (2 * len(pairs))


def _neighbours(latents: Rows) -> Ids:
    """Return each row beside each of its nearest by cosine, `[pairs, 2]`."""
    nearest = min(NEIGHBOURS, len(latents) - 1)
    if nearest < 1:
        return np.zeros((0, 2), np.int64)
    own = np.arange(len(latents))
    found = top_k(latents, latents, nearest, "angular", skip=own)
    return np.stack([np.repeat(own, nearest), found.reshape(-1)], axis=1)


def _blocks(pairs: Ids) -> list[Ids]:
    """Return both sides of the pairs, `[2, some]` at a time."""
    return [pairs[first : first + ROWS_AT_ONCE].T for first in range(0, len(pairs), ROWS_AT_ONCE)]
