"""A Keras encoder of whatever kind as a function from float images in [0, 1] to float32 latents."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ae_search.contract import MAX_IMAGE_VALUES, MAX_LATENT_DIM
from ae_search.errors import ConfigurationError
from ae_search.model.failures import said_as
from ae_search.model.input_range import FLOATS, INTEGERS, InputRange, choose_range, to_range

Shape = tuple[int, int, int]
OpenShape = tuple[int | None, int | None, int | None]

_ADVICE = {4: "add Flatten or GlobalAveragePooling2D", 3: "add Flatten or GlobalAveragePooling1D"}


@dataclass(frozen=True)
class AdaptedEncoder:
    """An encoder that was looked at, and what it takes.

    Attributes:
        model: The Keras model.
        image_shape: `(h, w, c)`.
        latent_dim: Floats of a latent.
        dtype: Dtype of the images that the model takes.
        input_range: Range of their values.
        key: The name of the input, where the model takes a dict of one.
    """

    model: Any
    image_shape: Shape
    latent_dim: int
    dtype: str
    input_range: InputRange
    key: str | None

    @classmethod
    def of(cls, model: Any, image_shape: Shape | None, input_range: InputRange | None) -> "AdaptedEncoder":
        """Look at a model.

        Args:
            model: The Keras model, which is built if it was not.
            image_shape: `(h, w, c)`, where the model leaves them open.
            input_range: Range of the values it wants, None for what can be found out.

        Raises:
            ConfigurationError: It does not map one image input to one output of vectors.
        """
        shape = _image_shape(declared_shape(model), image_shape)
        dtype, key = _input_dtype(model), _input_key(model)
        tensor = keras.Input(shape, dtype=dtype, name=key)
        image = {key: tensor} if key else tensor
        with said_as(ConfigurationError, f"The encoder cannot be called with one batch of {dtype} images {shape}"):
            latent_dim = _latent_dim(model(image, training=False), model)
        return cls(model, shape, latent_dim, dtype, choose_range(model, image, input_range), key)

    def __call__(self, images: Any) -> Any:
        """Return the latents, float32 `[n, d]`, of images, float32 `[n, h, w, c]` in [0, 1]."""
        return self.run(to_range(images, self.dtype, self.input_range))

    def run(self, values: Any) -> Any:
        """Return the latents, float32 `[n, d]`, of images that have the model's own dtype and range."""
        outputs = self.model({self.key: values} if self.key else values, training=False)
        (latents,) = keras.tree.flatten(outputs)
        return tf.cast(latents, tf.float32)


def declared_shape(model: Any) -> OpenShape:
    """Return the `(h, w, c)` that a model says it takes, None for what it leaves open.

    Raises:
        ConfigurationError: It is no model of one image input with any number of rows.
    """
    if not isinstance(model, keras.Model):
        raise ConfigurationError(f"The encoder must be a keras.Model. Received: {type(model).__name__}.")
    inputs = _inputs(model)
    if len(inputs) > 1:
        raise ConfigurationError(
            "The encoder must take one input, images [n, h, w, 1 or 3]. "
            f"Received: {len(inputs)} inputs, {_names(inputs)}."
        )
    if not inputs:  # a subclass, or layers without an Input; what it was built with is all there is
        with said_as(ConfigurationError, "The encoder does not say what it was built with"):
            built = model.get_build_config() or {}
        taken = tuple(built.get("input_shape") or (None,) * 4)
    else:
        taken = tuple(inputs[0].shape)
        if taken and taken[0] is not None:
            raise ConfigurationError(
                f"The encoder must take any number of images. Received: an Input for batches of {taken[0]}; "
                "make it without batch_size."
            )
    if len(taken) != 4:
        raise ConfigurationError(f"The encoder must take images [n, h, w, 1 or 3]. Received: input_shape={taken}.")
    return taken[1:]


def _inputs(model: Any) -> list[Any]:
    """Return the symbolic inputs of a functional or sequential model, none for others."""
    try:
        return list(model.inputs or [])
    except AttributeError:
        return []


