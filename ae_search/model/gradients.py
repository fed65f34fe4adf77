"""Histograms of oriented gradients (Dalal and Triggs, 2005): what an image looks like, whatever its brightness."""

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

ORIENTATIONS = 8
CELLS = 7
FLOATS = CELLS * CELLS * ORIENTATIONS


def oriented_gradients(images: Any) -> Any:
    """Return a histogram of oriented gradients of each image.

    Signed gradients vote for the two nearest of 8 orientations, linearly, and for the nearest of 7 x 7 cells, with
    triangular weights. The votes of an image are divided by their root mean square, so that neither brightness nor
    contrast counts, and square-rooted (Hellinger's kernel). In colour, the channel with the steepest slope votes.

    Args:
        images: Float32 `[n, h, w, c]` in [0, 1].

    Returns:
        Float32 `[n, 392]`.
    """
    height, width = images.shape[1:3]
    across, down = _slopes(images)
    steepness = tf.sqrt(across**2 + down**2)
    # [0, 8): how far around, in orientations.
    turn = (tf.atan2(down, across) / (2 * math.pi) % 1.0) * ORIENTATIONS
    if images.shape[3] > 1:
        steepest = tf.argmax(steepness, axis=3)[..., None]
        turn, steepness = (tf.gather(one, steepest, axis=3, batch_dims=3) for one in (turn, steepness))
    # A vote of 1 at the orientation itself, falling to 0 at the next one on either side, around the circle.
    distance = tf.abs((turn - tf.range(ORIENTATIONS, dtype=tf.float32) + ORIENTATIONS / 2) % ORIENTATIONS)
    votes = steepness * tf.maximum(0.0, 1.0 - tf.abs(distance - ORIENTATIONS / 2))
    cells = tf.einsum("ar,nrso,bs->nabo", _triangles(height), votes, _triangles(width))
    flat = tf.reshape(cells, [-1, FLOATS])
    return tf.sqrt(flat / (tf.sqrt(tf.reduce_mean(flat**2, axis=1, keepdims=True)) + 1e-6))


def _slopes(images: Any) -> tuple[Any, Any]:
    """Return the differences of the neighbours to the right and left, below and above; edges repeat."""
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    return padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]


def _triangles(side: int) -> npt.NDArray[np.float32]:
    """Return the weight of each of `side` pixels for each cell: 1 at its centre, 0 at those of its neighbours."""
    size = side / CELLS
    centres = (np.arange(CELLS) + 0.5) * size - 0.5
    return np.maximum(0.0, 1.0 - np.abs(np.arange(side) - centres[:, None]) / size).astype(np.float32)


@keras.saving.register_keras_serializable(package="ae_search")
class OrientedGradients(keras.layers.Layer):
    """`oriented_gradients` as a layer: `[n, h, w, c]` to `[n, 392]`. It learns nothing."""

    def call(self, images: Any) -> Any:
        """Return the histograms."""
        return oriented_gradients(images)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return `[n, 392]`."""
        return shape[0], FLOATS
