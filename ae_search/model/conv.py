"""Architecture `conv`: strided convolutions with batch normalisation, a dense latent, sub-pixel blocks back."""

import math
from typing import Any

import keras
from keras import layers

from ae_search.model.halving import Size, crop_to, halvings

FILTERS = (32, 64, 128)
LARGEST_MAP_PX = 8
# Keras's 0.99 needs hundreds of batches to settle; a folder of 1,000 photographs has 8 an epoch.
MOMENTUM = 0.9
DECODER_UNITS = 512
# Floats in each cell of the decoder's map.
CELL_UNITS = 64


def stage_filters(size: Size) -> list[int]:
    """Return the filters of each halving: 32, 64, 128, then 128 until the map is at most 8 px a side."""
    stages = max(len(FILTERS), math.ceil(math.log2(max(size) / LARGEST_MAP_PX)))
    return [FILTERS[min(stage, len(FILTERS) - 1)] for stage in range(stages)]


def encoder(image_shape: tuple[int, int, int], latent_dim: int) -> Any:
    """Build the encoder: `[n, h, w, c]` to `[n, latent_dim]`."""
    # === Functional Model ===
    image = keras.Input(image_shape, name="image")
    x = image
    for stage, filters in enumerate(stage_filters(image_shape[:2]), start=1):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"conv_{stage}")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"norm_{stage}")(x)
        x = layers.ReLU(name=f"relu_{stage}")(x)
    x = layers.Flatten(name="flatten")(x)
    latents = layers.Dense(latent_dim, name="latents")(x)
    return keras.Model(image, latents, name="encoder")


def decoder(image_shape: tuple[int, int, int], latent_dim: int) -> Any:
    """Build the decoder: `[n, latent_dim]` to logits `[n, h, w, c]`.

    Dense layers make a small map, whose every cell then unfolds into a block of pixels, as in sub-pixel convolution
    (Shi et al., 2016): transposed convolutions at full size would take five times the encoder's time. A linear way
    past the hidden layer makes it learn sooner.
    """
    height, width, channels = image_shape
    stages = len(stage_filters((height, width)))
    block = 2**stages
    rows, columns = halvings((height, width), stages)[-1]

    # === Functional Model ===
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(DECODER_UNITS, activation="relu", name="expand")(latents)
    x = layers.Dense(rows * columns * CELL_UNITS, use_bias=False, name="cells")(x)
    x = layers.Add(name="both")([x, layers.Dense(rows * columns * CELL_UNITS, name="straight")(latents)])
    x = layers.Reshape((rows, columns, CELL_UNITS), name="map")(x)
    x = layers.Dense(block * block * channels, name="blocks")(x)
    x = layers.Reshape((rows, columns, block, block, channels), name="unfold")(x)
    x = layers.Permute((1, 3, 2, 4, 5), name="interleave")(x)
    x = layers.Reshape((rows * block, columns * block, channels), name="pixels")(x)
    logits = crop_to(x, (height, width), name="logits")
    return keras.Model(latents, logits, name="decoder")
