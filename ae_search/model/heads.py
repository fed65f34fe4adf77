"""The model that `fit` trains: encoder, decoder, and heads that only the training needs."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

HEAD_UNITS = 512
# Temperature of the softmax over similarities; the usual choice since SimCLR (Chen et al., 2020).
TEMPERATURE = 0.1

IMAGE = "image"
PARTNER = "partner"
PIXELS = "pixels"
GRADIENTS = "gradients"
COLOURS = "colours"
FEATURES = "features"
PARTNERS = "partners"
VIEW = "view"
VIEWS = "views"
KEPT = "kept"
CLASSES = "classes"


def build_head(latent_dim: int, floats: int, *, name: str) -> Any:
    """Build what the training alone needs: latents `[n, latent_dim]` to `[n, floats]`, through one hidden layer."""
    # === Functional Model ===
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(HEAD_UNITS, activation="relu", name="hidden")(latents)
    return keras.Model(latents, layers.Dense(floats, name="out")(x), name=name)


def build_trainer(
    encoder: Any,
    decoder: Any,
    heads: Mapping[str, Any],
    *,
    partners: bool,
    kept: bool = False,
    copies_from: int | None = None,
) -> Any:
    """Join encoder, decoder and heads into the functional model that is trained.

    Args:
        encoder: `[n, h, w, c]` to latents.
        decoder: Latents to logits `[n, h, w, c]`.
        heads: Further decoders and a classifier, by the name of their output.
        partners: Whether a second image for each image comes in, that is to have a similar latent.
        kept: Whether the latents themselves come out, to be held to those of the start.
        copies_from: From which float on latents are to be similar to those of an altered view of the same image; those
            before are compared with partners. None where all of them are.

    Returns:
        A functional `keras.Model`: inputs "image", maybe "partner" and maybe "view"; outputs by name: "pixels"
        (logits), one for each head, maybe "kept" (the latents), maybe "partners": `[n, n]`, the cosine of each image's
        latent with each partner's, divided by the temperature, and maybe "views", the same of the last floats and of
        the views. The right class of row i is i.
    """
    image = keras.Input(encoder.input_shape[1:], name=IMAGE)
    latents = encoder(image)
    inputs = {IMAGE: image}
    outputs = {PIXELS: decoder(latents), **{name: head(latents) for name, head in heads.items()}}
    if kept:
        outputs[KEPT] = layers.Identity(name=KEPT)(latents)
    if partners:
        inputs[PARTNER] = keras.Input(encoder.input_shape[1:], name=PARTNER)
        unit = layers.UnitNormalization(name="unit")
        kinds = [some if copies_from is None else some[:, :copies_from] for some in (latents, encoder(inputs[PARTNER]))]
        outputs[PARTNERS] = Similarities(name=PARTNERS)([unit(part) for part in kinds])
    if copies_from is not None:
        inputs[VIEW] = keras.Input(encoder.input_shape[1:], name=VIEW)
        unit = layers.UnitNormalization(name="unit_part")
        parts = [unit(some[:, copies_from:]) for some in (latents, encoder(inputs[VIEW]))]
        outputs[VIEWS] = Similarities(name=VIEWS)(parts)
    return keras.Model(inputs, outputs, name="trainer")


class Similarities(layers.Layer):
    """The product of each vector of one batch with each of another: `[n, d]` and `[n, d]` to `[n, n]`."""

    def call(self, pair: list[Any]) -> Any:
        """Return the cosines of unit vectors, divided by the temperature."""
        ours, theirs = pair
        return keras.ops.matmul(ours, keras.ops.transpose(theirs)) / TEMPERATURE

    def compute_output_shape(self, shapes: list[tuple[int | None, int]]) -> tuple[int | None, int | None]:
        """Return `[n, n]`, n being unknown."""
        return shapes[0][0], shapes[1][0]
