"""A tiny model with all of the contract's signatures, exported in a second."""

import math
from pathlib import Path

TINY_IMAGE_SHAPE = (16, 16, 3)
TINY_LATENT_DIM = 8


def write_tiny_model(
    base_path: Path | str,
    *,
    image_shape: tuple[int, int, int] = TINY_IMAGE_SHAPE,
    latent_dim: int = TINY_LATENT_DIM,
    seed: int = 1,
) -> Path:
    """Export a seeded linear encoder and decoder as the next version of a model; nothing is trained.

    Images that are alike have latents that are alike. Another seed is another model. What latents are decoded to is
    an image and no more.

    Args:
        base_path: Folder with the version folders; its name is the model's. Made where it is missing.
        image_shape: `(h, w, c)` px, c being 1 or 3; files of any size are resized to it.
        latent_dim: Floats of a latent, at least 1.
        seed: Seed of the weights.

    Returns:
        The version folder.

    Raises:
        ConfigurationError: `base_path` cannot be written.
    """
    import keras

    from ae_search.export import export_encoder

    images = keras.Input(image_shape, name="images")
    pixels = keras.layers.Flatten(name="pixels")(images)
    weights = keras.initializers.RandomNormal(seed=seed)
    latents = keras.layers.Dense(latent_dim, use_bias=False, kernel_initializer=weights, name="latents")(pixels)
    given = keras.Input((latent_dim,), name="latents")
    back = keras.initializers.RandomNormal(seed=seed)
    logits = keras.layers.Dense(math.prod(image_shape), kernel_initializer=back, name="logits")(given)
    decoder = keras.Model(given, keras.layers.Reshape(image_shape)(logits), name="decoder")
    return export_encoder(keras.Model(images, latents, name="tiny"), Path(base_path), decoder=decoder)
