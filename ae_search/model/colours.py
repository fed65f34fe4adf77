"""Histograms of colours: what an image is made of, wherever it lies in the picture."""

from typing import Any

import keras
import tensorflow as tf

# Levels of each channel.
LEVELS = 4
FLOATS = LEVELS**3


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
    return tf.sqrt(FLOATS * tf.reshape(votes, [-1, FLOATS]))


@keras.saving.register_keras_serializable(package="ae_search")
class ColourHistogram(keras.layers.Layer):
    """`colour_histogram` as a layer: `[n, h, w, 3]` to `[n, 64]`. It learns nothing."""

    def call(self, images: Any) -> Any:
        """Return the histograms."""
        return colour_histogram(images)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return `[n, 64]`."""
        return shape[0], FLOATS
