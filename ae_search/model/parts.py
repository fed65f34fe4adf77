"""Latents of two parts: one says what an image shows, the other which image it is.

What makes images of one kind alike is not what makes altered copies of one image alike. So one part is learned from
neighbours. The other begins as components of what noise, JPEG, text or a lack of colour hardly change, and either stays
that or learns from altered views of each image. Each part has a fixed length, so that a search can give them other
weights: it multiplies one part of the query.
"""

import math
from typing import Any

import keras
import tensorflow as tf
from keras import layers

KINDS = "kinds"
COPIES = "copies"
# Share of the floats that say what an image shows.
KINDS_SHARE = 5 / 8
# Length of the part that tells copies, where the other's is 1: it hardly changes what a plain search finds.
COPIES_LENGTH = 0.3
# The same for a trained part: whoever asks for it wants plain searches to find copies too.
LEARNED_LENGTH = 1.0
# Fewer floats are not worth dividing.
FEWEST_FLOATS = 16


def floats_of_kinds(latent_dim: int) -> int:
    """Return how many floats of a latent say what an image shows; the others tell copies."""
    return round(KINDS_SHARE * latent_dim)


def in_parts(known: Any, seen: Any, latent_dim: int, *, learned: bool = False) -> Any:
    """Return latents of two parts.

    Args:
        known: What the first part is made of, `[n, a]`.
        seen: What the second is made of, `[n, b]`.
        latent_dim: Floats of both, at least 16.
        learned: Whether the second part is trained.
    """
    kinds = layers.Dense(floats_of_kinds(latent_dim), name=KINDS)(known)
    copies = layers.Dense(latent_dim - kinds.shape[1], trainable=learned, name=COPIES)(seen)
    length = LEARNED_LENGTH if learned else COPIES_LENGTH
    return SideBySide(length, dtype="float32", name="latents")([kinds, copies])


def copies_from(encoder: Any) -> int | None:
    """Return from which float on the latents of an encoder tell copies; None where no part of them does."""
    if not (inside := getattr(encoder, "layers", [])):
        return None
    # Behind a frozen backbone, what was trained is a model within the encoder.
    return int(encoder.get_layer(KINDS).units) if isinstance(inside[-1], SideBySide) else copies_from(inside[-1])


@keras.saving.register_keras_serializable(package="ae_search")
class SideBySide(layers.Layer):
    """Both parts, each of its length: `[n, a]` and `[n, b]` to `[n, a + b]`. Nothing is learned.

    Args:
        copies_length: Length of the second part, where that of the first is 1.
        **kwargs: Those of every Keras layer.
    """

    def __init__(self, copies_length: float = COPIES_LENGTH, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.copies_length = copies_length

    def call(self, parts: list[Any]) -> Any:
        """Return the latents, of length sqrt(a + b); a part of zeros stays one."""
        kinds, copies = (tf.math.l2_normalize(part, axis=1) for part in parts)
        length = math.sqrt((kinds.shape[1] + copies.shape[1]) / (1.0 + self.copies_length**2))
        return tf.concat([length * kinds, (length * self.copies_length) * copies], axis=1)

    def compute_output_shape(self, shapes: list[tuple[int | None, int]]) -> tuple[int | None, int]:
        """Return `[n, a + b]`."""
        return shapes[0][0], shapes[0][1] + shapes[1][1]

    def get_config(self) -> dict[str, Any]:
        """Return what the layer is made from again."""
        config: dict[str, Any] = super().get_config()
        return config | {"copies_length": self.copies_length}
