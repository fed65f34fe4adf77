"""A backbone by its name or from a file, as a model from images in [0, 1] to vectors."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from ae_search.errors import ConfigurationError
from ae_search.model.backbone.applications import APPLICATIONS, Weights, load_application
from ae_search.model.backbone.feeding import IN_WORDS, Feeding, feed
from ae_search.model.failures import said_as
from ae_search.model.input_range import FLOATS, INPUT_RANGES, INTEGERS, InputRange, detect_range
from ae_search.model.keras_file import SUFFIX, load_keras_file

Size = tuple[int, int]
_ITS_LAYERS = "as its first layers want it"


@dataclass(frozen=True)
class Backbone:
    """A pretrained network, and what was found out about it.

    Attributes:
        name: Its name in `keras.applications`, or the path of its file.
        digest: Hex sha256 of its file, or of its weights where it was loaded by name.
        feeding: What it is fed, see `IN_WORDS`.
        why: Why, in words.
        model: Functional model "backbone": float32 `[n, h, w, 3]` in [0, 1] to features `[n, f]`. Nothing of it is
            trained, so that what it knows of means and deviations stays.
    """

    name: str
    digest: str
    feeding: Feeding
    why: str
    model: Any

    @property
    def fed(self) -> str:
        """What it is fed and why, in words."""
        return f"{IN_WORDS[self.feeding]}, {self.why}"

    @property
    def size(self) -> Size:
        """Height and width in px of what it takes."""
        height, width = self.model.input_shape[1:3]
        return height, width

    @property
    def floats(self) -> int:
        """Floats of its features."""
        return int(self.model.output_shape[1])


def load_backbone(
    which: str, *, size: Size | None = None, input_range: InputRange | None = None, weights: Weights = "imagenet"
) -> Backbone:
    """Load a backbone, and find out what it is fed.

    Args:
        which: A name in `keras.applications`, or the path of a `.keras` file that maps images to vectors, or to maps,
            whose mean is taken.
        size: Height and width in px of what it is to take, where it takes any size; None for its own.
        input_range: Range of the values that a file's network was trained on; None for what its first layers say.
        weights: None for random weights in a named one, for trials.

    Raises:
        ConfigurationError: There is no such backbone, its weights cannot be had, it does not map images in colour to
            vectors, or nothing says what it was trained on.
    """
    if which in APPLICATIONS:
        if input_range is not None:
            raise ConfigurationError(f"--input-range goes with a backbone in a file; what {which} is fed is known.")
        network, feeding = load_application(which, size, weights), APPLICATIONS[which].feeding
        sides, digest, why = _sides(network, which, size), _weights_digest(network), "as keras.applications trained it"
    else:
        path = _file(which)
        network = _checked(load_keras_file(path, "--backbone", otherwise="make it of Keras's own layers"), path)
        sides = _sides(network, which, size)
        feeding, why = _feeding(network, sides, path, input_range)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    model = _from_images(network, feeding, sides)
    return Backbone(which, digest, feeding, why, model)


def _file(which: str) -> Path:
    path = Path(which)
    if path.suffix == SUFFIX or path.is_file():
        return path
    raise ConfigurationError(
        f"--backbone takes a {SUFFIX} file, or one of these names of keras.applications: {', '.join(APPLICATIONS)}. "
        f"Received: {which}."
    )


def _checked(model: Any, path: Path) -> Any:
    """Return a model of a file with its one input and its one output bare, or say why it is no backbone."""
    takes = "The backbone must take images in colour [n, h, w, 3]"
    inputs, outputs = (keras.tree.flatten(getattr(model, name, None) or []) for name in ("inputs", "outputs"))
    if not inputs or not outputs:
        raise ConfigurationError(f"The backbone must be a functional or sequential model. Received: {path}.")
    if len(inputs) != 1 or len(outputs) != 1:
        raise ConfigurationError(
            f"{takes} and return one output. Received: {len(inputs)} inputs, {len(outputs)} outputs."
        )
    shape, dtype = tuple(inputs[0].shape), str(inputs[0].dtype)
    if len(shape) != 4 or shape[0] is not None or shape[3] != 3 or dtype not in FLOATS + INTEGERS:
        raise ConfigurationError(f"{takes}, any number of them. Received: input_shape={shape} of {dtype}.")
    out = tuple(outputs[0].shape)
    if len(out) not in (2, 4) or out[-1] is None or "float" not in str(outputs[0].dtype):
        raise ConfigurationError(
            "The backbone must return vectors [n, f], or maps [n, rows, columns, f], whose mean is taken. "
            f"Received: output_shape={out} of {outputs[0].dtype}."
        )
    weights = (keras.ops.convert_to_numpy(variable) for variable in model.weights)
    if not all(np.isfinite(values).all() for values in weights if np.issubdtype(values.dtype, np.floating)):
        raise ConfigurationError(f"{path} holds weights that are not finite; have it saved again, or take another.")
    return keras.Model(inputs[0], outputs[0], name="network")


def _feeding(network: Any, sides: Size, path: Path, asked: InputRange | None) -> tuple[Feeding, str]:
    """Return the range of values that a network of a file wants, and how that is known."""
    if asked is not None and asked not in INPUT_RANGES:
        raise ConfigurationError(f"--input-range must be one of {', '.join(INPUT_RANGES)}. Received: {asked}.")
    (tensor,) = network.inputs
    # Whole numbers can mean nothing else.
    whole = str(tensor.dtype) in INTEGERS
    found = "0-255" if whole else detect_range(network, keras.Input((*sides, 3), dtype=tensor.dtype))
    if asked is not None:
        if found not in (None, asked):
            if whole:
                raise ConfigurationError(f"{path} takes whole numbers, 0-255. Received: --input-range {asked}.")
            return asked, f"as --input-range says, though its first layers look as if they want {found}"
        return asked, "as --input-range says" if found is None else _ITS_LAYERS
    if found is None:
        raise ConfigurationError(
            f"Nothing in {path} says which pixel values it was trained on, and a wrong guess would spoil its features "
            f"in silence; give --input-range: {', '.join(INPUT_RANGES)}."
        )
    return found, _ITS_LAYERS


def _sides(network: Any, which: str, size: Size | None) -> Size:
    height, width = network.inputs[0].shape[1:3]
    if size is None and None in (height, width):
        raise ConfigurationError(f"The backbone {which} takes images of any size; give --image-size HxW.")
    wanted = size or (0, 0)
    return height or wanted[0], width or wanted[1]


def _from_images(network: Any, feeding: Feeding, sides: Size) -> Any:
    """Return a network behind what feeds it, and in front of the mean of its maps."""
    # === Functional Model ===
    image = keras.Input((*sides, 3), name="image")
    with said_as(ConfigurationError, f"The backbone cannot be called with images of {sides[0]}x{sides[1]} px"):
        features = network(feed(image, feeding, str(network.inputs[0].dtype)), training=False)
    if len(features.shape) == 4:
        features = layers.GlobalAveragePooling2D(name="pool")(features)
    features = layers.Activation("linear", dtype="float32", name="features")(features)
    model = keras.Model(image, features, name="backbone")
    model.trainable = False
    return model


def _weights_digest(network: Any) -> str:
    digest = hashlib.sha256()
    for variable in network.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
