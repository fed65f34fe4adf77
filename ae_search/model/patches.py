"""Which small patches an image has where: how alike its patches are to each of some typical ones."""

from typing import Any

import keras
import tensorflow as tf

from ae_search.model.histograms import pooled

SIDE_PX = 6
CELLS = 4
# Larger images are looked at as small as this: patches are of strokes and edges, not of grains.
LARGEST_PX = 28
# What is added to the variance of a patch, and taken off a similarity (Coates and Ng, Learning Feature Representations
# with K-means, 2012): where hardly anything is, there is nothing to be alike.
ADDED_VARIANCE = 10 / 255**2
THRESHOLD = 0.25


@keras.saving.register_keras_serializable(package="ae_search")
class PatchKinds(keras.layers.Layer):
    """Similarities of patches to typical ones, pooled in 4 x 4 cells: `[n, h, w, 1]` to `[n, 16 * kinds]`.

    Patches of 6 x 6 px have their mean taken off and are divided by their deviation. What a patch is multiplied with is
    learned before the training, from patches alone (see `training.typical_patches`), and not changed by it.

    Args:
        kinds: Typical patches.
        **kwargs: Those of every Keras layer.
    """

    def __init__(self, *, kinds: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kinds = kinds

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights, which are to be set."""
        self.kernel = self.add_weight((SIDE_PX, SIDE_PX, 1, self.kinds), trainable=False, name="kernel")
        self.bias = self.add_weight((self.kinds,), initializer="zeros", trainable=False, name="bias")
        super().build(shape)

    def call(self, images: Any) -> Any:
        """Return the similarities, square-rooted."""
        images = shrunk(images)
        alike = tf.nn.conv2d(images, self.kernel, 1, "VALID") / deviations(images) + self.bias
        return tf.sqrt(pooled(tf.nn.relu(alike - THRESHOLD), CELLS))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return `[n, floats]`."""
        return shape[0], CELLS**2 * self.kinds

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made from again."""
        config: dict[str, Any] = super().get_config()
        return config | {"kinds": self.kinds}


def shrunk(images: Any) -> Any:
    """Return images `[n, h, w, 1]` as they are, or brought to 28 px along a side that is longer."""
    size = [min(LARGEST_PX, side) for side in images.shape[1:3]]
    return images if size == list(images.shape[1:3]) else tf.image.resize(images, size, antialias=True)


def deviations(images: Any) -> Any:
    """Return the deviation of each patch of images `[n, h, w, 1]`, and a little more: `[n, h - 5, w - 5, 1]`."""
    means, squares = (tf.nn.avg_pool2d(part, SIDE_PX, 1, "VALID") for part in (images, images**2))
    return tf.sqrt(tf.maximum(squares - means**2, 0.0) + ADDED_VARIANCE)
