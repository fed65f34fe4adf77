"""Centre and scale latents after the training, by weights alone: the autoencoder answers as before."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.principal import principal_axes

# Directions of a smaller share of the largest eigenvalue hardly vary: they count like the least of the others, for few
# images leave some without any variance, and blown up, those would outweigh all else in images that come later.
LEAST_SHARE = 1e-6


def scale_latents(autoencoder: Any, latents: npt.NDArray[np.float32]) -> None:
    """Turn latents to their principal components, centred and scaled by eigenvalue^-1/4: half way to whitening.

    The change is folded into the encoder's last layer, and its inverse into those of the decoder that latents enter.

    Args:
        autoencoder: Has the layers "encoder", whose last layer "latents" is dense, and "decoder", whose dense layers
            "expand" and "straight" take the latents. Its weights change.
        latents: Float32 `[n, d]` of the images that it was trained on.
    """
    found = principal_axes(latents)
    mean, axes, scales = found.mean, found.axes, found.scales(LEAST_SHARE)
    there, back = axes * scales, (axes / scales).T
    last = autoencoder.get_layer("encoder").get_layer("latents")
    kernel, bias = last.get_weights()
    last.set_weights([kernel @ there, (bias - mean) @ there])
    for name in ("expand", "straight"):
        first = autoencoder.get_layer("decoder").get_layer(name)
        kernel, bias = first.get_weights()
        first.set_weights([back @ kernel, bias + mean @ kernel])
