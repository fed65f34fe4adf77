"""The first frame of a GIF in the graph, the only one that is decoded; `image_file.gif` has the same walk."""

from typing import Any, NamedTuple

import tensorflow as tf

from ae_search.data.octets import either, int64, length, number, octets, part
from ae_search.image_file import gif as rules

IMAGE, EXTENSION = b",!"
CONTROL = 0xF9
ENDED = -1

Tensor = Any


class FirstFrame(NamedTuple):
    """Int64 scalars.

    Attributes:
        width: Width of the canvas in px: that of the screen, or of the frame where it reaches beyond.
        height: Height of the canvas in px.
        fault: 0 none, 1 damaged, 2 too many blocks.
        start: Where the frame begins in the file.
        end: Where it ends.
        clear: Colour that is transparent in it, -1 for none.
    """

    width: Tensor
    height: Tensor
    fault: Tensor
    start: Tensor
    end: Tensor
    clear: Tensor


def first_frame(image_bytes: Tensor) -> FirstFrame:
    """Walk a GIF from each record, or run of equal blocks, to the next, up to the end of its first frame.

    Args:
        image_bytes: Scalar string that begins as a GIF does.
    """
    head = octets(image_bytes, 13)
    at, screen = 13 + colour_table_bytes(head[10]), [number(head[6:8]), number(head[8:10])]
    state = tf.while_loop(
        lambda state: tf.logical_and(tf.not_equal(state[1], ENDED), tf.equal(state[-1], 0)),
        lambda state: [_step(image_bytes, state)],
        [tf.stack([at, int64(0), *screen, int64(0), int64(-1), int64(0), int64(0)])],
        maximum_iterations=rules.GIF_STEPS,
    )[0]
    at, within, width, height, start, clear, comments, damaged = tf.unstack(state)
    long = tf.logical_or(comments > rules.GIF_COMMENTS, tf.not_equal(within, ENDED))
    return FirstFrame(width, height, either(damaged > 0, 1, either(long, 2, 0)), start, at, clear)


def _step(image_bytes: Tensor, state: Tensor) -> Tensor:
    at, within, width, height, start, clear, comments, _ = tf.unstack(state)
    record, between = octets(part(image_bytes, at, 10), 10), tf.equal(within, 0)
    image, extension = (
        tf.cast(tf.logical_and(between, tf.equal(record[0], kind)), tf.int64) for kind in (IMAGE, EXTENSION)
    )
    within = either(between, either(image + extension > 0, record[0], ENDED), within)
    start = either(image > 0, at, start)
    control = tf.logical_and(extension > 0, tf.equal(record[1], CONTROL))
    clear = either(control, either(tf.equal(record[3] % 2, 1), record[6], -1), clear)
    at += image * (11 + colour_table_bytes(record[9])) + extension * 2
    edges = [image * (number(record[place : place + 2]) + number(record[place + 4 : place + 6])) for place in (1, 3)]

    size = octets(part(image_bytes, at, 1), 1)[0]
    run = either(within > 0, _equal_blocks(image_bytes, at, size), 0)
    at = tf.minimum(at + run * (size + 1), length(image_bytes))
    state = [
        tf.maximum(width, edges[0]),
        tf.maximum(height, edges[1]),
        start,
        clear,
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
    """Step over the 0 that closes a series of blocks; the walk ends with the first frame, or where the file does."""
    zero = tf.logical_and(at < length(image_bytes), tf.equal(octets(part(image_bytes, at, 1), 1)[0], 0))
    closes = tf.logical_and(zero, within > 0)
    at += tf.cast(closes, tf.int64)
    ended = tf.logical_or(at >= length(image_bytes), tf.logical_and(closes, tf.equal(within, IMAGE)))
    return at, either(ended, ENDED, either(closes, 0, within))


def colour_table_bytes(flags: Tensor) -> Tensor:
    """Return how long the table of colours is that a byte of flags announces."""
    return either(flags >= 0x80, tf.bitwise.left_shift(int64(3), flags % 8 + 1), 0)


def decoded_frame(image_bytes: Tensor, frame: FirstFrame) -> Tensor:
    """Decode the first frame of a GIF, what is transparent being white.

    The decoder is given a file of that frame alone, at the corner of its screen and without a transparent colour, whose
    place in the table of colours becomes white: by itself the decoder leaves black there.

    Args:
        image_bytes: Scalar string.
        frame: Its first frame.

    Returns:
        uint8 `[height, width, 3]`; outside the frame what Pillow shows there, white or the first colour of its table.
    """
    record = octets(part(image_bytes, frame.start, 10), 10)
    local = colour_table_bytes(record[9])
    screen = octets(image_bytes, 13)
    table = colour_table_bytes(screen[10])
    at, n_bytes = either(local > 0, frame.start + 10, 13), either(local > 0, local, table)
    white = tf.logical_and(frame.clear >= 0, 3 * frame.clear < n_bytes)
    # Without such a colour nothing is replaced.
    hole = at + either(white, 3 * frame.clear, n_bytes)
    colours = tf.strings.join(
        [
            part(image_bytes, at, hole - at),
            tf.where(white, b"\xff\xff\xff", b""),
            part(image_bytes, hole + 3, at + n_bytes - hole - 3),
        ]
    )
    alone = tf.strings.join(
        [
            part(image_bytes, 0, 13),
            tf.where(local > 0, part(image_bytes, 13, table), colours),
            b",\0\0\0\0",
            part(image_bytes, frame.start + 5, 5),
            tf.where(local > 0, colours, b""),
            part(image_bytes, frame.start + 10 + local, frame.end - frame.start - 10 - local),
            b";",
        ]
    )
    pixels = tf.io.decode_gif(alone)[0]
    around = tf.io.decode_raw([part(colours, 0, 3)], tf.uint8, fixed_length=3)[0]
    around = tf.where(frame.clear >= 0, tf.constant(255, tf.uint8), around)
    return tf.cond(
        tf.reduce_all(tf.equal(tf.shape(pixels, tf.int64)[:2], tf.stack([frame.height, frame.width]))),
        lambda: pixels,
        lambda: _placed(pixels, frame, around, [number(record[3:5]), number(record[1:3])]),
    )


def _placed(pixels: Tensor, frame: FirstFrame, around: Tensor, corner: list[Tensor]) -> Tensor:
    """Lay a frame on its canvas."""
    shape = tf.shape(pixels, tf.int64)
    top, left = corner
    below, right = frame.height - top - shape[0], frame.width - left - shape[1]
    middle = [_filled(around, shape[0], left), pixels, _filled(around, shape[0], right)]
    rows = [_filled(around, top, frame.width), tf.concat(middle, axis=1), _filled(around, below, frame.width)]
    return tf.concat(rows, axis=0)


def _filled(colour: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return tf.broadcast_to(colour, tf.stack([rows, columns, 3]))
