"""The one decode-and-resize: training reads files through it, exported models carry it in their graph."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import tensorflow as tf

from ae_search.contract import Fit
from ae_search.data.framing import RATIOS, Shape, framed, ratio_of
from ae_search.data.gif_frames import decoded_frame, first_frame
from ae_search.data.image_head import HEAD_BYTES, Examined, examined, is_harmless
from ae_search.data.octets import apart, either, int64, number, octets, part, same
from ae_search.data.orientation import jpeg_orientation, png_orientation, webp_orientation
from ae_search.data.whole import checked_rows
from ae_search.image_file import head as rules

# Goes into the model's fingerprint and its card: change it whenever `decode_image` answers differently.
PREPROCESSING = (
    "ae-search/3: bounded; first frame; upright by EXIF; large JPEG decoded at 1/2, 1/4 or 1/8; alpha on white; centre "
    "crop to aspect, or padded with the mean of the edge; antialiased bilinear; [0, 1]"
)

BEYOND_PALETTE = "a BMP with pixels beyond its palette"

Tensor = Any


def decode_image(image_bytes: Tensor, image_shape: Shape, fit: Fit = "crop") -> Tensor:
    """Decode one image file of any size and channel count into what the model takes.

    It is upright as its EXIF orientation says. The largest centred window with the model's aspect ratio is cut out, or
    all of it is shown, and resized with antialiasing. Transparent pixels are laid over white, so that images that look
    alike are alike. A JPEG of more than four times the model's sides is decoded at a half, a quarter or an eighth.

    Args:
        image_bytes: Scalar string: a JPEG, PNG, GIF (first frame), BMP or WebP file.
        image_shape: `(h, w, c)` of the model.
        fit: "crop" or "pad", see `framed`.

    Returns:
        float32 `[h, w, c]` in [0, 1].

    Raises:
        tf.errors.InvalidArgumentError: The bytes are no such image; it has more pixels than a file of its format may
            have, is of a kind that TensorFlow cannot decode (`image_file.head` has the rules), or most is missing.
    """
    with tf.device("/CPU:0"):
        return tf.ensure_shape(_traced_decoder(image_shape, fit)(image_bytes), image_shape)


def _decoder(image_shape: Shape, fit: Fit) -> Callable[[Tensor], Tensor]:
    def other(image_bytes: Tensor) -> Tensor:
        pixels, turn = _decoded_by_form(examined(image_bytes), image_shape, fit)
        return framed(pixels, image_shape, fit, turn=turn)

    def decode(image_bytes: Tensor) -> Tensor:
        def harmless() -> Tensor:
            return framed(_decoded(image_bytes), image_shape, fit)

        with tf.device("/CPU:0"):
            return tf.cond(is_harmless(image_bytes), harmless, lambda: apart(other)(image_bytes))

    return decode


@lru_cache(maxsize=16)
def _traced_decoder(image_shape: Shape, fit: Fit) -> Callable[[Tensor], Tensor]:
    """Return the decoder as one graph for all that contain it: tracing takes seconds, and a training has four."""
    signature = [tf.TensorSpec((), tf.string)]
    return tf.function(_decoder(image_shape, fit), signature, autograph=False)  # type: ignore[no-any-return]


def resize_image(pixels: Tensor, image_shape: Shape, fit: Fit = "crop") -> Tensor:
    """Crop or pad, resize and convert decoded pixels.

    Args:
        pixels: uint8 `[height, width, 1 or 3]`.
        image_shape: `(h, w, c)` of the model.
        fit: "crop" or "pad", see `framed`.

    Returns:
        float32 `[h, w, c]` in [0, 1].
    """
    return framed(pixels, image_shape, fit)


def _decoded(image_bytes: Tensor) -> Tensor:
    pixels = tf.io.decode_image(image_bytes, channels=0, expand_animations=False)
    pixels.set_shape([None, None, None])
    return pixels


def _decoded_by_form(file: Examined, image_shape: Shape, fit: Fit) -> tuple[Tensor, Tensor]:
    """Return pixels as they are stored, uint8 `[height, width, 1 to 4]`, and their EXIF orientation."""
    data = file.image_bytes
    ways = [
        lambda: apart(partial(_jpeg, image_shape=image_shape, fit=fit))(data, file.width, file.height),
        lambda: _png(data),
        lambda: (apart(lambda data: decoded_frame(data, first_frame(data)))(data), int64(1)),
        lambda: (apart(_bmp)(data), int64(1)),
        lambda: (_decoded(data), webp_orientation(data, octets(data, 21))),
    ]
    pixels, turn = tf.switch_case(file.form, ways)
    pixels.set_shape([None, None, None])
    return pixels, turn


def _png(data: Tensor) -> tuple[Tensor, Tensor]:
    turn = png_orientation(data)
    # One after the other: the search for EXIF copies the file.
    with tf.control_dependencies([turn]):
        return _decoded(data), turn


def _jpeg(data: Tensor, width: Tensor, height: Tensor, *, image_shape: Shape, fit: Fit) -> tuple[Tensor, Tensor]:
    turn = jpeg_orientation(data)
    turned = turn >= 5
    ratio = ratio_of(either(turned, width, height), either(turned, height, width), image_shape, fit)
    # libjpeg is told of an end where there is none, and fills with grey what it misses.
    decode = partial(tf.io.decode_jpeg, data, try_recover_truncated=True)
    pixels = tf.switch_case(ratio, [partial(decode, ratio=ratio) for ratio in RATIOS])
    return checked_rows(data, pixels), turn


def _bmp(data: Tensor) -> Tensor:
    """Decode a BMP: DecodeImage takes the reserved byte for alpha, and palette indices for grey."""
    head = octets(data, HEAD_BYTES)
    pixels = _decoded(data)
    header, alpha = number(head[14:18]), same(head[66:70], rules.BMP_ALPHA)
    has_alpha = tf.reduce_any(tf.equal(header, tf.constant(rules.BMP_ALPHA_HEADERS, tf.int64)))
    has_alpha = tf.reduce_all([has_alpha, alpha, tf.equal(number(head[30:34]), rules.BMP_MASKED)])

    def look_up() -> Tensor:
        # The palette lies between the header and the pixels.
        start = 14 + header
        colours = tf.clip_by_value((number(head[10:14]) - start) // 4, 0, 256)
        table = tf.io.decode_raw([part(data, start, 4 * colours)], tf.uint8, fixed_length=1024)
        within = tf.cast(tf.reduce_max(pixels), tf.int64) < colours
        with tf.control_dependencies([tf.raw_ops.Assert(condition=within, data=[BEYOND_PALETTE])]):
            return tf.gather(tf.reshape(table, [256, 4])[:, 2::-1], tf.cast(pixels[..., 0], tf.int32))

    def coloured() -> Tensor:
        return tf.cond(has_alpha, lambda: pixels, lambda: pixels[..., :3])

    return tf.cond(tf.equal(tf.shape(pixels)[-1], 1), look_up, coloured)
