"""Which values an encoder wants its pixels to have, and images brought to them.

Everything of ae-search holds images as floats in [0, 1] or as bytes; an encoder of the user's own may want others.
"""

import logging
from typing import Any, Literal, get_args

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ae_search.errors import ConfigurationError

log = logging.getLogger(__name__)

InputRange = Literal["0-1", "0-255", "-1-1"]
INPUT_RANGES: tuple[InputRange, ...] = get_args(InputRange)
DEFAULT_RANGE: InputRange = "0-1"

FLOATS = ("float32", "float16", "bfloat16", "float64")
INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64")

# Layers and operations that change each pixel by itself, by a factor and a summand; and those that, outside of
# training, leave an image of one colour as it is.
_AFFINE = {"Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract", "Add", "GetItem"}
_NEUTRAL = {"InputLayer", "ConvertToTensor", "Cast", "Identity", "Resizing", "CenterCrop"}
_NEUTRAL |= {"Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout"}


def choose_range(encoder: Any, image: Any, asked: InputRange | None) -> InputRange:
    """Choose the range of values to feed, and log it.

    Args:
        encoder: The Keras model.
        image: What it takes, as `keras.Input`, for models that want it in a structure in that.
        asked: What the user asked for, None for what the encoder's first layers say, else [0, 1].

    Raises:
        ConfigurationError: There is no such range, or whole numbers cannot have it.
    """
    if asked is not None and asked not in INPUT_RANGES:
        raise ConfigurationError(f"--input-range must be one of {', '.join(INPUT_RANGES)}. Received: {asked}.")
    (tensor,) = keras.tree.flatten(image)
    dtype = tensor.dtype
    found = "0-255" if dtype in INTEGERS else detect_range(encoder, image)
    if dtype in INTEGERS:
        if asked not in (None, "0-255"):
            raise ConfigurationError(
                f"The encoder takes {dtype}, whole numbers in 0-255. Received: --input-range {asked}; leave it out."
            )
        why = "as whole numbers are"
    else:
        why = "as its first layers want it"
    if asked is not None and found not in (None, asked):
        log.warning("The encoder's first layers look as if they want %s; fed %s, as --input-range says.", found, asked)
    if asked is not None:
        why = "as --input-range says"
    elif found is None:
        why = "since nothing in it says otherwise; --input-range tells another"
    chosen = asked or found or DEFAULT_RANGE
    if asked != DEFAULT_RANGE:  # what runs of our own are exported with
        log.info("The encoder is fed %s images in %s, %s.", dtype, chosen, why)
    return chosen


def to_range(images: Any, dtype: str, input_range: InputRange) -> Any:
    """Return images in [0, 1] as an encoder wants them; whole numbers are rounded."""
    if dtype in INTEGERS:
        return tf.saturate_cast(tf.round(images * 255.0), dtype)
    if input_range == "0-255":
        images = images * 255.0
    elif input_range == "-1-1":
        images = images * 2.0 - 1.0
    return tf.cast(images, dtype)


def detect_range(encoder: Any, image: Any) -> InputRange | None:
    """Return the range that an encoder's first layers want, None where they do not say it with certainty."""
    try:
        scale, offset = _first_arithmetic(encoder, image)
    except Exception:  # code of the user that cannot be traced by layers: it says nothing
        log.debug("The encoder's first layers cannot be traced.", exc_info=True)
        return None
    return _wanted(scale, offset)


def _wanted(scale: npt.NDArray[Any], offset: npt.NDArray[Any]) -> InputRange | None:
    """Tell from `scale * pixel + offset`, by channel, what pixels are meant."""
    if not np.all(np.isfinite(scale) & (scale != 0)) or _alike(scale, 1) and _alike(offset, 0):
        return None
    # Where the result is 0, and how far from there it is 1: for a Normalization, the pixels' mean and deviation.
    center, width = -offset / scale, 1 / np.abs(scale)
    if np.all(center > 2) or np.all(width > 4):
        return "0-255"
    at = {value: scale * value + offset for value in (-1, 0, 1)}
    if _alike(at[-1], 0) and (_alike(at[1], 1) or _alike(at[1], 255)):
        return "-1-1"
    if _alike(at[1], 1) and _alike(at[0], -1) or _alike(at[1], 255) and _alike(at[0], 0):
        return "0-1"
    standardised = np.all((center < -0.1) & (center > -0.9) & (width < 1))
    return "-1-1" if standardised else None


def _alike(values: npt.NDArray[Any], wanted: float) -> bool:
    return bool(np.all(np.abs(values - wanted) <= 0.01 * max(1.0, abs(wanted))))


def _first_arithmetic(model: Any, image: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return factor and summand, by channel, of the arithmetic that stands before everything else."""
    graph = keras.Model(image, model.call(image))
    (start,) = graph.inputs
    tensor, following = start, _only_consumer(graph, start)
    while following is not None and _is_arithmetic(following.operation):
        (tensor,) = following.outputs
        following = _only_consumer(graph, tensor)
    probes = np.broadcast_to(np.array([0.0, 0.5, 1.0], np.float32)[:, None, None, None], (3, *start.shape[1:]))
    answers = tf.cast(keras.Model(start, tensor)(tf.cast(probes, start.dtype), training=False), tf.float64)
    zero, half, one = answers.numpy()[:, tensor.shape[1] // 2, tensor.shape[2] // 2]
    if not np.allclose(half, (zero + one) / 2, rtol=1e-2, atol=1e-4):
        raise ValueError("the first layers are not affine")
    inner = following.operation if following is not None else None
    if isinstance(inner, keras.Model) and _alike(one - zero, 1) and _alike(zero, 0):
        return _first_arithmetic(inner, keras.Input(tensor.shape[1:], dtype=tensor.dtype))
    return one - zero, zero


def _only_consumer(graph: Any, tensor: Any) -> Any:
    """Return the node that alone takes a tensor, and nothing but it; None where there are several or none."""
    nodes = [node for operation in graph.operations for node in operation._inbound_nodes]
    taking = [node for node in nodes if any(taken is tensor for taken in node.input_tensors)]
    return taking[0] if len(taking) == 1 and len(taking[0].input_tensors) == 1 else None


def _is_arithmetic(operation: Any) -> bool:
    if isinstance(operation, keras.Model):  # a model of such layers alone, as for augmentation
        return all(map(_is_arithmetic, getattr(operation, "operations", None) or operation.layers))
    name = type(operation).__name__
    ours = type(operation).__module__.startswith("keras.")
    return ours and (name in _AFFINE | _NEUTRAL or name.startswith("Random"))
