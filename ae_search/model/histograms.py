"""What can be measured of an image without learning: histograms of its gradients, and coarse pixels."""

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

ORIENTATIONS = 8
CELLS = 7
# A quarter of what one step of a uint8 makes, on average over a cell: an even picture has no gradients, not even those
# that the rounding of a resized one makes.
LEAST_SLOPE = 1e-3
GRADIENT_FLOATS = CELLS * CELLS * ORIENTATIONS


def oriented_gradients(
    images: Any, *, cells: int = CELLS, orientations: int = ORIENTATIONS, signed: bool = True
) -> Any:
    """Return a histogram of oriented gradients of each image (after Dalal and Triggs, 2005).

    Gradients vote for the two nearest of 8 orientations, linearly, and for the nearest of 7 x 7 cells, with triangular
    weights. The votes of an image are divided by their root mean square, so that neither brightness nor contrast
    counts, and square-rooted (Hellinger's kernel). In colour, the mean of the channels counts: if the steepest channel
    did, as is usual, rounding would decide between equal ones, and a served model answer otherwise than Keras.

    Args:
        images: Float32 `[n, h, w, c]` in [0, 1].
        cells: Cells along each side.
        orientations: Orientations that are told apart.
        signed: Whether an edge from dark to bright differs from the same edge from bright to dark.

    Returns:
        Float32 `[n, cells * cells * orientations]`; 392 floats by default.
    """
    height, width = images.shape[1:3]
    across, down = _slopes(tf.reduce_mean(images, axis=3))
    steepness = tf.sqrt(across**2 + down**2)
    # [0, orientations): how far around.
    turn = tf.atan2(down, across) * (orientations / ((2 if signed else 1) * math.pi))
    turn = tf.where(turn < 0, turn + orientations, turn)
    # A vote of 1 at the orientation itself, falling to 0 at the next one on either side; the last is the first again.
    # One at a time: TensorFlow takes five times as long to do all by broadcasting.
    votes = [steepness * tf.nn.relu(1.0 - tf.abs(turn - around)) for around in range(orientations + 1)]
    summed = _weighted(_triangles(height, cells), tf.stack(votes, axis=1), _triangles(width, cells))
    summed = tf.concat([summed[:, :1] + summed[:, -1:], summed[:, 1:-1]], axis=1)
    flat = tf.reshape(summed, [-1, cells * cells * orientations])
    least = LEAST_SLOPE * height * width / cells**2
    return tf.sqrt(flat / (tf.sqrt(tf.reduce_mean(flat**2, axis=1, keepdims=True)) + least))


def cell_means(images: Any) -> Any:
    """Return the mean of each channel in each of 7 x 7 cells, with triangular weights: an image of 7 x 7 px.

    Args:
        images: Float32 `[n, h, w, c]` in [0, 1].

    Returns:
        Float32 `[n, 49 * c]` in [0, 1]; 0 for cells that have no pixels, as in images of less than 7 px.
    """
    return pooled(images, CELLS)


def pooled(maps: Any, cells: int) -> Any:
    """Return the mean of each channel in each cell, with triangular weights: `[n, h, w, c]` to `[n, c * cells**2]`."""
    height, width, channels = maps.shape[1:]
    planes = tf.transpose(maps, [0, 3, 1, 2])
    means = _weighted(_shares(_triangles(height, cells)), planes, _shares(_triangles(width, cells)))
    return tf.reshape(means, [-1, channels * cells * cells])


@keras.saving.register_keras_serializable(package="ae_search")
class OrientedGradients(keras.layers.Layer):
    """`oriented_gradients` as a layer: `[n, h, w, c]` to `[n, cells * cells * orientations]`. It learns nothing.

    Args:
        cells: Cells along each side.
        orientations: Orientations that are told apart.
        signed: Whether it counts which side of an edge is the brighter one.
        **kwargs: Those of every Keras layer.
    """

    def __init__(
        self, *, cells: int = CELLS, orientations: int = ORIENTATIONS, signed: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.cells, self.orientations, self.signed = cells, orientations, signed

    def call(self, images: Any) -> Any:
        """Return the histograms."""
        return oriented_gradients(images, cells=self.cells, orientations=self.orientations, signed=self.signed)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return `[n, floats]`."""
        return shape[0], self.cells**2 * self.orientations

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made from again."""
        config: dict[str, Any] = super().get_config()
        return config | {"cells": self.cells, "orientations": self.orientations, "signed": self.signed}


@keras.saving.register_keras_serializable(package="ae_search")
class CellMeans(keras.layers.Layer):
    """`cell_means` as a layer: `[n, h, w, c]` to `[n, 49 * c]`. It learns nothing."""

    def call(self, images: Any) -> Any:
        """Return the means."""
        return cell_means(images)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return `[n, 49 * c]`."""
        return shape[0], CELLS * CELLS * int(shape[3] or 1)


def _slopes(grey: Any) -> tuple[Any, Any]:
    """Return the differences of the neighbours to the right and left, below and above; edges repeat."""
    padded = tf.pad(grey, [[0, 0], [1, 1], [1, 1]], "SYMMETRIC")
    return padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]


def _weighted(rows: npt.NDArray[np.float32], planes: Any, columns: npt.NDArray[np.float32]) -> Any:
    """Sum each plane `[n, c, h, w]` by weights `[a, h]` and `[b, w]`: `[n, c, a, b]`.

    The second product has two dimensions: as one of batches, TensorFlow 2.21 on a CPU dies of some shapes.
    """
    return tf.tensordot(tf.matmul(rows, planes), columns.T, 1)


def _triangles(side: int, cells: int) -> npt.NDArray[np.float32]:
    """Return the weight of each of `side` pixels for each cell: 1 at its centre, 0 at those of its neighbours."""
    size = side / cells
    centres = (np.arange(cells) + 0.5) * size - 0.5
    return np.maximum(0.0, 1.0 - np.abs(np.arange(side) - centres[:, None]) / size).astype(np.float32)


def _shares(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale weights `[a, h]` so that those of a cell have the sum 1; a cell of none, but for rounding, keeps none."""
    totals = weights.sum(axis=1, keepdims=True)
    return (weights / np.where(totals > 1e-6, totals, 1)).astype(np.float32)
