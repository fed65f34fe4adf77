"""All frames of a GIF, counted in the graph without decoding one; `image_file.head` has the same walk."""

from typing import Any

import tensorflow as tf

from ae_search.data.octets import either, int64, number, octets, part
from ae_search.image_file import head as rules

IMAGE, EXTENSION = b",!"
ENDED = -1

Tensor = Any


def gif_frames(image_bytes: Tensor) -> tuple[Tensor, ...]:
    """Walk a GIF from each record, or run of equal blocks, to the next.

    Args:
        image_bytes: Scalar string that begins as a GIF does.

    Returns:
        Int64 scalars: width of the widest frame or the screen, height of the highest, number of frames, pixels of all
        frames; bool scalars: whether it is damaged, whether it has too many blocks.
    """
    head = octets(image_bytes, 13)
    at, screen = 13 + _colour_table_bytes(head[10]), [number(head[6:8]), number(head[8:10])]
    state = tf.while_loop(
        lambda state: tf.logical_and(tf.not_equal(state[1], ENDED), tf.equal(state[-1], 0)),
        lambda state: [_step(image_bytes, state)],
        [tf.stack([at, int64(0), *screen, *[int64(0)] * 4])],
        maximum_iterations=rules.GIF_STEPS,
    )[0]
    _, within, width, height, frames, pixels, comments, damaged = tf.unstack(state)
    long = tf.logical_or(comments > rules.GIF_COMMENTS, tf.not_equal(within, ENDED))
    return width, height, frames, pixels, damaged > 0, long


def _step(image_bytes: Tensor, state: Tensor) -> Tensor:
    at, within, width, height, frames, pixels, comments, _ = tf.unstack(state)
    record, between = octets(part(image_bytes, at, 10), 10), tf.equal(within, 0)
    image, extension = (
        tf.cast(tf.logical_and(between, tf.equal(record[0], kind)), tf.int64) for kind in (IMAGE, EXTENSION)
    )
    within = either(between, either(image + extension > 0, record[0], ENDED), within)
    at += image * (11 + _colour_table_bytes(record[9])) + extension * 2
    frame_width, frame_height = image * number(record[5:7]), image * number(record[7:9])

    size = octets(part(image_bytes, at, 1), 1)[0]
    run = either(within > 0, _equal_blocks(image_bytes, at, size), 0)
    at = tf.minimum(at + run * (size + 1), tf.cast(tf.strings.length(image_bytes), tf.int64))
    state = [
        tf.maximum(width, frame_width),
        tf.maximum(height, frame_height),
        frames + image,
        pixels + frame_width * frame_height,
        comments + either(tf.equal(within, EXTENSION), run, 0),
        extension * tf.cast(tf.equal(size, 0), tf.int64),  # decoders disagree on what follows
    ]
    at, within = _closed(image_bytes, at, within)
    return tf.stack([at, within, *state])


def _equal_blocks(image_bytes: Tensor, at: Tensor, size: Tensor) -> Tensor:
    """Return how many blocks of one size follow each other, up to a bound."""
    blocks = tf.io.decode_raw(part(image_bytes, at, (size + 1) * rules.GIF_RUN), tf.uint8)
    same = tf.equal(tf.cast(blocks[:: size + 1], tf.int64), size)
    return either(size > 0, tf.reduce_sum(tf.math.cumprod(tf.cast(same, tf.int64))), 0)


def _closed(image_bytes: Tensor, at: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Step over the 0 that closes a series of blocks; the walk ends where the file does."""
    length = tf.cast(tf.strings.length(image_bytes), tf.int64)
    zero = tf.logical_and(at < length, tf.equal(octets(part(image_bytes, at, 1), 1)[0], 0))
    closes = tf.logical_and(zero, within > 0)
    at += tf.cast(closes, tf.int64)
    return at, either(at < length, either(closes, 0, within), ENDED)


def _colour_table_bytes(flags: Tensor) -> Tensor:
    return either(flags >= 0x80, tf.bitwise.left_shift(int64(3), flags % 8 + 1), 0)
