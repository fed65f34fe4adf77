"""An index as a small shop has it: 150 pictures of six kinds, three of them almost the same."""

from dataclasses import replace

import numpy as np
from build_options import build_options
from grid_model import CARD, latents_of, seen
from pictures import coloured_picture, encoded
from PIL import Image

from ae_search.calibration import ViewsCalibration, calibrate, store
from ae_search.image_file import thumbnail
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.trust import remember

KINDS = ("bag", "boot", "coat", "dress", "shirt", "trainer")
ITEMS = 150
ALIKE = (20, 21, 22)


def almost(picture, seed):
    """Return a picture that is almost the same."""
    pixels = np.asarray(picture, np.int16)
    noise = np.random.default_rng(seed).integers(-6, 7, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def picture_of(number):
    """Return the picture of an item: those of `ALIKE` are almost the same."""
    own = coloured_picture(ALIKE[0] if number in ALIKE else number, (240, 180))
    return almost(own, number) if number in ALIKE else own


def key_of(number):
    return f"{KINDS[number % len(KINDS)]}/{number:03}.png"


class Shop:
    """The pictures, their latents by the model's first version, and the index of them.

    Attributes:
        index: Its folder.
        files: The pictures as PNG, by key.
        latents: float32 `[150, 48]`, in the order of the keys.
    """

    def __init__(self, folder, *, items=ITEMS, labels=lambda number: KINDS[number % len(KINDS)]):
        self.index = folder / "index"
        self.files = {key_of(number): encoded(picture_of(number)) for number in range(items)}
        self.latents = latents_of(np.stack([seen(data) for data in self.files.values()]))
        with IndexBuilder(self.index, CARD, build_options(n_trees=10)) as builder:
            builder.add(
                self.latents,
                list(self.files),
                [labels(number) for number in range(items)],
                metadata=[{"price": number, "shop": "north" if number % 2 else "south"} for number in range(items)],
                thumbnails=[thumbnail(data, "a picture") for data in self.files.values()],
            )
        with LatentIndex.open(self.index) as index:
            measured = calibrate(index)
            store(index, replace(measured, views=ViewsCalibration(0.9, 0.95)))
            remember(index)

    @property
    def keys(self):
        return list(self.files)

    def nearest(self, latent):
        """Return all keys by NumPy's own brute force, the most similar first."""
        units = self.latents / np.linalg.norm(self.latents, axis=1, keepdims=True)
        order = np.argsort(-(units @ (latent / np.linalg.norm(latent))), kind="stable")
        return [self.keys[at] for at in order]

    def latent(self, key):
        return self.latents[self.keys.index(key)]
