"""Decoded pixels brought to a model's shape: upright, cropped or padded, over white, resized.

`image_file.framing` has the same arithmetic for the query side.
"""

from typing import Any

import tensorflow as tf

from ae_search.contract import Fit
from ae_search.data.octets import apart, either

# ITU-R BT.601 luma, the weights of tf.image.rgb_to_grayscale, here summing to exactly 1.
LUMA = (0.299, 0.587, 0.114)
# Pixels whose alpha is applied together, as floats.
STRIP_PIXELS = 2**17
RATIOS = (1, 2, 4, 8)

Tensor = Any
Shape = tuple[int, int, int]


def framed(pixels: Tensor, image_shape: Shape, fit: Fit, *, turn: Tensor | None = None) -> Tensor:
    """Bring decoded pixels to a model's shape.

    Args:
        pixels: uint8 `[height, width, 1 to 4]`; of 2 and 4 channels the last is alpha.
        image_shape: `(h, w, c)` of the model.
        fit: "crop" cuts out the largest centred window of the model's aspect ratio; "pad" shows all, and lays the mean
            colour of the picture's edge around it.
        turn: EXIF orientation, an int64 scalar; None for upright.

    Returns:
        float32 `[h, w, c]` in [0, 1].
    """
    height, width, channels = image_shape
    rows, columns = tf.unstack(tf.shape(pixels, tf.int64)[:2])
    if turn is None:
        turned = flip_rows = flip_columns = None
    else:
        turned, flip_rows, flip_columns = (_among(turn, *which) for which in ((5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)))
        rows, columns = either(turned, columns, rows), either(turned, rows, columns)
    if fit == "crop":
        window, inner = _window(rows, columns, image_shape), [height, width]
    else:
        window, inner = [0, 0, rows, columns], _inner(rows, columns, image_shape)
    if turned is not None:
        top, left, tall, wide = window
        top = either(flip_rows, rows - tall - top, top)
        left = either(flip_columns, columns - wide - left, left)
        window = [either(turned, this, other) for this, other in ((left, top), (top, left), (wide, tall), (tall, wide))]
        inner = [either(turned, inner[1], inner[0]), either(turned, inner[0], inner[1])]
    pixels = tf.image.resize(_cut_out(pixels, window), tf.cast(tf.stack(inner), tf.int32), antialias=True) / 255.0
    if turned is not None:
        pixels = tf.cond(turned, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        axes = tf.where(tf.stack([flip_rows, flip_columns]))[:, 0]
        pixels = tf.reverse(pixels, axes)
    if fit == "pad":
        pixels = _padded(pixels, image_shape)
    pixels = tf.broadcast_to(pixels, (height, width, 3))
    if channels == 1:
        pixels = tf.reduce_sum(pixels * tf.constant(LUMA), axis=-1, keepdims=True)
    return tf.ensure_shape(tf.clip_by_value(pixels, 0.0, 1.0), image_shape)


def ratio_of(rows: Tensor, columns: Tensor, image_shape: Shape, fit: Fit) -> Tensor:
    """Return which of `RATIOS` a JPEG is decoded at: the largest that leaves twice the model's sides, int32 scalar.

    Args:
        rows: Height of the upright picture in px, int64 scalar.
        columns: Width of the upright picture in px, int64 scalar.
        image_shape: `(h, w, c)` of the model.
        fit: See `framed`.
    """
    ratios = tf.constant(RATIOS[1:], tf.int64)
    tall, wide = rows >= 2 * ratios * image_shape[0], columns >= 2 * ratios * image_shape[1]
    enough = tf.logical_and(tall, wide) if fit == "crop" else tf.logical_or(tall, wide)
    return tf.reduce_sum(tf.cast(enough, tf.int32))


def _among(turn: Tensor, *which: int) -> Tensor:
    return tf.reduce_any(tf.equal(turn, tf.constant(which, tf.int64)))


def _window(rows: Tensor, columns: Tensor, image_shape: Shape) -> list[Tensor]:
    """Return the largest centred window of the model's aspect ratio: top, left, rows and columns."""
    height, width, _ = image_shape
    tall = tf.minimum(rows, tf.maximum((2 * columns * height + width) // (2 * width), 1))
    wide = tf.minimum(columns, tf.maximum((2 * rows * width + height) // (2 * height), 1))
    return [(rows - tall) // 2, (columns - wide) // 2, tall, wide]


def _inner(rows: Tensor, columns: Tensor, image_shape: Shape) -> list[Tensor]:
    """Return the rows and columns that the whole picture has within the model's shape."""
    height, width, _ = image_shape
    across = tf.maximum(tf.minimum((2 * columns * height + rows) // (2 * rows), width), 1)
    down = tf.maximum(tf.minimum((2 * rows * width + columns) // (2 * columns), height), 1)
    is_tall = rows * width >= columns * height
    return [either(is_tall, height, down), either(is_tall, across, width)]


def _padded(pixels: Tensor, image_shape: Shape) -> Tensor:
    """Lay the mean of the outermost pixels around a picture."""
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    colour = tf.reduce_mean(tf.concat(edges, axis=0), axis=0)
    rows, columns = tf.unstack(tf.shape(pixels)[:2])
    top, left = (image_shape[0] - rows) // 2, (image_shape[1] - columns) // 2
    around = [[top, image_shape[0] - rows - top], [left, image_shape[1] - columns - left], [0, 0]]
    return tf.pad(pixels - colour, around) + colour


def _cut_out(pixels: Tensor, window: list[Tensor]) -> Tensor:
    """Cut a window out, and lay it over white where it has alpha: uint8 `[rows, columns, 1 or 3]`."""
    channels = tf.shape(pixels)[-1]
    top, left, rows, columns = (tf.cast(of, tf.int32) for of in window)

    def cut(at: Tensor, count: Tensor) -> Tensor:
        return tf.slice(pixels, tf.stack([top + at, left, 0]), tf.stack([count, columns, channels]))

    def opaque() -> Tensor:
        # At once where it is small: a loop costs more than such a picture.
        strip = tf.maximum(1, STRIP_PIXELS // columns)
        return tf.cond(rows <= strip, lambda: _over_white(cut(0, rows)), lambda: apart(strips)(strip))

    def strips(strip: Tensor) -> Tensor:
        count = (rows + strip - 1) // strip
        found = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None, None, None])
        _, found = tf.while_loop(
            lambda at, found: at < count,
            lambda at, found: (
                at + 1,
                found.write(at, _over_white(cut(at * strip, tf.minimum(strip, rows - at * strip)))),
            ),
            [0, found],
            parallel_iterations=1,
        )
        return found.concat()

    flat = tf.cond(tf.equal(channels % 2, 0), opaque, lambda: cut(0, rows))
    flat.set_shape([None, None, None])
    return flat


def _over_white(pixels: Tensor) -> Tensor:
    values = tf.cast(pixels, tf.float32)
    alpha = values[..., -1:] / 255.0
    return tf.cast(tf.round(values[..., :-1] * alpha + 255.0 * (1.0 - alpha)), tf.uint8)
