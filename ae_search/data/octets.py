"""Bytes of a file as numbers, in a graph: what lies beyond its end is 0, and never an error that quotes the file."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Tensor = Any


def octets(text: Tensor, count: int) -> Tensor:
    """Return the first bytes of a scalar string, int64 `[count]`."""
    return tf.cast(tf.io.decode_raw([text], tf.uint8, fixed_length=count)[0], tf.int64)


def part(text: Tensor, at: Tensor | int, count: Tensor | int) -> Tensor:
    """Return a part of a scalar string, shorter or empty beyond its end, where `tf.strings.substr` would fail."""
    at = tf.minimum(tf.cast(at, tf.int64), length(text))
    return tf.strings.substr(text, at, tf.maximum(tf.cast(count, tf.int64), 0))


def number(few: Tensor, order: str = "little") -> Tensor:
    """Return the unsigned numbers that a few bytes make, int64 `[..., n]` to `[...]`, "little" or "big" end first."""
    places = range(few.shape[-1]) if order == "little" else reversed(range(few.shape[-1]))
    return tf.reduce_sum(few * tf.constant([256**place for place in places], tf.int64), axis=-1)


def either(condition: Tensor, this: Tensor | int, other: Tensor | int) -> Tensor:
    """Return `tf.where` of int64, into which it would not bring a number by itself."""
    return tf.where(condition, tf.cast(this, tf.int64), tf.cast(other, tf.int64))


def int64(value: int) -> Tensor:
    """Return a scalar."""
    return tf.constant(value, tf.int64)


def length(text: Tensor) -> Tensor:
    """Return how many bytes a scalar string has, int64."""
    return tf.cast(tf.strings.length(text), tf.int64)


def count(text: Tensor, what: bytes, most: int) -> Tensor:
    """Return how often a scalar string holds some bytes, int64; of more than `most`, one more than that."""
    return tf.raw_ops.StringSplitV2(input=[text], sep=what, maxsplit=most + 1).shape[1] - 1


def same(few: Tensor, what: bytes) -> Tensor:
    """Return whether bytes, int64 `[..., n]`, are those `n` ones, bool `[...]`."""
    return tf.reduce_all(tf.equal(few, tf.constant(list(what), tf.int64)), axis=-1)


def apart(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function that is called and not spread out: where it is not, TensorFlow touches none of it."""

    def on_the_cpu(*inputs: Tensor) -> Tensor:
        with tf.device("/CPU:0"):  # that of the caller does not hold within
            return function(*inputs)

    called = tf.function(on_the_cpu, autograph=False, experimental_attributes={"_noinline": True})
    return called  # type: ignore[no-any-return]
