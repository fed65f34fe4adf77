"""Encoder and decoder submodels around a backbone.

What the backbone says of an image stays the same while it is frozen. Then the part from there to the latents is trained
alone, as an encoder of what was measured, and joined to the backbone when the training has ended.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from ae_search.model.autoencoder import build_autoencoder
from ae_search.model.backbone.looks import LOOKS, Look, combined, features_of, histograms_of
from ae_search.model.conv import MOMENTUM
from ae_search.model.gradients import HIDDEN_UNITS, MEASURED
from ae_search.model.histograms import GRADIENT_FLOATS
from ae_search.model.parts import in_parts

# Pixels are given back in at most this size: a backbone keeps what is to be seen, not its details.
LARGEST_RECONSTRUCTED_PX = 64


def reconstructed_shape(image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape in which the decoder gives images back, at most 64 px a side."""
    height, width, channels = image_shape
    block = math.ceil(max(height, width) / LARGEST_RECONSTRUCTED_PX)
    return -(-height // block), -(-width // block), channels


def measuring_model(backbone: Any, image_shape: tuple[int, int, int]) -> Any:
    """Build what measures an image: `[n, h, w, 3]` in [0, 1] to the vector that the latents are made of, `[n, m]`."""
    # === Functional Model ===
    image = keras.Input(image_shape, name="image")
    return keras.Model(image, combined(features_of(image, backbone), histograms_of(image)), name=MEASURED)


def observing_model(backbone: Any, image_shape: tuple[int, int, int]) -> Any:
    """Build what is kept of an image: the features of each look `[n, looks, f]`, two histograms, and small pixels.

    The histograms are those of `histograms_of`, colours first. The pixels are `[n, *reconstructed_shape]`, in [0, 1]
    but for rounding.
    """
    # === Functional Model ===
    image = keras.Input(image_shape, name="image")
    features = keras.ops.stack(features_of(image, backbone), axis=1)
    pixels = Look(reconstructed_shape(image_shape)[:2], dtype="float32", name="small")(image)
    return keras.Model(image, [features, *histograms_of(image), pixels], name="observing")


def combining_model(floats: int, histograms: Sequence[int]) -> Any:
    """Build the way from what is kept of an image to what is measured, `[n, m]`.

    Args:
        floats: Floats of the features `[n, looks, f]`.
        histograms: Floats of the histograms.
    """
    # === Functional Model ===
    features, told = keras.Input((len(LOOKS), floats)), [keras.Input((many,)) for many in histograms]
    return keras.Model([features, *told], combined([features[:, at] for at in range(len(LOOKS))], told))


def build_measured_encoder(floats: int, latent_dim: int, *, parts: bool) -> Any:
    """Build the encoder that is trained while the backbone is frozen: `[n, floats]`, measured, to latents."""
    # === Functional Model ===
    measured = keras.Input((floats,), name=MEASURED)
    return keras.Model(measured, _latents(measured, latent_dim, parts=parts), name="encoder")


def build_whole_encoder(measuring: Any, latent_dim: int, *, parts: bool) -> Any:
    """Build the encoder that is trained while some of the backbone is: images to latents.

    Args:
        measuring: What `measuring_model` returns.
        latent_dim: Floats in a latent.
        parts: Whether the latents have a part that tells copies.
    """
    # === Functional Model ===
    image = keras.Input(measuring.input_shape[1:], name="image")
    return keras.Model(image, _latents(measuring(image), latent_dim, parts=parts), name="encoder")


def join(measuring: Any, autoencoder: Any) -> Any:
    """Return an autoencoder of images `[n, h, w, 3]`, to logits of that shape, from one of what was measured.

    Args:
        measuring: What `measuring_model` returns.
        autoencoder: It has the layers "encoder", of images or of what was measured, and "decoder".
    """
    image = keras.Input(measuring.input_shape[1:], name="image")
    encoder, decoder = (autoencoder.get_layer(name) for name in ("encoder", "decoder"))
    if len(encoder.input_shape) == 2:
        encoder = keras.Model(image, encoder(measuring(image)), name="encoder")
    latents = keras.Input(decoder.input_shape[1:], name="latents")
    enlarged = Look(measuring.input_shape[1:3], dtype="float32", name="enlarged")(decoder(latents))
    return build_autoencoder(encoder, keras.Model(latents, enlarged, name="decoder"))


def _latents(measured: Any, latent_dim: int, *, parts: bool) -> Any:
    """Return a sum of something linear in all but the gradients, and of what a hidden layer finds in it.

    Gradients are for the part that tells copies, see `model.parts`.
    """
    measured, gradients = measured[:, :-GRADIENT_FLOATS], measured[:, -GRADIENT_FLOATS:]
    hidden = layers.Dense(HIDDEN_UNITS, use_bias=False, name="hidden")(measured)
    hidden = layers.BatchNormalization(momentum=MOMENTUM, name="norm")(hidden)
    hidden = layers.ReLU(name="relu")(hidden)
    both = layers.Concatenate(name="both")([hidden, measured])
    return in_parts(both, gradients, latent_dim) if parts else layers.Dense(latent_dim, name="latents")(both)
