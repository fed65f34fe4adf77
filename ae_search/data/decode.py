"""The one decode-and-resize: training reads files through it, exported models carry it in their graph."""

from typing import Any

import tensorflow as tf

from ae_search.data.image_head import checked
from ae_search.data.octets import number, octets, part

# Goes into the model's fingerprint: change it whenever `decode_image` or `resize_image` answers differently.
PREPROCESSING = "ae-search/2: bounded; first frame; alpha on white; centre crop to aspect; antialiased bilinear; [0, 1]"

# ITU-R BT.601 luma, the weights of tf.image.rgb_to_grayscale, here summing to exactly 1.
LUMA = (0.299, 0.587, 0.114)

BEYOND_PALETTE = "a BMP with pixels beyond its palette"

Tensor = Any


def decode_image(image_bytes: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Decode one image file of any size and channel count into what the model takes.

    The largest centred window with the model's aspect ratio is cut out and resized with antialiasing. Transparent
    pixels are laid over white, so that images that look alike are alike. EXIF orientation is not applied.

    Args:
        image_bytes: Scalar string: a JPEG, PNG, GIF (first frame), BMP or WebP file.
        image_shape: `(h, w, c)` of the model.

    Returns:
        float32 `[h, w, c]` in [0, 1].

    Raises:
        tf.errors.InvalidArgumentError: The bytes are no such image; it has more pixels than a file of its format may
            have, or is animated WebP (`image_file.head` has the rules).
    """
    with tf.device("/CPU:0"):
        image_bytes = checked(image_bytes)
        pixels = tf.io.decode_image(image_bytes, channels=0, expand_animations=False)
        pixels.set_shape([None, None, None])
        pixels = _apply_bmp_palette(image_bytes, pixels)
        return resize_image(_flatten_alpha(_crop_to_aspect(pixels, image_shape)), image_shape)


def resize_image(pixels: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Crop, resize and convert decoded pixels.

    Args:
        pixels: `[height, width, 1 or 3]`, values in [0, 255].
        image_shape: `(h, w, c)` of the model.

    Returns:
        float32 `[h, w, c]` in [0, 1].
    """
    height, width, channels = image_shape
    pixels = _crop_to_aspect(pixels, image_shape)
    pixels = tf.image.resize(pixels, (height, width), antialias=True) / 255.0
    pixels = tf.broadcast_to(pixels, (height, width, 3))
    if channels == 1:
        pixels = tf.reduce_sum(pixels * tf.constant(LUMA), axis=-1, keepdims=True)
    return tf.ensure_shape(tf.clip_by_value(pixels, 0.0, 1.0), image_shape)


def _apply_bmp_palette(image_bytes: Tensor, pixels: Tensor) -> Tensor:
    """Look up the colours of an 8-bit BMP: DecodeImage returns its palette indices as if they were grey."""

    def look_up() -> Tensor:
        # The palette lies between the header and the pixels.
        head = octets(image_bytes, 18)
        start = 14 + number(head[14:18])
        colours = tf.clip_by_value((number(head[10:14]) - start) // 4, 0, 256)
        table = tf.io.decode_raw([part(image_bytes, start, 4 * colours)], tf.uint8, fixed_length=1024)
        indices = tf.cast(pixels[..., 0], tf.int32)
        within = tf.cast(tf.reduce_max(indices), tf.int64) < colours
        with tf.control_dependencies([tf.raw_ops.Assert(condition=within, data=[BEYOND_PALETTE])]):
            return tf.gather(tf.reshape(table, [256, 4])[:, 2::-1], indices)

    bmp = tf.equal(tf.strings.substr(image_bytes, 0, 2), b"BM")
    return tf.cond(tf.logical_and(bmp, tf.equal(tf.shape(pixels)[-1], 1)), look_up, lambda: pixels)


def _crop_to_aspect(pixels: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Cut out the largest centred window of the model's aspect ratio."""
    height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    aspect = image_shape[1] / image_shape[0]
    rows = tf.minimum(height, tf.maximum(1, tf.cast(tf.round(tf.cast(width, tf.float32) / aspect), tf.int32)))
    columns = tf.minimum(width, tf.maximum(1, tf.cast(tf.round(tf.cast(height, tf.float32) * aspect), tf.int32)))
    return tf.image.crop_to_bounding_box(pixels, (height - rows) // 2, (width - columns) // 2, rows, columns)


def _flatten_alpha(pixels: Tensor) -> Tensor:
    """Lay pixels with an alpha channel (2 or 4 channels) over white; others pass."""
    channels = tf.shape(pixels)[-1]

    def over_white() -> Tensor:
        values = tf.cast(pixels, tf.float32)
        alpha = values[..., -1:] / 255.0
        return values[..., :-1] * alpha + 255.0 * (1.0 - alpha)

    has_alpha = tf.logical_or(tf.equal(channels, 2), tf.equal(channels, 4))
    flat = tf.cond(has_alpha, over_white, lambda: tf.cast(pixels, tf.float32))
    flat.set_shape([None, None, None])
    return flat
