"""Colours as people tell them apart: histograms of hue, saturation and value, of the whole image and of its centre."""

from typing import Any

import keras
import tensorflow as tf

HUES = 16
SATURATIONS = 4
VALUES = 4
# The share of each side that counts as the centre: what a photograph shows is seldom at its edge.
CENTRE = 0.6
PARTS = 2
# A pixel whose channels differ by less than this, in [0, 1], is partly grey: its hue is what noise and rounding left.
LEAST_CHROMA = 0.02
# Below any channel that a uint8 can hold: black has neither hue nor saturation, and must not divide by 0.
_LEAST = 1e-4


def hsv_histogram(images: Any, *, hues: int = HUES, saturations: int = SATURATIONS, values: int = VALUES) -> Any:
    """Return the scaled square roots of the shares of pixels of each hue, saturation and value, of two parts.

    The parts are the whole image and the central 60 % of each side. A pixel votes for the nearest two hues (which go
    round in a circle), saturations and values, linearly. A grey pixel has no hue and votes for all hues alike; between
    grey and a chroma of 0.02 its vote goes over to its own hue. So a vote is a continuous function of the pixel:
    rounding cannot move it from one hue to another, and a served model answers as Keras does. The square root
    (Hellinger's kernel) keeps a large background from outweighing all else.

    Args:
        images: Float32 `[n, h, w, 3]` in [0, 1].
        hues: Hues that are told apart, at least 2.
        saturations: Levels of saturation, at least 2.
        values: Levels of value (the brightest channel), at least 2.

    Returns:
        Float32 `[n, 2 * hues * saturations * values]`: the whole, then the centre, each of root mean square 1; divided
        by the square root of half its floats, a part is a unit vector.
    """
    height, width = images.shape[1:3]
    top, left = _edge(height), _edge(width)
    by_hue, by_level = _votes(images, hues, saturations, values)
    parts = [
        _shares(by_hue, by_level),
        _shares(*(votes[:, top : height - top, left : width - left] for votes in (by_hue, by_level))),
    ]
    return tf.sqrt(hues * saturations * values * tf.concat(parts, axis=1))


@keras.saving.register_keras_serializable(package="ae_search")
class HsvHistogram(keras.layers.Layer):
    """`hsv_histogram` as a layer: `[n, h, w, 3]` to `[n, 2 * hues * saturations * values]`. It learns nothing.

    Args:
        hues: Hues that are told apart.
        saturations: Levels of saturation.
        values: Levels of value.
        **kwargs: Those of every Keras layer.
    """

    def __init__(
        self, *, hues: int = HUES, saturations: int = SATURATIONS, values: int = VALUES, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hues, self.saturations, self.values = hues, saturations, values

    def call(self, images: Any) -> Any:
        """Return the histograms."""
        return hsv_histogram(images, hues=self.hues, saturations=self.saturations, values=self.values)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return `[n, floats]`."""
        return shape[0], hsv_floats(hues=self.hues, saturations=self.saturations, values=self.values)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made from again."""
        config: dict[str, Any] = super().get_config()
        return config | {"hues": self.hues, "saturations": self.saturations, "values": self.values}


def hsv_floats(*, hues: int = HUES, saturations: int = SATURATIONS, values: int = VALUES) -> int:
    """Return the floats of a histogram of both parts."""
    return PARTS * hues * saturations * values


def _edge(side: int) -> int:
    """Return the pixels beyond the centre at each end of a side; the centre has at least one."""
    return min(round(side * (1 - CENTRE) / 2), (side - 1) // 2)


def _votes(images: Any, hues: int, saturations: int, values: int) -> tuple[Any, Any]:
    """Return the votes of each pixel for hues `[n, h, w, a]`, and for saturations and values `[n, h, w, b * c]`."""
    value, least = tf.reduce_max(images, axis=3), tf.reduce_min(images, axis=3)
    chroma = value - least
    has_hue = tf.minimum(1.0, chroma / LEAST_CHROMA)[..., None]
    turn = _turn(images, value, chroma)[..., None] * hues - tf.range(hues, dtype=tf.float32)
    # The way round the circle that is shorter.
    apart = tf.minimum(tf.abs(turn), hues - tf.abs(turn))
    by_hue = has_hue * tf.nn.relu(1.0 - apart) + (1.0 - has_hue) / hues
    saturation = chroma / tf.maximum(value, _LEAST)
    by_saturation, by_value = _levels(saturation, saturations), _levels(value, values)
    pairs = by_saturation[..., :, None] * by_value[..., None, :]
    return by_hue, tf.reshape(pairs, [-1, *images.shape[1:3], saturations * values])


def _turn(images: Any, value: Any, chroma: Any) -> Any:
    """Return the hue in [0, 1): red 0, green 1/3, blue 2/3. Where two channels are the brightest, both say the same."""
    red, green, blue = tf.unstack(images, axis=3)
    safe = tf.maximum(chroma, _LEAST)
    from_red, from_green, from_blue = (green - blue) / safe, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe
    sixths = tf.where(value == red, from_red, tf.where(value == green, from_green, from_blue))
    return tf.where(sixths < 0, sixths + 6.0, sixths) / 6.0


def _levels(amounts: Any, count: int) -> Any:
    """Return votes for the nearest two of `count` levels of amounts `[...]` in [0, 1]: `[..., count]`."""
    return tf.nn.relu(1.0 - tf.abs(amounts[..., None] * (count - 1) - tf.range(count, dtype=tf.float32)))


def _shares(by_hue: Any, by_level: Any) -> Any:
    """Return the share of the pixels of each hue and level, `[n, a * b]`."""
    (height, width, hues), levels = by_hue.shape[1:], by_level.shape[3]
    votes = tf.einsum("nhwa,nhwb->nab", by_hue, by_level) / (height * width)
    return tf.reshape(votes, [-1, hues * levels])