def _input_dtype(model: Any) -> str:
    inputs = _inputs(model)
    dtype = str(inputs[0].dtype) if inputs else "float32"
    if dtype not in FLOATS + INTEGERS:
        raise ConfigurationError(
            f"The encoder must take images of {', '.join(FLOATS + INTEGERS)}. Received: an input of {dtype}."
        )
    return dtype


def _input_key(model: Any) -> str | None:
    structure = getattr(model, "input", None) if _inputs(model) else None
    return next(iter(structure)) if isinstance(structure, dict) else None


def _image_shape(takes: OpenShape, given: Shape | None) -> Shape:
    """Return the shape of the images, or say why this model cannot be exported with it."""
    height, width, channels = given or takes
    if takes[0] in (1, 3) and (takes[2] not in (1, 3, None) or (channels is None and takes[2] is None)):
        raise ConfigurationError(
            f"The encoder must take images with their channels last, [n, h, w, 1 or 3]. Received: (n, *{takes}), with "
            "channels first; put Permute((3, 1, 2)) behind an Input of (h, w, c)."
        )
    if takes[2] not in (1, 3, None):
        raise ConfigurationError(f"The encoder must take images [n, h, w, 1 or 3]. Received: (n, *{takes}).")
    if height is None or width is None or channels is None:
        raise ConfigurationError(
            f"The encoder leaves the shape of its images open; give --image-size HxW, or HxWxC "
            f"(image_shape=(h, w, c) in Python). Received: {takes}."
        )
    shape = (height, width, channels)
    if any(side not in (None, want) for side, want in zip(takes, shape, strict=True)):
        raise ConfigurationError(f"The encoder takes {takes}; give an --image-size that fits. Received: {shape}.")
    if channels not in (1, 3) or min(shape) < 1:
        raise ConfigurationError(f"Images must have sides of at least 1 px and 1 or 3 channels. Received: {shape}.")
    if math.prod(shape) > MAX_IMAGE_VALUES:
        raise ConfigurationError(
            f"Images may have {MAX_IMAGE_VALUES} values; more do not fit into a message. Received: {shape}."
        )
    return shape


def _latent_dim(outputs: Any, model: Any) -> int:
    """Return the floats of a latent, or say why what the model returns are no latents."""
    flat = keras.tree.flatten(outputs)
    if len(flat) != 1:
        raise ConfigurationError(
            f"The encoder must return one output, vectors [n, d]. Received: {len(flat)} outputs, {_names(outputs)}. "
            f"Make a model with one of them: {_with_one_output(outputs, model)}."
        )
    shape = tuple(flat[0].shape)
    if len(shape) != 2 or shape[1] is None:
        advice = _ADVICE.get(len(shape), "make it return vectors of a fixed length")
        raise ConfigurationError(f"The encoder must return vectors [n, d]; {advice}. Received: output_shape={shape}.")
    if flat[0].dtype.startswith(("complex", "string")) or not 1 <= math.prod(shape[1:]) <= MAX_LATENT_DIM:
        raise ConfigurationError(
            f"The encoder must return 1 to {MAX_LATENT_DIM} real numbers an image. "
            f"Received: output_shape={shape} of {flat[0].dtype}."
        )
    return int(shape[1])


def _with_one_output(outputs: Any, model: Any) -> str:
    if not _inputs(model):
        return "a keras.Model whose call returns it alone"
    which = repr(next(iter(outputs))) if isinstance(outputs, dict) else "0"
    return f"keras.Model(encoder.input, encoder.output[{which}])"


def _names(structure: Any) -> str:
    """Return the names in a structure of symbolic tensors: keys of dicts, else the tensors' own."""
    paths = keras.tree.flatten_with_path(structure)
    keys = [
        ".".join(map(str, path)) if any(isinstance(key, str) for key in path) else getattr(one, "name", one)
        for path, one in paths
    ]
    return ", ".join(map(str, keys)) or "none"
