"""Bytes of a file as numbers, in a graph: what lies beyond its end is 0, and never an error that quotes the file."""

from typing import Any

import tensorflow as tf

Tensor = Any


def octets(text: Tensor, count: int) -> Tensor:
    """Return the first bytes of a scalar string, int64 `[count]`."""
    return tf.cast(tf.io.decode_raw([text], tf.uint8, fixed_length=count)[0], tf.int64)


def part(text: Tensor, at: Tensor, count: Tensor | int) -> Tensor:
    """Return a part of a scalar string, shorter or empty beyond its end, where `tf.strings.substr` would fail."""
    at = tf.minimum(at, tf.cast(tf.strings.length(text), tf.int64))
    return tf.strings.substr(text, at, tf.cast(count, tf.int64))


def number(few: Tensor, order: str = "little") -> Tensor:
    """Return the unsigned number that a few bytes make, "little" or "big" end first."""
    places = range(few.shape[0]) if order == "little" else reversed(range(few.shape[0]))
    return tf.reduce_sum(few * tf.constant([256**place for place in places], tf.int64))


def either(condition: Tensor, this: Tensor | int, other: Tensor | int) -> Tensor:
    """Return `tf.where` of int64, into which it would not bring a number by itself."""
    return tf.where(condition, tf.cast(this, tf.int64), tf.cast(other, tf.int64))


def int64(value: int) -> Tensor:
    """Return a scalar."""
    return tf.constant(value, tf.int64)
