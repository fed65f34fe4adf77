"""The networks of `keras.applications`: what size of images each is made for, and what it was trained on."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, Literal, NamedTuple

import keras

from ae_search.errors import ConfigurationError
from ae_search.model.backbone.feeding import Feeding
from ae_search.model.failures import one_line

Weights = Literal["imagenet"] | None
# A network that swallows packets must not hang the command.
DOWNLOAD_TIMEOUT_S = 30.0


class Application(NamedTuple):
    """A network by its name.

    Attributes:
        side_px: Height and width of the images that it is made for.
        feeding: What its weights were trained on. Those fed 0-255 have layers of their own that do the rest.
    """

    side_px: int
    feeding: Feeding


# Test: `tests/model/test_applications.py` compares names, sizes and feeding with those of Keras itself.
APPLICATIONS: dict[str, Application] = {
    **{f"ConvNeXt{size}": Application(224, "0-255") for size in ("Tiny", "Small", "Base", "Large", "XLarge")},
    **{f"DenseNet{layers}": Application(224, "torch") for layers in (121, 169, 201)},
    **{
        f"EfficientNetB{number}": Application(side_px, "0-255")
        for number, side_px in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
    },
    **{
        f"EfficientNetV2B{number}": Application(side_px, "0-255") for number, side_px in enumerate((224, 240, 260, 300))
    },
    **{
        f"EfficientNetV2{size}": Application(side_px, "0-255") for size, side_px in (("S", 384), ("M", 480), ("L", 480))
    },
    **{name: Application(299, "-1-1") for name in ("InceptionResNetV2", "InceptionV3", "Xception")},
    **{name: Application(224, "-1-1") for name in ("MobileNet", "MobileNetV2", "NASNetMobile")},
    **{f"MobileNetV3{size}": Application(224, "0-255") for size in ("Large", "Small")},
    "NASNetLarge": Application(331, "-1-1"),
    **{f"ResNet{layers}": Application(224, "caffe") for layers in (50, 101, 152)},
    **{f"ResNet{layers}V2": Application(224, "-1-1") for layers in (50, 101, 152)},
    **{name: Application(224, "caffe") for name in ("VGG16", "VGG19")},
}


def load_application(name: str, size: tuple[int, int] | None, weights: Weights = "imagenet") -> Any:
    """Return a network without its classifier: images, fed as `APPLICATIONS` says, to vectors.

    Args:
        name: A name of `APPLICATIONS`.
        size: Height and width in px; None for those that it is made for.
        weights: "imagenet", which Keras downloads once, or None for random ones.

    Raises:
        ConfigurationError: It takes no images of that size, or its weights are not here and cannot be downloaded.
    """
    sides = size or (APPLICATIONS[name].side_px,) * 2
    build = getattr(keras.applications, name)
    options = {"include_top": False, "pooling": "avg", "input_shape": (*sides, 3)}
    try:
        # The bar of a download belongs to stderr, as all that is no result.
        with _download_timeout(), redirect_stdout(sys.stderr):
            return build(weights=weights, **options)
    except Exception as error:  # Keras, urllib, HDF5 and sockets each raise their own
        raise ConfigurationError(_refusal(name, sides, error)) from error


@contextmanager
def _download_timeout() -> Iterator[None]:
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def _refusal(name: str, sides: tuple[int, int], error: Exception) -> str:
    text = one_line(error).rstrip(".")
    if "size must be" in text:
        return f"{name} cannot take images of {sides[0]}x{sides[1]} px (--image-size): {text}."
    return (
        f"{name} cannot be had: {text}. Its weights are downloaded once, into ~/.keras/models (or KERAS_HOME); without "
        "a network, copy that folder from where there is one, or give a backbone in a .keras file. The names are "
        f"{', '.join(APPLICATIONS)}."
    )
