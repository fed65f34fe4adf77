"""The one decode-and-resize: training reads files through it, exported models carry it in their graph."""

from typing import Any

import tensorflow as tf

# Goes into the model's fingerprint: change it whenever `decode_image` or `resize_image` answers differently.
PREPROCESSING = "ae-search/1: first frame; alpha over white; centre crop to the aspect; antialiased bilinear; [0, 1]"

# ITU-R BT.601 luma, the weights of tf.image.rgb_to_grayscale, here summing to exactly 1.
LUMA = (0.299, 0.587, 0.114)
WEBP_ANIMATION_FLAG = 0x02

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
        tf.errors.InvalidArgumentError: The bytes are no such image; animated WebP.
    """
    with tf.device("/CPU:0"):
        with tf.control_dependencies(_guards(image_bytes)):
            pixels = tf.io.decode_image(tf.identity(image_bytes), channels=0, expand_animations=False)
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


def _byte(image_bytes: Tensor, position: int) -> Tensor:
    return _little_endian(image_bytes, position, 1)


def _little_endian(image_bytes: Tensor, position: int, count: int) -> Tensor:
    """Return a little-endian number from the file's header, 0 where the file is shorter."""
    padded = tf.strings.join([tf.strings.substr(image_bytes, 0, 64), "\0" * 64])
    octets = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, position, count), tf.uint8), tf.int64)
    return tf.reduce_sum(octets * tf.constant([256**i for i in range(count)], tf.int64))


def _starts_with(image_bytes: Tensor, magic: bytes, position: int = 0) -> Tensor:
    padded = tf.strings.join([tf.strings.substr(image_bytes, 0, 64), "\0" * 64])
    return tf.equal(tf.strings.substr(padded, position, len(magic)), magic)


def _guards(image_bytes: Tensor) -> list[Tensor]:
    """Refuse what TensorFlow's DecodeImage does not survive: on animated WebP it corrupts its heap (seen on 2.21)."""
    extended_webp = tf.logical_and(
        _starts_with(image_bytes, b"RIFF"), _starts_with(image_bytes, b"WEBPVP8X", position=8)
    )
    animated = tf.not_equal(tf.bitwise.bitwise_and(_byte(image_bytes, 20), WEBP_ANIMATION_FLAG), 0)
    return [
        tf.debugging.assert_equal(
            tf.logical_and(extended_webp, animated), False, message="animated WebP is not supported"
        )
    ]


def _apply_bmp_palette(image_bytes: Tensor, pixels: Tensor) -> Tensor:
    """Look up the colours of an 8-bit BMP: DecodeImage returns its palette indices as if they were grey."""
    palettised = tf.logical_and(_starts_with(image_bytes, b"BM"), tf.equal(_little_endian(image_bytes, 28, 2), 8))

    def look_up() -> Tensor:
        start = tf.cast(14 + _little_endian(image_bytes, 14, 4), tf.int32)
        size = tf.cast(_little_endian(image_bytes, 10, 4), tf.int32) - start
        table = tf.reshape(tf.io.decode_raw(tf.strings.substr(image_bytes, start, size), tf.uint8), [-1, 4])
        return tf.gather(table[:, 2::-1], tf.cast(pixels[..., 0], tf.int32))

    return tf.cond(palettised, look_up, lambda: pixels)


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
