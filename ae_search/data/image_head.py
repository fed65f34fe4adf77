"""The head of an image file in the graph: what no decoder may see is refused before one is called.

The rules are those of `image_file.head`, in TensorFlow's own operations, so that every client of a model meets them.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from ae_search.image_file import head as rules

HEAD_BYTES = 40
FORMS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
BMP = 1 + FORMS.index("BMP")

# What each form begins with, as TensorFlow's decoder looks for it; "." is any byte.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF....WEBP")
_MAGIC_BYTES = max(map(len, _MAGIC))
_IHDR = b"\0\0\0\rIHDR"
_IMAGE, _EXTENSION = b",!"
_ENDED = -1

_FAULTS = (
    "",
    rules.NO_IMAGE,
    rules.NO_SIZE,
    rules.NO_BMP,
    rules.ANIMATED_WEBP,
    rules.LONG_GIF,
    rules.MANY_TEXTS,
    rules.MANY_SCANS,
)

Tensor = Any


class Checked(NamedTuple):
    """An image file that may be decoded.

    Attributes:
        image_bytes: Scalar string, the file; who decodes this one decodes nothing that was refused.
        head: Its first 40 bytes, int64 `[40]`, padded with 0.
        form: Scalar int32, 1 more than the place of its format in `FORMS`.
    """

    image_bytes: Tensor
    head: Tensor
    form: Tensor

    def number(self, at: int) -> Tensor:
        """Return the little-endian number of 4 bytes at some place of the head."""
        return _number(self.head[at : at + 4], "little")


class _Size(NamedTuple):
    """Sides in px, frames, pixels of all frames together, and a place in `_FAULTS`: int64 scalars."""

    width: Tensor
    height: Tensor
    frames: Tensor
    pixels: Tensor
    fault: Tensor


def checked(image_bytes: Tensor) -> Checked:
    """Return a file once its head has shown that it may be decoded.

    Args:
        image_bytes: Scalar string.

    Raises:
        tf.errors.InvalidArgumentError: It is none of the five formats, has too many pixels, or is of a kind that
            TensorFlow's decoder does not survive, or not without much memory or time.
    """
    head = _octets(image_bytes, HEAD_BYTES)
    form = _form(head)
    branches = [
        lambda: _still(_int64(0), _int64(0), rules.NO_IMAGE, True),
        lambda: _jpeg(image_bytes),
        lambda: _png(image_bytes, head),
        lambda: _gif(image_bytes, head),
        lambda: _bmp(head),
        lambda: _webp(head),
    ]
    size = _Size(*tf.unstack(tf.switch_case(form, branches), num=len(_Size._fields)))
    limits = [0, *(rules.limit_of(form) * 1_000_000 for form in FORMS)]
    limit = tf.gather(tf.constant(limits, tf.int64), form)
    good = tf.logical_and(tf.equal(size.fault, 0), size.pixels <= limit)
    return Checked(tf.cond(good, lambda: image_bytes, lambda: _refused(image_bytes, size, limit)), head, form)


def _refused(image_bytes: Tensor, size: _Size, limit: Tensor) -> Tensor:
    frames = tf.where(size.frames > 1, tf.strings.join([" in ", tf.strings.as_string(size.frames), " frames"]), "")
    width, height, megapixels = (tf.strings.as_string(of) for of in (size.width, size.height, limit // 1_000_000))
    too_large = tf.strings.join([width, " x ", height, " px", frames, " is more than ", megapixels, " megapixels"])
    sentence = tf.where(size.fault > 0, tf.gather(tf.constant(_FAULTS), size.fault), too_large)
    with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[sentence])]):
        return tf.identity(image_bytes)


def _form(head: Tensor) -> Tensor:
    """Return 1 more than the place in `FORMS`, 0 for none of them."""
    magic = [list(one.ljust(_MAGIC_BYTES, b".")) for one in _MAGIC]
    counts = tf.constant([[int(octet != ord(".")) for octet in one] for one in magic], tf.int64)
    same = tf.equal(head[:_MAGIC_BYTES] * counts, tf.constant(magic, tf.int64) * counts)
    return tf.tensordot(tf.cast(tf.reduce_all(same, axis=1), tf.int32), tf.range(1, 1 + len(FORMS)), 1)


def _still(width: Tensor, height: Tensor, fault: str, faulty: Tensor) -> Tensor:
    """Return the size of a file of one frame, with a fault where it has that one or no size."""
    no_size = tf.logical_or(width <= 0, height <= 0)
    code = _either(faulty, _FAULTS.index(fault), _either(no_size, _FAULTS.index(rules.NO_SIZE), 0))
    return tf.stack([width, height, _int64(1), width * height, code])


def _jpeg(image_bytes: Tensor) -> Tensor:
    """Let libjpeg read the head, the one that will decode the file."""
    height, width, _ = tf.unstack(tf.cast(tf.io.extract_jpeg_shape(image_bytes), tf.int64), num=3)
    return _still(width, height, rules.MANY_SCANS, _has_more(image_bytes, rules.JPEG_SCAN, rules.JPEG_SCANS))


def _png(image_bytes: Tensor, head: Tensor) -> Tensor:
    begun = tf.reduce_all(tf.equal(head[8:16], tf.constant(list(_IHDR), tf.int64)))
    width, height = (_either(begun, _number(head[at : at + 4], "big"), 0) for at in (16, 20))
    many = [_has_more(image_bytes, text, rules.PNG_TEXTS) for text in rules.PNG_TEXT]
    return _still(width, height, rules.MANY_TEXTS, tf.reduce_any(many))


def _has_more(image_bytes: Tensor, part: bytes, count: int) -> Tensor:
    """Return whether a file holds some bytes more than so many times."""
    pieces = tf.raw_ops.StringSplitV2(input=[image_bytes], sep=part, maxsplit=count + 1)
    return pieces.shape[1] > count + 1


def _bmp(head: Tensor) -> Tensor:
    width, height = (_number(head[at : at + 4], "little") for at in (18, 22))
    width, height = (of - of // 2**31 * 2**32 for of in (width, height))  # signed
    known = [
        tf.reduce_any(tf.equal(_number(head[14:18], "little"), tf.constant(rules.BMP_HEADERS, tf.int64))),
        tf.reduce_any(tf.equal(_number(head[28:30], "little"), tf.constant(rules.BMP_BITS, tf.int64))),
    ]
    return _still(width, tf.abs(height), rules.NO_BMP, tf.logical_not(tf.reduce_all(known)))


def _webp(head: Tensor) -> Tensor:
    kind = _number(head[12:16], "little")
    lossy, lossless, extended = (tf.equal(kind, int.from_bytes(name, "little")) for name in (b"VP8 ", b"VP8L", b"VP8X"))
    lossy = tf.logical_and(lossy, tf.equal(_number(head[23:26], "big"), int.from_bytes(rules.VP8_START, "big")))
    lossless = tf.logical_and(lossless, tf.equal(head[20], rules.VP8L_START[0]))
    bits, mask = _number(head[21:25], "little"), 0x3FFF
    animated = tf.logical_and(extended, tf.not_equal(tf.bitwise.bitwise_and(head[20], rules.WEBP_ANIMATION_FLAG), 0))
    sides = []
    for of_lossy, of_lossless, of_extended in ((26, bits, 24), (28, bits // 2**14, 27)):
        side = _either(lossy, tf.bitwise.bitwise_and(_number(head[of_lossy : of_lossy + 2], "little"), mask), 0)
        side = _either(lossless, 1 + tf.bitwise.bitwise_and(of_lossless, mask), side)
        sides.append(_either(extended, 1 + _number(head[of_extended : of_extended + 3], "little"), side))
    return _still(sides[0], sides[1], rules.ANIMATED_WEBP, animated)


def _gif(image_bytes: Tensor, head: Tensor) -> Tensor:
    """Walk all frames, each step from one record or run of equal blocks to the next, as `image_file.head` does."""
    start = 13 + _colour_table_bytes(head[10])
    state = tf.stack([start, _int64(0), _number(head[6:8], "little"), _number(head[8:10], "little"), *[_int64(0)] * 4])
    state = tf.while_loop(
        lambda state: tf.logical_and(state[1] != _ENDED, tf.equal(state[-1], 0)),
        lambda state: _gif_step(image_bytes, state),
        [state],
        maximum_iterations=rules.GIF_STEPS,
    )[0]
    _, within, width, height, frames, pixels, comments, fault = tf.unstack(state)
    long = tf.logical_or(comments > rules.GIF_COMMENTS, tf.logical_and(tf.equal(fault, 0), within != _ENDED))
    no_size = tf.logical_or(fault > 0, tf.logical_or(width <= 0, height <= 0))
    code = _either(no_size, _FAULTS.index(rules.NO_SIZE), _either(long, _FAULTS.index(rules.LONG_GIF), 0))
    return tf.stack([width, height, frames, tf.maximum(pixels, width * height), code])


def _gif_step(image_bytes: Tensor, state: Tensor) -> list[Tensor]:
    at, within, width, height, frames, pixels, comments, _ = tf.unstack(state)
    length = tf.cast(tf.strings.length(image_bytes), tf.int64)
    record = _octets(part(image_bytes, at, 10), 10)
    image = tf.cast(tf.logical_and(tf.equal(within, 0), tf.equal(record[0], _IMAGE)), tf.int64)
    extension = tf.cast(tf.logical_and(tf.equal(within, 0), tf.equal(record[0], _EXTENSION)), tf.int64)
    frame_width, frame_height = image * _number(record[5:7], "little"), image * _number(record[7:9], "little")
    within = _either(tf.equal(within, 0), _either(image + extension > 0, record[0], _ENDED), within)
    at += image * (11 + _colour_table_bytes(record[9])) + extension * 2

    size = _octets(part(image_bytes, at, 1), 1)[0]
    sizes = tf.io.decode_raw(part(image_bytes, at, (size + 1) * rules.GIF_RUN), tf.uint8)[:: size + 1]
    same = tf.cast(tf.equal(tf.cast(sizes, tf.int64), size), tf.int64)
    run = _either(tf.logical_and(within > 0, size > 0), tf.reduce_sum(tf.math.cumprod(same)), 0)
    at = tf.minimum(at + run * (size + 1), length)
    closes = tf.logical_and(at < length, tf.equal(_octets(part(image_bytes, at, 1), 1)[0], 0))
    within = _either(within > 0, _either(closes, 0, within), _ENDED)
    at += tf.cast(within >= 0, tf.int64) * tf.cast(closes, tf.int64)
    return [
        tf.stack(
            [
                at,
                _either(at < length, within, _ENDED),
                tf.maximum(width, frame_width),
                tf.maximum(height, frame_height),
                frames + image,
                pixels + frame_width * frame_height,
                comments + _either(tf.equal(within, _EXTENSION), run, 0),
                extension * tf.cast(tf.equal(size, 0), tf.int64),
            ]
        )
    ]


def _colour_table_bytes(flags: Tensor) -> Tensor:
    return _either(flags >= 0x80, tf.bitwise.left_shift(_int64(3), flags % 8 + 1), 0)


def part(image_bytes: Tensor, at: Tensor, count: Tensor | int) -> Tensor:
    """Return a part of a file, shorter or empty beyond its end, where `substr` itself would fail."""
    at = tf.minimum(at, tf.cast(tf.strings.length(image_bytes), tf.int64))
    return tf.strings.substr(image_bytes, at, tf.cast(count, tf.int64))


def _octets(text: Tensor, count: int) -> Tensor:
    """Return the first bytes of a text, int64 `[count]`, 0 beyond its end."""
    return tf.cast(tf.io.decode_raw([text], tf.uint8, fixed_length=count)[0], tf.int64)


def _number(octets: Tensor, order: str) -> Tensor:
    places = range(octets.shape[0]) if order == "little" else reversed(range(octets.shape[0]))
    return tf.reduce_sum(octets * tf.constant([256**place for place in places], tf.int64))


def _int64(value: int) -> Tensor:
    return tf.constant(value, tf.int64)


def _either(condition: Tensor, this: Tensor | int, other: Tensor | int) -> Tensor:
    """Return `tf.where` of int64, into which it would not bring a number by itself."""
    return tf.where(condition, tf.cast(this, tf.int64), tf.cast(other, tf.int64))
