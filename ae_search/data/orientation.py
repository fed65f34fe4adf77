"""The EXIF orientation of an image file, found in the graph; `image_file.orientation` has the same walk."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ae_search.data.octets import apart, count, either, int64, length, number, octets, part, same
from ae_search.image_file import orientation as rules

Tensor = Any
# Where the next step begins, and where the EXIF begins and how long it is: int64 scalars. A walk ends below 0.
_Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def jpeg_orientation(image_bytes: Tensor) -> Tensor:
    """Return the orientation of a JPEG, an int64 scalar from 1 to 8.

    Args:
        image_bytes: Scalar string that begins as a JPEG does.
    """
    carries = count(image_bytes, rules.PREFIX, 0) > 0
    return _if(carries, lambda text: _walked(text, _jpeg_step, 2, rules.JPEG_SEGMENTS), image_bytes)


def png_orientation(image_bytes: Tensor) -> Tensor:
    """Return the orientation of a PNG, an int64 scalar from 1 to 8.

    Args:
        image_bytes: Scalar string that begins as a PNG does.
    """
    carries = count(image_bytes, b"eXIf", 0) > 0
    return _if(carries, lambda text: _walked(text, _png_step, 8, rules.PNG_STEPS), image_bytes)


def webp_orientation(image_bytes: Tensor, head: Tensor) -> Tensor:
    """Return the orientation of a WebP file, an int64 scalar from 1 to 8.

    Args:
        image_bytes: Scalar string that begins as a WebP file does.
        head: Its first bytes, int64 `[at least 21]`.
    """
    flagged = tf.not_equal(tf.bitwise.bitwise_and(head[20], rules.WEBP_EXIF_FLAG), 0)
    carries = tf.logical_and(same(head[12:16], b"VP8X"), flagged)
    return _if(carries, lambda text: _walked(text, _webp_step, 12, rules.WEBP_CHUNKS), image_bytes)


def _if(carries: Tensor, walk: Callable[[Tensor], Tensor], image_bytes: Tensor) -> Tensor:
    return tf.cond(carries, lambda: apart(walk)(image_bytes), lambda: int64(rules.UPRIGHT))


def _walked(image_bytes: Tensor, step: _Step, at: int, steps: int) -> Tensor:
    _, start, size = tf.while_loop(
        lambda at, start, size: at >= 0,
        lambda at, start, size: step(image_bytes, at),
        [int64(at), int64(0), int64(0)],
        maximum_iterations=steps,
    )
    return _orientation_of(part(image_bytes, start, size))


def _jpeg_step(image_bytes: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    head = octets(part(image_bytes, at, 10), 10)
    marker, size = head[1], tf.maximum(int64(2), number(head[2:4], "big"))
    between = tf.logical_or(tf.not_equal(head[0], 0xFF), tf.equal(marker, 0xFF))
    within = tf.logical_not(between)
    found = tf.reduce_all([within, tf.equal(marker, 0xE1), same(head[4:10], rules.PREFIX)])
    ends = tf.logical_and(within, tf.logical_or(tf.equal(marker, 0xDA), tf.equal(marker, 0xD9)))
    ends = tf.reduce_any([ends, found, at + 1 >= length(image_bytes)])
    alone = tf.logical_or(marker <= 1, tf.logical_and(marker >= 0xD0, marker <= 0xD7))
    further = either(between, 1, either(alone, 2, 2 + size))
    return either(ends, -1, at + further), at + 10, either(found, size - 8, 0)


def _png_step(image_bytes: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    head = octets(part(image_bytes, at, 8), 8)
    size, kind = number(head[:4], "big"), head[4:]
    found = same(kind, b"eXIf")
    ends = tf.reduce_any([found, same(kind, b"IEND"), at + 8 > length(image_bytes)])
    stride = size + 12
    run = tf.clip_by_value(rules.PNG_RUN_BYTES // stride, 1, rules.PNG_RUN)
    # Only the head of a single chunk is read, for it may claim to have gigabytes.
    row = either(run > 1, stride, 8)
    rows = tf.io.decode_raw([part(image_bytes, at, run * row)], tf.uint8, fixed_length=tf.cast(run * row, tf.int32))
    heads = tf.cast(tf.reshape(rows, tf.stack([run, row]))[:, :8], tf.int64)
    equal = tf.reduce_sum(tf.math.cumprod(tf.cast(tf.reduce_all(tf.equal(heads, head), axis=1), tf.int64)))
    return either(ends, -1, at + stride * equal), at + 8, either(found, size, 0)


def _webp_step(image_bytes: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    head = octets(part(image_bytes, at, 8), 8)
    size, found = number(head[4:]), same(head[:4], b"EXIF")
    ends = tf.logical_or(found, at + 8 > length(image_bytes))
    return either(ends, -1, at + 8 + size + size % 2), at + 8, either(found, size, 0)


def _orientation_of(exif: Tensor) -> Tensor:
    prefixed = same(octets(exif, len(rules.PREFIX)), rules.PREFIX)
    exif = part(exif, either(prefixed, len(rules.PREFIX), 0), length(exif))
    head = octets(exif, 8)
    little, big = same(head[:4], b"II*\0"), same(head[:4], b"MM\0*")

    def ordered(few: Tensor) -> Tensor:
        return tf.where(big, number(few, "big"), number(few))

    at = ordered(head[4:8])
    most = tf.maximum(int64(0), (length(exif) - at - 2) // 12)
    entries = tf.minimum(ordered(octets(part(exif, at, 2), 2)), most)
    raw = tf.io.decode_raw(part(exif, at + 2, 12 * entries), tf.uint8)
    rows = tf.cast(tf.reshape(raw, [-1, 12]), tf.int64)
    kind, tagged = ordered(rows[:, 2:4]), tf.equal(ordered(rows[:, :2]), rules.TAG)
    alone = tf.equal(ordered(rows[:, 4:8]), 1)
    # The last entry counts: its place stands above its value in one number.
    best = int64(0)
    for code, value_bytes in rules.VALUE_BYTES.items():
        hit = tf.reduce_all([tagged, alone, tf.equal(kind, code)], axis=0)
        placed = 2**33 * (1 + tf.range(tf.shape(rows, tf.int64)[0])) + ordered(rows[:, 8 : 8 + value_bytes])
        best = tf.maximum(best, tf.reduce_max(either(hit, placed, 0)))
    value = best % 2**33
    known = tf.reduce_all([tf.logical_or(little, big), value >= 1, value <= rules.ORIENTATIONS[-1]])
    return either(known, value, rules.UPRIGHT)
