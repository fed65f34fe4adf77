"""Principal components of vectors: all of those in memory, or the leading ones of blocks, however many there are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents

# Up to so many floats, or vectors, the matrix of all products is made: 2048 squared are 32 MiB, and a minute at most.
LARGEST_MATRIX = 2048
# Components found beside those wanted, and passes over the vectors.
_OVERSAMPLING = 32
_PASSES = 4
# The least share of the largest eigenvalue that is more than rounding.
_LEAST_SHARE = 1e-7
# Vectors that vary less than this are equal but for rounding, which is not to be scaled.
_LEAST_VARIANCE = 1e-12
# Each component is scaled by its eigenvalue to this power: half way to whitening.
HALF_WHITE = -0.25

Blocks = Callable[[], Iterator[Latents]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Principal components, each scaled by a power of its eigenvalue.

    Attributes:
        mean: float32 `[d]`.
        axes: float32 `[d, m]`.
    """

    mean: Latents
    axes: Latents

    def of(self, rows: Latents) -> Latents:
        """Return the components `[n, m]` of vectors `[n, d]`."""
        return np.asarray((rows - self.mean) @ self.axes, np.float32)


@dataclass(frozen=True)
class PrincipalAxes:
    """All d principal axes of vectors of d floats, the one of the largest variance first.

    Attributes:
        mean: float64 `[d]`.
        values: Eigenvalues of the covariance, float64 `[d]`, falling.
        axes: Unit vectors, float64 `[d, d]`, one a column.
    """

    mean: Floats
    values: Floats
    axes: Floats

    def scales(self, least_share: float, power: float = HALF_WHITE) -> Floats:
        """Return a power of each eigenvalue, float64 `[d]`.

        Directions of a smaller share of the largest eigenvalue than `least_share` count like the least of the others.
        """
        least = self.values[self.values > least_share * self.values[0]].min(initial=self.values[0])
        return _scales(np.maximum(self.values, least), power)


def principal_axes(rows: Latents) -> PrincipalAxes:
    """Return all principal axes of vectors `[n, d]` in memory, those along which they do not vary among them."""
    mean = rows.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(np.cov((rows - mean).T, bias=True).reshape(len(mean), len(mean)))
    return PrincipalAxes(mean, values[::-1], axes[:, ::-1])


def fit_components(blocks: Blocks, count: int, *, seed: int, power: float = HALF_WHITE) -> Components:
    """Find the leading principal components.

    Args:
        blocks: Yields all vectors, float32 `[some, d]` at a time, the same each time it is called.
        count: Components, at least 1; fewer come where the vectors span fewer, but at least 1.
        seed: Seed of the starting point where d is large.
        power: Power of its eigenvalue that a component is scaled by; 0 leaves it as it is.
    """
    mean, vectors = _mean(blocks)
    dim = len(mean)
    if vectors <= min(dim, LARGEST_MATRIX):
        values, axes = _of_few(np.concatenate(list(blocks())) - mean)
    elif dim <= LARGEST_MATRIX:
        values, axes = np.linalg.eigh(_Covariance(blocks, mean, vectors).times(np.eye(dim)))
    else:
        covariance = _Covariance(blocks, mean, vectors)
        values, axes = _leading(covariance, dim, min(dim, count + _OVERSAMPLING), seed)
    values, axes = values[::-1][:count], axes[:, ::-1][:, :count]
    kept = values > _LEAST_SHARE * values[0]
    kept[0] = True
    return Components(mean.astype(np.float32), (axes[:, kept] * _scales(values[kept], power)).astype(np.float32))


def _scales(values: Floats, power: float) -> Floats:
    """Return a power of eigenvalues, falling; 1 for each where the largest is nothing but rounding."""
    scales: Floats = values**power if values[0] > _LEAST_VARIANCE else np.ones(len(values))
    return scales


def _mean(blocks: Blocks) -> tuple[Floats, int]:
    """Return the mean and the number of vectors."""
    total, count = np.zeros(1), 0
    for block in blocks():
        total = total + block.sum(axis=0, dtype=np.float64)
        count += len(block)
    return total / count, count


@dataclass(frozen=True)
class _Covariance:
    """The covariance as something to multiply with, since it may be too large to write down."""

    blocks: Blocks
    mean: Floats
    count: int

    def times(self, columns: Floats) -> Floats:
        """Return the covariance times `[d, m]`."""
        product = np.zeros(columns.shape)
        mean, narrow = self.mean.astype(np.float32), columns.astype(np.float32)
        for block in self.blocks():
            centred = block - mean
            product += centred.T @ (centred @ narrow)
        return product / self.count


def _of_few(centred: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues, rising, and vectors of the covariance of fewer vectors `[n, d]` than each has floats.

    Those of the n x n products of the vectors among each other say all that there is to say.
    """
    values, mixtures = np.linalg.eigh(centred @ centred.T)
    lengths = np.sqrt(np.maximum(values, np.finfo(np.float32).tiny))
    return values / len(centred), centred.T @ mixtures / lengths


def _leading(covariance: _Covariance, dim: int, count: int, seed: int) -> tuple[Floats, Floats]:
    """Return the largest eigenvalues, rising, and their vectors, by randomised subspace iteration.

    Halko, Martinsson and Tropp, Finding structure with randomness (SIAM Review 53, 2011), algorithm 4.4.
    """
    basis = np.random.default_rng(seed).standard_normal((dim, count))
    for _ in range(_PASSES):
        basis = np.linalg.qr(covariance.times(np.linalg.qr(basis)[0]))[0]
    values, turn = np.linalg.eigh(basis.T @ covariance.times(basis))
    return values, basis @ turn
