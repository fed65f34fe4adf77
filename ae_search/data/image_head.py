"""The head of an image file in the graph: what no decoder may see is refused before one is called.

The rules are those of `image_file.head`, in TensorFlow's own operations, so that every client of a model meets them.
"""

from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from ae_search.data.gif_frames import first_frame
from ae_search.data.octets import apart, count, either, int64, number, octets, same
from ae_search.image_file import head as rules
from ae_search.image_file.gif import LONG_GIF

FORMS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
HEAD_BYTES, HARMLESS_BYTES = 70, 40
PNG_EXIF = b"eXIf"
SMALL_BYTES = 2**14

# What each form begins with, as TensorFlow's decoder looks for it; "." is any byte.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF....WEBP")
_MAGIC_BYTES = max(map(len, _MAGIC))
_IHDR = b"\0\0\0\rIHDR"
_FAULTS = (
    "",
    rules.NO_IMAGE,
    rules.NO_SIZE,
    rules.NO_BMP,
    rules.ANIMATED_WEBP,
    LONG_GIF,
    rules.MANY_TEXTS,
    rules.MANY_SCANS,
)

Tensor = Any


class _Size(NamedTuple):
    """Sides in px, and a place in `_FAULTS`: int64 scalars."""

    width: Tensor
    height: Tensor
    fault: Tensor


class Examined(NamedTuple):
    """A file whose head has shown that it may be decoded.

    Attributes:
        image_bytes: Scalar string, the file: who decodes it decodes nothing that was refused.
        form: Its place in `FORMS`, int32 scalar.
        width: In px, int64 scalar.
        height: In px, int64 scalar.
    """

    image_bytes: Tensor
    form: Tensor
    width: Tensor
    height: Tensor


def is_harmless(image_bytes: Tensor) -> Tensor:
    """Return whether a file is so small and so plain that it may be decoded without a further look, a bool scalar.

    Such are still PNG and WebP files of up to 16 KiB with both sides below 4,096 px and no EXIF.

    Args:
        image_bytes: Scalar string.
    """
    head = tf.io.decode_raw([image_bytes], tf.uint8, fixed_length=HARMLESS_BYTES)
    masks, values = (tf.constant(list(map(list, rows)), tf.uint8) for rows in zip(*_harmless_heads(), strict=True))
    harmless = tf.reduce_any(tf.reduce_all(tf.equal(tf.bitwise.bitwise_and(head, masks), values), axis=1))
    small = tf.strings.length(image_bytes) <= SMALL_BYTES
    # Only of a small file are the pieces made.
    first = tf.strings.substr(image_bytes, 0, SMALL_BYTES)
    return tf.logical_and(tf.logical_and(small, harmless), tf.equal(count(first, PNG_EXIF, 0), 0))


def examined(image_bytes: Tensor) -> Examined:
    """Return a file once its head has shown that it may be decoded.

    Args:
        image_bytes: Scalar string.

    Raises:
        tf.errors.InvalidArgumentError: It is none of the five formats, has too many pixels, or is of a kind that
            TensorFlow's decoder does not survive, or not as a person sees it, or not without much memory or time.
    """
    head = octets(image_bytes, HEAD_BYTES)
    form = _form(head)
    ways = [_no_image, _jpeg, _png, apart(_gif), _bmp, _webp]
    size = _Size(*tf.unstack(tf.switch_case(form, [partial(way, image_bytes, head) for way in ways]), num=3))
    limits = [0, *(rules.limit_of(form) * 1_000_000 for form in FORMS)]
    limit = tf.gather(tf.constant(limits, tf.int64), form)
    good = tf.logical_and(tf.equal(size.fault, 0), size.width * size.height <= limit)
    allowed = tf.cond(good, lambda: image_bytes, lambda: _refused(image_bytes, size, limit))
    return Examined(allowed, form - 1, size.width, size.height)


def _harmless_heads() -> list[tuple[bytes, bytes]]:
    """Return masks and values; a small file that has one of them is allowed without a further look.

    They are those of PNG and WebP with both sides below 4,096 px, and spare such files most of the cost.
    """
    one = b"\xff"
    webp = [
        {12: (one * 4, b"VP8 "), 23: (one * 3, rules.VP8_START), 27: (b"\x30", b"\0"), 29: (b"\x30", b"\0")},
        {12: (one * 4, b"VP8L"), 20: (one, rules.VP8L_START), 22: (b"\x30", b"\0"), 24: (b"\x0c", b"\0")},
        {12: (one * 4, b"VP8X"), 20: (b"\x0a", b"\0"), 25: (b"\xf0\xff", b"\0\0"), 28: (b"\xf0\xff", b"\0\0")},
    ]
    kinds = [
        {0: (one * 16, _MAGIC[1] + _IHDR), 16: (b"\xff\xff\xf0", b"\0\0\0"), 20: (b"\xff\xff\xf0", b"\0\0\0")},
        *({**kind, 0: (one * 4, b"RIFF"), 8: (one * 4, b"WEBP")} for kind in webp),
    ]
    return [(_laid_out(kind, 0), _laid_out(kind, 1)) for kind in kinds]


def _laid_out(kind: dict[int, tuple[bytes, bytes]], which: int) -> bytes:
    row = bytearray(HARMLESS_BYTES)
    for at, pair in kind.items():
        row[at : at + len(pair[which])] = pair[which]
    return bytes(row)


