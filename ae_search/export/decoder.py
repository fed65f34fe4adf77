"""A Keras decoder as a function from latents to images in [0, 1], of the size that the encoder takes."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ae_search.errors import ConfigurationError
from ae_search.export.adapter import AdaptedEncoder, Shape
from ae_search.model.failures import said_as


@dataclass(frozen=True)
class AdaptedDecoder:
    """A decoder that was looked at.

    Attributes:
        model: The Keras model, from latents to logits.
        image_shape: `(h, w, c)` of what is returned; the model's own images may be smaller.
    """

    model: Any
    image_shape: Shape

    @classmethod
    def of(cls, model: Any, encoder: AdaptedEncoder) -> "AdaptedDecoder":
        """Look at a model.

        Args:
            model: The Keras model.
            encoder: The encoder whose latents it takes.

        Raises:
            ConfigurationError: It does not map those latents to images of as many channels.
        """
        if not isinstance(model, keras.Model):
            raise ConfigurationError(f"The decoder must be a keras.Model. Received: {type(model).__name__}.")
        latents = keras.Input((encoder.latent_dim,), name="latents")
        with said_as(ConfigurationError, f"The decoder cannot be called with latents of {encoder.latent_dim} floats"):
            outputs = keras.tree.flatten(model(latents, training=False))
        shapes = [tuple(one.shape) for one in outputs]
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != encoder.image_shape[2]:
            raise ConfigurationError(
                f"The decoder must return logits [n, h, w, {encoder.image_shape[2]}], one a pixel value. "
                f"Received: output_shape={shapes[0] if len(shapes) == 1 else shapes}."
            )
        return cls(model, encoder.image_shape)

    def __call__(self, latents: Any) -> Any:
        """Return the images, float32 `[n, h, w, c]` in [0, 1], of latents, float32 `[n, d]`."""
        (logits,) = keras.tree.flatten(self.model(latents, training=False))
        images = tf.sigmoid(tf.cast(logits, tf.float32))
        if tuple(images.shape[1:3]) != self.image_shape[:2]:
            images = tf.image.resize(images, self.image_shape[:2], antialias=True)
        return tf.clip_by_value(images, 0.0, 1.0)  # a resize overshoots by rounding
