"""What can be measured of an image without learning: histograms of its gradients and colours, and coarse pixels."""

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
# Levels of each channel.
LEVELS = 4
COLOUR_FLOATS = LEVELS**3


def oriented_gradients(images: Any) -> Any:
    """Return a histogram of oriented gradients of each image (after Dalal and Triggs, 2005).

    Signed gradients vote for the two nearest of 8 orientations, linearly, and for the nearest of 7 x 7 cells, with
    triangular weights. The votes of an image are divided by their root mean square, so that neither brightness nor
    contrast counts, and square-rooted (Hellinger's kernel). In colour, the mean of the channels counts: if the steepest
    channel did, as is usual, rounding would decide between equal ones, and a served model answer otherwise than Keras.

    Args:
        images: Float32 `[n, h, w, c]` in [0, 1].

    Returns:
        Float32 `[n, 392]`.
    """
    height, width = images.shape[1:3]
    across, down = _slopes(tf.reduce_mean(images, axis=3))
    steepness = tf.sqrt(across**2 + down**2)
    # [0, 8): how far around, in orientations.
    turn = tf.atan2(down, across) * (ORIENTATIONS / (2 * math.pi))
    turn = tf.where(turn < 0, turn + ORIENTATIONS, turn)
    # A vote of 1 at the orientation itself, falling to 0 at the next one on either side; the ninth is the first again.
    # One at a time: TensorFlow takes five times as long to do all by broadcasting.
    votes = [steepness * tf.nn.relu(1.0 - tf.abs(turn - around)) for around in range(ORIENTATIONS + 1)]
    cells = _weighted(_triangles(height), tf.stack(votes, axis=1), _triangles(width))
    cells = tf.concat([cells[:, :1] + cells[:, -1:], cells[:, 1:-1]], axis=1)
    flat = tf.reshape(cells, [-1, GRADIENT_FLOATS])
    least = LEAST_SLOPE * height * width / CELLS**2
    return tf.sqrt(flat / (tf.sqrt(tf.reduce_mean(flat**2, axis=1, keepdims=True)) + least))


def colour_histogram(images: Any) -> Any:
    """Return the scaled square roots of the shares of an image's pixels that have each of 64 colours.

    A pixel votes for the nearest two of 4 levels in each channel, linearly. The square root (Hellinger's kernel) keeps
    a large background from outweighing all else.

    Args:
        images: Float32 `[n, h, w, 3]` in [0, 1].

    Returns:
        Float32 `[n, 64]`, of root mean square 1.
    """
    height, width = images.shape[1:3]
    distance = tf.abs(images[..., None] * (LEVELS - 1) - tf.range(LEVELS, dtype=tf.float32))
    red, green, blue = tf.unstack(tf.maximum(0.0, 1.0 - distance), axis=3)
    votes = tf.einsum("nhwr,nhwg,nhwb->nrgb", red, green, blue) / (height * width)
    return tf.sqrt(COLOUR_FLOATS * tf.reshape(votes, [-1, COLOUR_FLOATS]))


def cell_means(images: Any) -> Any:
    """Return the mean of each channel in each of 7 x 7 cells, with triangular weights: an image of 7 x 7 px.

    Args:
        images: Float32 `[n, h, w, c]` in [0, 1].

    Returns:
        Float32 `[n, 49 * c]` in [0, 1]; 0 for cells that have no pixels, as in images of less than 7 px.
    """
    height, width, channels = images.shape[1:]
    planes = tf.transpose(images, [0, 3, 1, 2])
    means = _weighted(_shares(_triangles(height)), planes, _shares(_triangles(width)))
    return tf.reshape(means, [-1, CELLS * CELLS * channels])


@keras.saving.register_keras_serializable(package="ae_search")
class OrientedGradients(keras.layers.Layer):
    """`oriented_gradients` as a layer: `[n, h, w, c]` to `[n, 392]`. It learns nothing."""

    def call(self, images: Any) -> Any:
        """Return the histograms."""
        return oriented_gradients(images)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return `[n, 392]`."""
        return shape[0], GRADIENT_FLOATS


@keras.saving.register_keras_serializable(package="ae_search")
class ColourHistogram(keras.layers.Layer):
    """`colour_histogram` as a layer: `[n, h, w, 3]` to `[n, 64]`. It learns nothing."""

    def call(self, images: Any) -> Any:
        """Return the histograms."""
        return colour_histogram(images)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return `[n, 64]`."""
        return shape[0], COLOUR_FLOATS


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


def _triangles(side: int) -> npt.NDArray[np.float32]:
    """Return the weight of each of `side` pixels for each cell: 1 at its centre, 0 at those of its neighbours."""
    size = side / CELLS
    centres = (np.arange(CELLS) + 0.5) * size - 0.5
    return np.maximum(0.0, 1.0 - np.abs(np.arange(side) - centres[:, None]) / size).astype(np.float32)


def _shares(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale weights `[a, h]` so that those of a cell have the sum 1; a cell of none, but for rounding, keeps none."""
    totals = weights.sum(axis=1, keepdims=True)
    return (weights / np.where(totals > 1e-6, totals, 1)).astype(np.float32)
