"""An encoder without a model, and its decoder: latents are what a few waves explain of an image."""

from dataclasses import replace

import numpy as np

from ae_search.contract import ModelCard, latent_batch
from ae_search.image_file import image_pixels

SHAPE = (16, 16, 1)
COUNT = 300
_WAVES = 4


def _basis():
    """Orthonormal cosines of low frequency, `[d, h * w]`; the first is constant."""
    at = np.arange(SHAPE[0]) + 0.5
    lines = [np.cos(np.pi * wave * at / SHAPE[0]) for wave in range(_WAVES)]
    waves = [np.outer(one, other).ravel() for one in lines for other in lines]
    return np.stack([wave / np.linalg.norm(wave) for wave in waves]).astype(np.float32)


BASIS = _basis()
CARD = ModelCard("shapes", 1, "ab" * 32, SHAPE, len(BASIS), "euclidean", decodes=True)


class Shapes:
    def __init__(self, decodes=True):
        self.card = replace(CARD, decodes=decodes)

    def describe(self):
        return self.card

    def at_version(self, version):
        return self

    def encode(self, images):
        images = np.asarray(images)
        pixels = images / np.float32(255) if images.dtype == np.uint8 else images
        # One by one, so that latents do not depend on how many there are.
        rows = [BASIS @ one for one in pixels.reshape(-1, BASIS.shape[1])]
        return np.array(rows, np.float32).reshape(-1, len(BASIS))

    def encode_files(self, files, *, on_bad=None):
        return self.encode(np.stack([image_pixels(file, "image", SHAPE) for file in files]))

    def decode(self, latents):
        return np.clip(latent_batch(latents, self.card) @ BASIS, 0, 1).reshape(-1, *SHAPE)


class AsyncShapes:
    def __init__(self, encoder):
        self.encoder = encoder

    def at_version(self, version):
        return self

    async def describe(self):
        return self.encoder.describe()

    async def encode(self, images):
        return self.encoder.encode(images)

    async def encode_files(self, files, *, on_bad=None):
        return self.encoder.encode_files(files, on_bad=on_bad)

    async def decode(self, latents):
        return self.encoder.decode(latents)


def gratings(count, first=0):
    """Images that the waves explain but for a little noise, uint8 `[count, 16, 16, 1]`."""
    images = []
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        latent = rng.normal(0, [0.1, *[0.6] * 3, *[0.02] * (len(BASIS) - 4)])
        latent[0] += 8.0
        images.append(latent @ BASIS + rng.normal(0, 0.01, BASIS.shape[1]))
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8).reshape(-1, *SHAPE)


def noise(count, seed=0):
    """Each pixel black or white by chance, uint8 `[count, 16, 16, 1]`."""
    return np.random.default_rng(seed).integers(0, 2, (count, *SHAPE), np.uint8) * np.uint8(255)
