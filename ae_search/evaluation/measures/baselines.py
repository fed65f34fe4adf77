"""What our latents stand beside: pixels, their components, gradients, colours, and a network that learned nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from ae_search.principal import HALF_WHITE, fit_components
from ae_search.views import Pixels

# Photographs are compared at the model's size, at most this.
MAX_SIDE_PX = 64

_IMAGES_PER_BATCH = 256


@dataclass(frozen=True)
class Baseline:
    """A representation, fitted to the images of the index; its vectors are compared by cosine similarity.

    Attributes:
        name: What to call it.
        floats: Numbers in one vector.
        vectors: Turns uint8 images `[n, h, w, c]` into vectors `[n, floats]`, float32 or uint8.
    """

    name: str
    floats: int
    vectors: Callable[[Pixels], npt.NDArray[Any]]


def fit_baselines(images: Pixels, latent_dim: int, *, seed: int) -> Iterator[Baseline]:
    """Fit one baseline after the other, each as large as a latent but for the pixels themselves.

    Grey images have no row of colours. The components of colours are not scaled: they find more as they are.

    Args:
        images: The images of the index, uint8 `[n, h, w, c]`, n at least 1.
        latent_dim: Floats in a latent; principal components are as many, or as many as there are.
        seed: Seed of the random encoder, and of the search for principal components.
    """
    yield Baseline("pixels", int(np.prod(images.shape[1:])), _flat)
    yield _principal("pixels, PCA", _flat_brightness, images, latent_dim=latent_dim, seed=seed)
    yield _principal("gradients, PCA", gradients, images, latent_dim=latent_dim, seed=seed)
    if images.shape[3] == 3:
        yield _principal("colours (HSV), PCA", colours, images, latent_dim=latent_dim, seed=seed, power=0.0)
    yield random_encoder(images.shape[1:], latent_dim, seed)


def gradients(images: Pixels) -> Latents:
    """Return histograms of oriented gradients, float32 `[n, 392]`, of uint8 images `[n, h, w, c]`."""
    from ae_search.model.histograms import oriented_gradients

    return np.asarray(oriented_gradients(_brightness(images)), np.float32)


def colours(images: Pixels) -> Latents:
    """Return histograms of hue, saturation and value, float32 `[n, 512]`, of uint8 images `[n, h, w, 3]`."""
    from ae_search.model.hsv_histogram import hsv_histogram

    return np.asarray(hsv_histogram(_brightness(images)), np.float32)


def random_encoder(image_shape: tuple[int, int, int], latent_dim: int, seed: int) -> Baseline:
    """Return an encoder of the default architecture with random weights.

    Sets the seeds of Python, NumPy and TensorFlow, which Keras draws weights by.
    """
    import keras

    from ae_search.model import build_encoder

    keras.utils.set_random_seed(seed)
    encoder = build_encoder(image_shape, latent_dim=latent_dim)

    def encode(images: Pixels) -> Latents:
        return np.asarray(keras.ops.convert_to_numpy(encoder(_brightness(images), training=False)), np.float32)

    return Baseline("untrained encoder", latent_dim, _by_batches(encode))


def _flat(images: Pixels) -> Pixels:
    return images.reshape(len(images), -1)


def _flat_brightness(images: Pixels) -> Latents:
    return _brightness(_flat(images))


def _brightness(images: Pixels) -> Latents:
    """Return values in [0, 1]."""
    return np.asarray(images, np.float32) / np.float32(255)


def _principal(
    name: str,
    vectors: Callable[[Pixels], Latents],
    images: Pixels,
    *,
    latent_dim: int,
    seed: int,
    power: float = HALF_WHITE,
) -> Baseline:
    """Fit principal components to what `vectors` makes of the images."""

    def blocks() -> Iterator[Latents]:
        return map(vectors, _batches(images))

    components = fit_components(blocks, min(latent_dim, len(images)), seed=seed, power=power)
    return Baseline(name, components.axes.shape[1], _by_batches(lambda batch: components.of(vectors(batch))))


def _batches(images: Pixels) -> Iterator[Pixels]:
    return (images[start : start + _IMAGES_PER_BATCH] for start in range(0, len(images), _IMAGES_PER_BATCH))


def _by_batches(vectors: Callable[[Pixels], Latents]) -> Callable[[Pixels], Latents]:
    """Return the same for any number of images, a few of them at a time."""
    return lambda images: np.concatenate([vectors(batch) for batch in _batches(images)])
