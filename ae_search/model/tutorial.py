"""Architecture `tutorial`: the convolutional autoencoder of the Fashion-MNIST tutorial, layer by layer."""

from typing import Any

import keras
from keras import layers

from ae_search.model.halving import crop_to, halvings

ENCODER_FILTERS = (16, 8, 8)
DECODER_FILTERS = (8, 8, 16)


def latent_dim(image_shape: tuple[int, int, int]) -> int:
    """Return the floats in a latent: 4 x 4 x 8 = 128 for 28 x 28 px."""
    rows, columns = halvings(image_shape[:2], len(ENCODER_FILTERS))[-1]
    return rows * columns * ENCODER_FILTERS[-1]


def encoder(image_shape: tuple[int, int, int]) -> Any:
    """Build the encoder: three 3x3 convolutions with ReLU and 2x2 max-pooling, flattened."""
    # === Functional Model ===
    image = keras.Input(image_shape, name="image")
    x = image
    for stage, filters in enumerate(ENCODER_FILTERS, start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{stage}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool_{stage}")(x)
    latents = layers.Flatten(name="latents")(x)
    return keras.Model(image, latents, name="encoder")


def decoder(image_shape: tuple[int, int, int]) -> Any:
    """Build the decoder: nearest-neighbour upsampling (4 → 7 → 14 → 28), 3x3 convolutions, one logit a pixel."""
    *sizes, (rows, columns) = halvings(image_shape[:2], len(ENCODER_FILTERS))

    # === Functional Model ===
    latents = keras.Input((latent_dim(image_shape),), name="latents")
    x = layers.Reshape((rows, columns, ENCODER_FILTERS[-1]), name="map")(latents)
    for stage, filters in enumerate(DECODER_FILTERS, start=1):
        x = layers.UpSampling2D(2, interpolation="nearest", name=f"upsample_{stage}")(x)
        x = crop_to(x, sizes[-stage], name=f"crop_{stage}")
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{stage}")(x)
    logits = layers.Conv2D(image_shape[2], 3, padding="same", name="logits")(x)
    return keras.Model(latents, logits, name="decoder")
