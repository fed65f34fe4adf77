"""Whether enough of a JPEG is there, asked of its decoded pixels; `image_file.pixels` asks the same."""

from typing import Any

import tensorflow as tf

from ae_search.data.octets import apart, count, length, part
from ae_search.image_file import jpeg as rules
from ae_search.image_file.head import JPEG_SCAN

# What libjpeg puts where nothing came: grey, which of four inks makes a darker one.
FILLINGS = (128, 64)

Tensor = Any


def checked_rows(image_bytes: Tensor, pixels: Tensor) -> Tensor:
    """Return the pixels of a JPEG unless its end is missing and most of them are the decoder's filling.

    Args:
        image_bytes: Scalar string, the file.
        pixels: uint8 `[height, width, c]`, what was decoded of it.

    Raises:
        tf.errors.InvalidArgumentError: Less than half of the rows are there.
    """
    ended = tf.equal(part(image_bytes, length(image_bytes) - 2, 2), rules.END)
    return tf.cond(ended, lambda: pixels, lambda: apart(_checked)(image_bytes, pixels))


def _checked(image_bytes: Tensor, pixels: Tensor) -> Tensor:
    filled = [tf.reduce_all(tf.equal(pixels, tf.constant(grey, tf.uint8)), axis=[1, 2]) for grey in FILLINGS]
    rows = tf.cast(tf.reduce_any(filled, axis=0), tf.int32)
    missing = tf.reduce_sum(tf.math.cumprod(rows, reverse=True))
    enough = 2 * missing <= tf.size(rows)
    whole = tf.cond(enough, lambda: True, lambda: apart(_has_end)(image_bytes))
    with tf.control_dependencies([tf.raw_ops.Assert(condition=whole, data=[rules.CUT_SHORT])]):
        return tf.identity(pixels)


def _has_end(image_bytes: Tensor) -> Tensor:
    """Return whether the end of the image follows its last scan."""
    last = tf.raw_ops.StringSplitV2(input=[image_bytes], sep=JPEG_SCAN, maxsplit=-1).values[-1]
    return count(last, rules.END, 0) > 0
