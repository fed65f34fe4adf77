"""Architecture `gradients`: histograms of gradients and colours, coarse pixels, and dense layers on top of them."""

from typing import Any

import keras
from keras import layers

from ae_search.model.conv import MOMENTUM
from ae_search.model.histograms import CellMeans, ColourHistogram, OrientedGradients

HIDDEN_UNITS = 1024
# The layer whose outputs are all that is measured of an image.
MEASURED = "measured"


def encoder(image_shape: tuple[int, int, int], latent_dim: int) -> Any:
    """Build the encoder: `[n, h, w, c]` to `[n, latent_dim]`.

    The histograms are a strong representation before anything is learnt; the coarse pixels say what is bright, which
    gradients leave open. Latents are a sum of something linear in all of them and of what a hidden layer finds.
    """
    # === Functional Model ===
    image = keras.Input(image_shape, name="image")
    measures: list[Any] = [
        OrientedGradients(dtype="float32", name="gradients"),
        CellMeans(dtype="float32", name="cells"),
    ]
    if image_shape[2] == 3:
        measures.append(ColourHistogram(dtype="float32", name="colours"))
    x = layers.Concatenate(dtype="float32", name=MEASURED)([measure(image) for measure in measures])
    hidden = layers.Dense(HIDDEN_UNITS, use_bias=False, name="hidden")(x)
    hidden = layers.BatchNormalization(momentum=MOMENTUM, name="norm")(hidden)
    hidden = layers.ReLU(name="relu")(hidden)
    latents = layers.Dense(latent_dim, name="latents")(layers.Concatenate(name="both")([hidden, x]))
    return keras.Model(image, latents, name="encoder")
