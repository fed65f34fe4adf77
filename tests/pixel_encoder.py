"""A real encoder without a model: the latents are the pixels, in an order that depends on the version."""

import asyncio
import dataclasses
import io

import numpy as np
from PIL import Image

from ae_search.contract import ModelCard
from ae_search.errors import ImageError, ModelNotServedError

CARD = ModelCard(name="pixels", version=2, fingerprint="ab" * 32, image_shape=(2, 2, 1), latent_dim=4)
OTHER = "ef" * 32


def at(version, fingerprint=CARD.fingerprint):
    return {version: dataclasses.replace(CARD, version=version, fingerprint=fingerprint)}


class PixelEncoder:
    """Serves the versions of `cards`; latents of the fingerprint `OTHER` are the pixels in reverse."""

    def __init__(self, cards, version=None):
        self.cards, self.version = cards, version

    def describe(self):
        version = self.version or max(self.cards, default=0)
        if version not in self.cards:
            raise ModelNotServedError(f"no version {version}")
        return self.cards[version]

    def at_version(self, version):
        return PixelEncoder(self.cards, version)

    def encode(self, images):
        step = -1 if self.describe().fingerprint == OTHER else 1
        return np.asarray(images, np.float32).reshape(-1, 4)[:, ::step] / 255.0

    def encode_files(self, files, *, on_bad=None):
        pixels = []
        for position, file in enumerate(files):
            try:
                pixels.append(_pixels(file))
            except OSError as error:
                if on_bad is None:
                    raise ImageError(str(error)) from error
                on_bad(position, ImageError("it cannot be decoded"))
        return self.encode(np.array(pixels).reshape(-1, 4))


def _pixels(file):
    if isinstance(file, bytes) and len(file) == 4:
        return list(file)
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
        return np.asarray(picture.convert("L").resize((2, 2), Image.Resampling.BOX)).reshape(-1)


class AsyncPixelEncoder:
    """PixelEncoder for asyncio; `asked` counts the questions for a card, of all that share it."""

    def __init__(self, encoder, asked=None):
        self.encoder, self.asked = encoder, [0] if asked is None else asked

    def at_version(self, version):
        return AsyncPixelEncoder(self.encoder.at_version(version), self.asked)

    async def describe(self):
        self.asked[0] += 1
        await asyncio.sleep(0.01)
        return self.encoder.describe()

    async def encode(self, images):
        await asyncio.sleep(0)
        return self.encoder.encode(images)

    async def encode_files(self, files, *, on_bad=None):
        await asyncio.sleep(0)
        return self.encoder.encode_files(files, on_bad=on_bad)
