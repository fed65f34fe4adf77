"""SimCLR (Chen et al., 2020) as a baseline: views of one image are to be alike, those of others are not."""

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from ae_search.model import build_encoder

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]

LATENT_DIM = 128
PROJECTED = 64
BATCH_SIZE = 256
LEARNING_RATE = 1e-3
TEMPERATURE = 0.1
# Share of the area that a crop keeps, at least.
LEAST_AREA = 0.6
BLOCK = 1000
# No similarity of an image with itself.
NEVER = -1e9


@dataclass(frozen=True)
class SimClr:
    """A trained encoder.

    Attributes:
        encoder: Images in [0, 1] to latents `[n, 128]`, before the projection, as is usual.
        epochs: Epochs that it was trained for, the last one in part.
        seconds: Wall time of `fit`.
    """

    encoder: Any
    epochs: float
    seconds: float

    def latents(self, pixels: Pixels) -> Vectors:
        """Return the latents of uint8 images `[n, h, w, c]`."""
        blocks = (pixels[start : start + BLOCK] for start in range(0, len(pixels), BLOCK))
        return np.concatenate([self.encoder.predict_on_batch(block / np.float32(255)) for block in blocks])


class Alike(layers.Layer):
    """Similarities of all views with each other, none with itself: unit vectors, twice `[n, d]`, to `[2n, 2n]`."""

    def call(self, pair: list[Any]) -> Any:
        """Return cosines, divided by the temperature."""
        both = keras.ops.concatenate(pair)
        alike = keras.ops.matmul(both, keras.ops.transpose(both)) / TEMPERATURE
        return alike + NEVER * tf.eye(tf.shape(both)[0])

    def compute_output_shape(self, shapes: list[tuple[int | None, int]]) -> tuple[int | None, int | None]:
        """Return `[2n, 2n]`, n being unknown."""
        return None, None


class _ForSeconds(keras.callbacks.Callback):
    """Ends the training after some seconds; until then the learning rate falls along a cosine of the time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.began, self.batches = seconds, 0.0, 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches += 1
        spent = min(1.0, (time.perf_counter() - self.began) / self.seconds)
        self.model.optimizer.learning_rate.assign(LEARNING_RATE * 0.5 * (1.0 + np.cos(np.pi * spent)))
        self.model.stop_training = spent >= 1.0


def train_simclr(pixels: Pixels, seconds: float, *, seed: int) -> SimClr:
    """Train the convolutional encoder of the package for some seconds, by views alone: flips and crops of 60 to 100 %.

    Args:
        pixels: uint8 `[n, h, w, c]`.
        seconds: Wall time of `fit`.
        seed: Seed of weights, shuffle and views.
    """
    keras.utils.set_random_seed(seed)
    encoder = build_encoder(pixels.shape[1:], architecture="conv", latent_dim=LATENT_DIM)
    model = _with_projection(encoder, pixels.shape[1:])
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images = tf.data.Dataset.from_tensor_slices(pixels).shuffle(len(pixels), seed=seed).repeat()
    steps, limit = max(1, len(pixels) // BATCH_SIZE), _ForSeconds(seconds)
    began = time.perf_counter()
    model.fit(
        images.batch(min(BATCH_SIZE, len(pixels))).map(_example, tf.data.AUTOTUNE).prefetch(2),
        steps_per_epoch=steps,
        epochs=100_000,
        shuffle=False,  # the dataset shuffles
        verbose=0,
        callbacks=[limit],
    )
    return SimClr(encoder, limit.batches / steps, time.perf_counter() - began)


def _with_projection(encoder: Any, image_shape: tuple[int, ...]) -> Any:
    one, other = (keras.Input(image_shape, name=name) for name in ("one", "other"))
    # === Functional Model ===
    latents = keras.Input((LATENT_DIM,))
    x = layers.Dense(LATENT_DIM, activation="relu")(latents)
    projection = keras.Model(latents, layers.UnitNormalization()(layers.Dense(PROJECTED)(x)))
    return keras.Model([one, other], Alike()([projection(encoder(one)), projection(encoder(other))]))


def _example(images: Any) -> tuple[tuple[Any, Any], Any]:
    images, count = tf.cast(images, tf.float32) / 255.0, tf.shape(images)[0]
    # The right answer for a view is the other view of its image.
    return (_view(images), _view(images)), tf.roll(tf.range(2 * count), count, 0)


def _view(images: Any) -> Any:
    """Cut out 60 to 100 % of the area of each image anywhere, resize it to the whole, and mirror half of them."""
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    side = tf.sqrt(tf.random.uniform((count,), LEAST_AREA, 1.0))
    top, left = (tf.random.uniform((count,)) * (1.0 - side) for _ in range(2))
    mirrored = tf.random.uniform((count,)) < 0.5
    right = left + side
    boxes = tf.stack([top, tf.where(mirrored, right, left), top + side, tf.where(mirrored, left, right)], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(count), (height, width))
