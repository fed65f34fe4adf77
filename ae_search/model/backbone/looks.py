"""What an encoder with a backbone measures of an image: the features of several looks at it, and its colours."""

from typing import Any, NamedTuple

import keras
from keras import layers

from ae_search.model.hsv_histogram import HsvHistogram, hsv_floats


class Look(NamedTuple):
    """A part of an image, as the backbone sees it.

    Attributes:
        share: How much of each side around the centre is seen, in (0, 1].
        mirrored: Whether left and right change places.
    """

    share: float
    mirrored: bool


LOOKS = (Look(1.0, False), Look(1.0, True), Look(0.7, False))
# Length of the histogram beside the sum of the looks, each of which has length 1.
COLOURS = 0.5
# Histograms are made of images of about this side: more pixels say the same, and take memory.
HISTOGRAM_SIDE_PX = 112
COLOUR_FLOATS = hsv_floats()


def look_at(image: Any, look: Look) -> Any:
    """Return what a look shows, in the size of the image.

    Args:
        image: Symbolic, `[n, h, w, 3]`.
        look: The look.
    """
    height, width = image.shape[1:3]
    if look.share < 1.0:
        rows, columns = (max(1, round(side * look.share)) for side in (height, width))
        image = layers.CenterCrop(rows, columns)(image)
        image = layers.Resizing(height, width)(image)
    return keras.ops.flip(image, axis=2) if look.mirrored else image


def colours_of(image: Any) -> Any:
    """Return the histogram of an image's hues, `[n, 512]`.

    Args:
        image: Symbolic, `[n, h, w, 3]` in [0, 1].
    """
    block = max(1, min(image.shape[1:3]) // HISTOGRAM_SIDE_PX)
    if block > 1:
        image = layers.AveragePooling2D(block, name="coarser")(image)
    return HsvHistogram(dtype="float32", name="colours")(image)


def combined(features: list[Any], colours: Any) -> Any:
    """Return the vector that the latents are made of: the sum of unit features, beside the unit histogram.

    Args:
        features: Those of each look, `[n, f]`.
        colours: The histogram, `[n, 512]`.
    """
    unit = layers.UnitNormalization(dtype="float32", name="unit")
    seen = layers.Add(dtype="float32", name="looks")([unit(one) for one in features])
    coloured = layers.Rescaling(COLOURS, dtype="float32", name="weighed")(unit(colours))
    return layers.Concatenate(dtype="float32", name="together")([seen, coloured])
