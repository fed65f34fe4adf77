"""The encoder, the decoder, and decoder(encoder(image)), for each architecture by its name."""

from typing import Any, Literal, get_args

import keras

from ae_search.model import conv, gradients, tutorial

Architecture = Literal["gradients", "conv", "tutorial"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
DEFAULT_LATENT_DIM = 128


def build_encoder(
    image_shape: tuple[int, int, int],
    *,
    architecture: Architecture = "gradients",
    latent_dim: int | None = None,
    parts: bool = False,
    learned_copies: bool = False,
    patches: int = 0,
) -> Any:
    """Build the encoder submodel.

    Args:
        image_shape: Height and width in px, channels.
        architecture: "gradients" (histograms of gradients and colours, coarse pixels, dense layers), "conv" (strided
            convolutions, dense latent) or "tutorial" (the Fashion-MNIST tutorial's).
        latent_dim: Floats in a latent, 128 where nothing is said. `tutorial` fixes its own: an eighth of each side,
            times 8.
        parts: Whether the latents have a part that tells copies, see `parts`; for "gradients", and 16 floats or more.
        learned_copies: Whether that part is trained.
        patches: Typical patches that are looked for beside the gradients; for "gradients", and grey images.

    Returns:
        A functional `keras.Model` "encoder": `[n, h, w, c]` in [0, 1] to latents `[n, latent_dim]`.

    Raises:
        ValueError: The architecture is unknown, or `latent_dim` is not the one that `tutorial` has.
    """
    dim = latent_dim_of(image_shape, architecture, latent_dim)
    if architecture == "tutorial":
        return tutorial.encoder(image_shape)
    if architecture == "conv":
        return conv.encoder(image_shape, dim)
    return gradients.encoder(image_shape, dim, parts=parts, learned_copies=learned_copies, patches=patches)


def build_decoder(
    image_shape: tuple[int, int, int], *, architecture: Architecture = "gradients", latent_dim: int | None = None
) -> Any:
    """Build the decoder submodel that fits `build_encoder` with the same arguments.

    Returns:
        A functional `keras.Model` "decoder": latents `[n, latent_dim]` to logits `[n, h, w, c]`, one a pixel value.
    """
    dim = latent_dim_of(image_shape, architecture, latent_dim)
    if architecture == "tutorial":
        return tutorial.decoder(image_shape)
    return conv.decoder(image_shape, dim)


def build_autoencoder(encoder: Any, decoder: Any) -> Any:
    """Join both submodels: `decoder(encoder(image))`.

    Returns:
        A functional `keras.Model` "autoencoder": images `[n, h, w, c]` to logits of the same shape.
    """
    image = keras.Input(encoder.input_shape[1:], name="image")
    return keras.Model(image, decoder(encoder(image)), name="autoencoder")


def latent_dim_of(image_shape: tuple[int, int, int], architecture: Architecture, latent_dim: int | None = None) -> int:
    """Return the floats in a latent, checking what was asked for.

    Raises:
        ValueError: The architecture is unknown or has another latent size than `latent_dim`.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {ARCHITECTURES}. Received: architecture={architecture!r}")
    if architecture != "tutorial":
        return DEFAULT_LATENT_DIM if latent_dim is None else latent_dim
    fixed = tutorial.latent_dim(image_shape)
    if latent_dim not in (None, fixed):
        raise ValueError(
            f"The tutorial architecture has {fixed} floats in a latent for images of {image_shape}. "
            f"Received: latent_dim={latent_dim}"
        )
    return fixed
