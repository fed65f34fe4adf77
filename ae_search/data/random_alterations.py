"""Random alterations of a batch of images: moved as a camera moves, and spoiled as a copy is spoiled."""

from typing import Any

import tensorflow as tf

# At strength 1.
TURN_RADIANS = 0.25
ZOOM = 0.15
SHIFT = 0.09
NOISE = 0.12
DARKEST = 0.6
HOLES = (0.15, 0.35)


def moved(images: Any, strength: float) -> Any:
    """Mirror half of the images, and turn, zoom, stretch and shift all of them, each by its own random amount.

    Args:
        images: Float32 `[n, h, w, c]`.
        strength: 1 turns by up to 14°, zooms by up to 15 % and shifts by up to 9 % of a side.

    Returns:
        The same shape; black enters at the edges.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    turn, zoom, stretch, down, across = (
        tf.random.uniform((count,), -strength, strength) * most for most in (TURN_RADIANS, ZOOM, ZOOM / 3, SHIFT, SHIFT)
    )
    mirror = tf.where(tf.random.uniform((count,)) < 0.5, -1.0, 1.0)
    scale, row, column = tf.exp(zoom), (height - 1) / 2, (width - 1) / 2
    a, b = tf.cos(turn) * scale * tf.exp(stretch) * mirror, -tf.sin(turn) * scale
    c, d = tf.sin(turn) * scale * mirror, tf.cos(turn) * scale
    zero = tf.zeros_like(a)
    # Where each pixel comes from, around the centre of the image.
    from_column = column + across * width - a * column - b * row
    from_row = row + down * height - c * column - d * row
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, from_column, c, d, from_row, zero, zero], axis=1),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def spoiled(images: Any) -> Any:
    """Blur, darken, add noise and cover a spot, each in part of the images and each by a random amount.

    Args:
        images: Float32 `[n, h, w, c]` in [0, 1].

    Returns:
        The same shape and range.
    """
    images = _blurred(images) * _uniform(images, DARKEST, 1.0)
    images += tf.random.normal(tf.shape(images)) * _uniform(images, 0.0, NOISE) * _in(images, 0.5)
    return tf.clip_by_value(images * (1.0 - _spot(images) * _in(images, 0.4)), 0.0, 1.0)


def _blurred(images: Any) -> Any:
    small = tf.nn.avg_pool2d(images, 2, 2, "SAME")
    weight = _uniform(images, 0.0, 1.0) * _in(images, 0.4)
    return images + weight * (tf.image.resize(small, images.shape[1:3]) - images)


def _spot(images: Any) -> Any:
    """Return 1 within a square spot of each image, 0 elsewhere."""
    height, width = images.shape[1:3]
    half = _uniform(images, *HOLES) / 2
    rows = tf.reshape((tf.range(height, dtype=tf.float32) + 0.5) / height, (1, height, 1, 1))
    columns = tf.reshape((tf.range(width, dtype=tf.float32) + 0.5) / width, (1, 1, width, 1))
    within = (tf.abs(rows - _uniform(images, 0.0, 1.0)) < half) & (tf.abs(columns - _uniform(images, 0.0, 1.0)) < half)
    return tf.cast(within, tf.float32)


def _uniform(images: Any, low: float, high: float) -> Any:
    """Return one random number an image, `[n, 1, 1, 1]`."""
    return tf.random.uniform((tf.shape(images)[0], 1, 1, 1), low, high)


def _in(images: Any, share: float) -> Any:
    """Return 1 for about this share of the images and 0 for the others, `[n, 1, 1, 1]`."""
    return tf.cast(_uniform(images, 0.0, 1.0) < share, tf.float32)
