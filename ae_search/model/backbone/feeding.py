"""Images in [0, 1] brought to what a network was trained on, as layers of the graph."""

from typing import Any, Literal, get_args

import keras
from keras import layers

from ae_search.model.input_range import INTEGERS

# Ranges, and the two other ways in which networks of keras.applications were trained (`imagenet_utils.py` of Keras).
Feeding = Literal["0-1", "0-255", "-1-1", "torch", "caffe"]
FEEDINGS: tuple[Feeding, ...] = get_args(Feeding)

IN_WORDS: dict[Feeding, str] = {
    "0-1": "RGB in 0-1",
    "0-255": "RGB in 0-255",
    "-1-1": "RGB in -1-1",
    "torch": "RGB less ImageNet's mean, divided by its deviation",
    "caffe": "BGR in 0-255 less ImageNet's mean",
}
# Of ImageNet's pixels in [0, 1]: red, green, blue.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
# Those that Caffe's models took, of bytes: blue, green, red.
BYTES_MEAN_BGR = (103.939, 116.779, 123.68)


def feed(image: Any, feeding: Feeding, dtype: str = "float32") -> Any:
    """Return an image as a network wants it.

    Args:
        image: Symbolic, `[n, h, w, 3]` in [0, 1].
        feeding: What the network was trained on.
        dtype: Dtype of its input; whole numbers are rounded.
    """
    if dtype in INTEGERS:
        return keras.ops.cast(keras.ops.round(layers.Rescaling(255.0, name="to_bytes")(image)), dtype)
    if feeding == "0-255":
        image = layers.Rescaling(255.0, name="to_bytes")(image)
    elif feeding == "-1-1":
        image = layers.Rescaling(2.0, -1.0, name="to_signed")(image)
    elif feeding == "torch":
        variance = [deviation**2 for deviation in DEVIATION]
        image = layers.Normalization(mean=list(MEAN), variance=variance, name="by_imagenet")(image)
    elif feeding == "caffe":
        mean = [value / 255.0 for value in BYTES_MEAN_BGR]
        blue_first = keras.ops.flip(image, axis=-1)
        image = layers.Normalization(mean=mean, variance=[255.0**-2] * 3, name="less_mean")(blue_first)
    return image if dtype == "float32" else keras.ops.cast(image, dtype)
