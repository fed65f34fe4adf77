"""Architecture `gradients`: histograms of gradients and colours, and dense layers that learn on top of them."""

from typing import Any

import keras
from keras import layers

from ae_search.model.conv import MOMENTUM
from ae_search.model.histograms import ColourHistogram, OrientedGradients

HIDDEN_UNITS = 1024


def encoder(image_shape: tuple[int, int, int], latent_dim: int) -> Any:
    """Build the encoder: `[n, h, w, c]` to `[n, latent_dim]`.

    The histograms are a strong representation before anything is learnt. Latents are a sum of something linear in them
    and of what a hidden layer finds.
    """
    # === Functional Model ===
    image = keras.Input(image_shape, name="image")
    x = OrientedGradients(dtype="float32", name="gradients")(image)
    if image_shape[2] == 3:
        x = layers.Concatenate(name="histograms")([x, ColourHistogram(dtype="float32", name="colours")(image)])
    hidden = layers.Dense(HIDDEN_UNITS, use_bias=False, name="hidden")(x)
    hidden = layers.BatchNormalization(momentum=MOMENTUM, name="norm")(hidden)
    hidden = layers.ReLU(name="relu")(hidden)
    latents = layers.Dense(latent_dim, name="latents")(layers.Concatenate(name="both")([hidden, x]))
    return keras.Model(image, latents, name="encoder")
