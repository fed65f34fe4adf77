"""What an encoder with a backbone measures of an image: the features of several looks at it, and its colours."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from ae_search.model.histograms import OrientedGradients
from ae_search.model.hsv_histogram import HsvHistogram, hsv_floats

Size = tuple[int, int]

# The share of each side around the centre that the third look shows: in images that are larger than what the backbone
# takes by as much, pixel by pixel. A centre that was enlarged finds far less.
CENTRE = 0.7
# Share of each side, and whether left and right change places.
LOOKS = ((1.0, False), (1.0, True), (CENTRE, False))
# Numbers far below those of a unit vector of thousands.
STEEPEST = 1e-6
# Histograms are made of images of this side: more pixels say the same, and take memory.
HISTOGRAM_SIDE_PX = 112
COLOUR_FLOATS = hsv_floats()


def size_for(backbone: Size) -> Size:
    """Return the size of the images whose central look has the size that a backbone takes."""
    height, width = backbone
    return round(height / CENTRE), round(width / CENTRE)


def central_size(images: Size) -> Size:
    """Return the size of the central look at images: the other way round."""
    height, width = images
    return round(height * CENTRE), round(width * CENTRE)


@keras.saving.register_keras_serializable(package="ae_search")
class Look(layers.Layer):
    """A part of an image around its centre, in another size: `[n, h, w, c]` to `[n, *size, c]`. It learns nothing.

    Keras has layers for cropping and resizing, but behind them whole models run as if they trained, unless told
    otherwise (seen on 3.15).

    Args:
        size: Height and width in px of what is returned.
        share: How much of each side is seen, in (0, 1].
        mirrored: Whether left and right change places.
        **kwargs: Those of every Keras layer.
    """

    def __init__(self, size: Size, share: float = 1.0, mirrored: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.share, self.mirrored = (int(size[0]), int(size[1])), share, mirrored

    def call(self, images: Any) -> Any:
        """Return what is seen; larger images are averaged, smaller ones interpolated."""
        height, width = images.shape[1:3]
        rows, columns = round(height * self.share), round(width * self.share)
        top, left = (height - rows) // 2, (width - columns) // 2
        seen = images[:, top : top + rows, left : left + columns]
        if (rows, columns) != self.size:
            seen = tf.image.resize(seen, self.size, antialias=True)
        return seen[:, :, ::-1] if self.mirrored else seen

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `[n, *size, c]`."""
        return shape[0], *self.size, shape[3]

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made from again."""
        config: dict[str, Any] = super().get_config()
        return config | {"size": self.size, "share": self.share, "mirrored": self.mirrored}


def features_of(image: Any, backbone: Any) -> list[Any]:
    """Return the features `[n, f]` of each look.

    Args:
        image: Symbolic, `[n, h, w, 3]` in [0, 1].
        backbone: Images of its own size to features.
    """
    size = backbone.input_shape[1:3]
    looks = [Look(size, *look, dtype="float32", name=f"look_{at}")(image) for at, look in enumerate(LOOKS)]
    return [backbone(look) for look in looks]


def histograms_of(image: Any) -> list[Any]:
    """Return the histograms of an image's hues, `[n, 512]`, and of its gradients, `[n, 392]`.

    Args:
        image: Symbolic, `[n, h, w, 3]` in [0, 1].
    """
    side = min(HISTOGRAM_SIDE_PX, *image.shape[1:3])
    small = Look((side, side), dtype="float32", name="small_for_histograms")(image)
    of = (HsvHistogram(dtype="float32", name="colours"), OrientedGradients(dtype="float32", name="gradients"))
    return [histogram(small) for histogram in of]


@keras.saving.register_keras_serializable(package="ae_search")
class SignedRoot(layers.Layer):
    """The square root of each number, of its size where it is negative, with its sign. It learns nothing."""

    def call(self, values: Any) -> Any:
        """Return the roots; near 0 they are flattened, or their slope would have no end."""
        return values / tf.sqrt(tf.abs(values) + STEEPEST)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the same shape."""
        return shape


def combined(features: list[Any], histograms: list[Any]) -> Any:
    """Return the vector that the latents are made of: the rooted sum of unit features, beside the histograms.

    Each has length 1. Roots keep the few strongest of the features, as those of a large background, from outweighing
    all others.

    Args:
        features: Those of each look, `[n, f]`.
        histograms: Those of hues `[n, 512]` and of gradients `[n, 392]`.
    """
    unit = layers.UnitNormalization(dtype="float32", name="unit")
    seen = unit(layers.Add(dtype="float32", name="looks")([unit(one) for one in features]))
    rooted = unit(SignedRoot(dtype="float32", name="roots")(seen))
    return layers.Concatenate(dtype="float32", name="together")([rooted, *(unit(one) for one in histograms)])
