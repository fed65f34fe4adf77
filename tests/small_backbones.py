"""Backbones of a few layers, as users bring them in files."""

import keras
from keras import layers


def convolutions(*, side_px=32, channels=3, pooled=False, scaled=True, dtype="float32", name=None):
    """A network of two convolutions, without and with a mean of its maps; seeded."""
    keras.utils.set_random_seed(3)
    image = keras.Input((side_px, side_px, channels), dtype=dtype, name=name)
    x = layers.Rescaling(1 / 127.5, -1.0, name="scale")(image) if scaled else image
    for at, filters in enumerate((8, 16)):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", name=f"conv_{at}")(x)
        x = layers.BatchNormalization(name=f"norm_{at}")(x)
        x = layers.ReLU(name=f"relu_{at}")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x) if pooled else x)


def saved(model, path):
    """Save a model, and return its path as text."""
    model.save(path)
    return str(path)