def _refused(image_bytes: Tensor, size: _Size, limit: Tensor) -> Tensor:
    width, height, megapixels = (tf.strings.as_string(of) for of in (size.width, size.height, limit // 1_000_000))
    too_large = tf.strings.join([width, " x ", height, " px is more than ", megapixels, " megapixels"])
    sentence = tf.where(size.fault > 0, tf.gather(tf.constant(_FAULTS), size.fault), too_large)
    with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[sentence])]):
        return tf.identity(image_bytes)


def _form(head: Tensor) -> Tensor:
    """Return 1 more than the place in `FORMS`, int32, 0 for none of them."""
    magic = [list(one.ljust(_MAGIC_BYTES, b".")) for one in _MAGIC]
    counts = tf.constant([[int(octet != ord(".")) for octet in one] for one in magic], tf.int64)
    same = tf.equal(head[:_MAGIC_BYTES] * counts, tf.constant(magic, tf.int64) * counts)
    return tf.reduce_sum(tf.cast(tf.reduce_all(same, axis=1), tf.int32) * tf.range(1, 1 + len(FORMS)))


def _still(width: Tensor, height: Tensor, fault: str, faulty: Tensor) -> Tensor:
    """Return the size of a file, with a fault where it has that one or no size."""
    no_size = tf.logical_or(width <= 0, height <= 0)
    code = either(faulty, _FAULTS.index(fault), either(no_size, _FAULTS.index(rules.NO_SIZE), 0))
    return tf.stack([width, height, code])


def _no_image(image_bytes: Tensor, head: Tensor) -> Tensor:
    return _still(int64(0), int64(0), rules.NO_IMAGE, True)


def _jpeg(image_bytes: Tensor, head: Tensor) -> Tensor:
    """Let libjpeg read the head, the one that will decode the file."""
    height, width, _ = tf.unstack(tf.cast(tf.io.extract_jpeg_shape(image_bytes), tf.int64), num=3)
    allowed = tf.minimum(int64(rules.JPEG_SCANS), rules.SCANNED_PIXELS // tf.maximum(width * height, 1))
    many = count(image_bytes, rules.JPEG_SCAN, rules.JPEG_SCANS) > allowed
    return _still(width, height, rules.MANY_SCANS, many)


def _png(image_bytes: Tensor, head: Tensor) -> Tensor:
    begun = tf.reduce_all(tf.equal(head[8:16], tf.constant(list(_IHDR), tf.int64)))
    width, height = (either(begun, number(head[at : at + 4], "big"), 0) for at in (16, 20))
    many = [count(image_bytes, text, rules.PNG_TEXTS) > rules.PNG_TEXTS for text in rules.PNG_TEXT]
    return _still(width, height, rules.MANY_TEXTS, tf.reduce_any(many))


def _gif(image_bytes: Tensor, head: Tensor) -> Tensor:
    frame = first_frame(image_bytes)
    no_size = tf.logical_or(tf.equal(frame.fault, 1), tf.logical_or(frame.width <= 0, frame.height <= 0))
    code = either(no_size, _FAULTS.index(rules.NO_SIZE), either(frame.fault > 1, _FAULTS.index(LONG_GIF), 0))
    return tf.stack([frame.width, frame.height, code])


def _bmp(image_bytes: Tensor, head: Tensor) -> Tensor:
    width, height = (number(head[at : at + 4]) for at in (18, 22))
    width, height = (of - of // 2**31 * 2**32 for of in (width, height))  # signed
    header, bits, packed = number(head[14:18]), number(head[28:30]), number(head[30:34])
    known = tf.logical_and(_one_of(header, rules.BMP_HEADERS), _one_of(bits, rules.BMP_BITS))
    alpha = tf.logical_or(same(head[66:70], rules.BMP_ALPHA), same(head[66:70], b"\0\0\0\0"))
    masked = [
        tf.equal(packed, rules.BMP_MASKED),
        tf.equal(bits, 32),
        _one_of(header, rules.BMP_MASKED_HEADERS),
        same(head[54:66], rules.BMP_MASKS),
        tf.logical_or(alpha, tf.logical_not(_one_of(header, rules.BMP_ALPHA_HEADERS))),
    ]
    readable = tf.logical_and(known, tf.logical_or(tf.equal(packed, 0), tf.reduce_all(masked)))
    return _still(width, tf.abs(height), rules.NO_BMP, tf.logical_not(readable))


def _one_of(value: Tensor, values: tuple[int, ...]) -> Tensor:
    return tf.reduce_any(tf.equal(value, tf.constant(values, tf.int64)))


def _webp(image_bytes: Tensor, head: Tensor) -> Tensor:
    lossy, lossless, extended = (
        tf.equal(number(head[12:16]), int.from_bytes(name, "little")) for name in (b"VP8 ", b"VP8L", b"VP8X")
    )
    lossy = tf.logical_and(lossy, tf.equal(number(head[23:26]), int.from_bytes(rules.VP8_START, "little")))
    lossless = tf.logical_and(lossless, tf.equal(head[20], rules.VP8L_START[0]))
    bits, mask = number(head[21:25]), 0x3FFF
    sides = []
    for of_lossy, of_lossless, of_extended in ((26, bits, 24), (28, bits // 2**14, 27)):
        side = either(lossy, tf.bitwise.bitwise_and(number(head[of_lossy : of_lossy + 2]), mask), 0)
        side = either(lossless, 1 + tf.bitwise.bitwise_and(of_lossless, mask), side)
        sides.append(either(extended, 1 + number(head[of_extended : of_extended + 3]), side))
    animated = tf.not_equal(tf.bitwise.bitwise_and(head[20], rules.WEBP_ANIMATION_FLAG), 0)
    return _still(sides[0], sides[1], rules.ANIMATED_WEBP, tf.logical_and(extended, animated))
