"""Seeded pictures and their files."""

import io

import numpy as np
from PIL import Image


def coloured_picture(seed, size=(40, 30)):
    """A smooth colour image, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
