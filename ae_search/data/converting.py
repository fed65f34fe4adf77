"""What `image_file.for_graph` does for clients, within a `tf.data` pipeline; an exported model does not have it."""

from typing import Any

import tensorflow as tf

from ae_search.errors import ImageError
from ae_search.image_file import for_graph

JPEG = b"\xff\xd8\xff"

Tensor = Any


def for_graph_in_graph(data: Tensor) -> Tensor:
    """Return a file's bytes as `image_file.for_graph` makes them; Python is called for kinds that may need it only."""
    at_once = tf.reduce_any([_begins(data, JPEG), _begins(data, b"\x89PNG"), _begins(data, b"GIF8")])
    data = tf.cond(at_once, lambda: data, lambda: tf.numpy_function(_converted, [data], tf.string, stateful=False))
    data.set_shape([])
    return data


def _converted(data: bytes) -> bytes:
    try:
        return for_graph(data, "")
    except ImageError:
        return data  # the graph refuses it, and `image_file` says why


def ends_whole(data: Tensor) -> Tensor:
    """Return whether a file is no JPEG, or has its end marker at its end."""
    return tf.logical_or(~_begins(data, JPEG), tf.equal(tf.strings.substr(data, -2, 2), b"\xff\xd9"))


def _begins(data: Tensor, magic: bytes) -> Tensor:
    return tf.equal(tf.strings.substr(data, 0, len(magic)), magic)
