"""Where a picture lies in a model's shape: the arithmetic of `data/framing.py`, for the query side."""

from typing import Literal

import numpy as np
from PIL import Image

Fit = Literal["crop", "pad"]
RATIOS = (8, 4, 2)

Size = tuple[int, int]


def ratio_of(size: Size, shape: Size, fit: Fit) -> int:
    """Return the ratio that a JPEG is decoded at: the largest that leaves twice the model's sides.

    Args:
        size: Width and height of the upright picture in px.
        shape: Width and height of the model in px.
        fit: "crop" or "pad".
    """
    (width, height), (w, h) = size, shape
    enough = all if fit == "crop" else any
    return next((ratio for ratio in RATIOS if enough((width >= 2 * ratio * w, height >= 2 * ratio * h))), 1)


def framed(picture: Image.Image, shape: Size, fit: Fit) -> Image.Image:
    """Bring an upright picture, grey or RGB, to a model's width and height in px.

    Args:
        picture: The picture.
        shape: Width and height of the model in px.
        fit: "crop" cuts out the largest centred window of the model's aspect ratio; "pad" shows all, and lays the mean
            colour of the picture's edge around it.
    """
    if fit == "crop":
        # Not by resize's own box, which takes pixels of beyond its edges into account.
        return picture.crop(_window(picture.size, shape)).resize(shape, Image.Resampling.BILINEAR)
    inner = picture.resize(_inner(picture.size, shape), Image.Resampling.BILINEAR)
    pixels = np.asarray(inner, np.float32)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(axis=0)
    colour = tuple(int(value) for value in np.rint(np.atleast_1d(edge)))
    around = Image.new(picture.mode, shape, colour if len(colour) > 1 else colour[0])
    around.paste(inner, ((shape[0] - inner.width) // 2, (shape[1] - inner.height) // 2))
    return around


def _window(size: Size, shape: Size) -> tuple[int, int, int, int]:
    """Return the largest centred window of the model's aspect ratio: left, top, right and bottom in px."""
    (width, height), (w, h) = size, shape
    rows = min(height, max(1, (2 * width * h + w) // (2 * w)))
    columns = min(width, max(1, (2 * height * w + h) // (2 * h)))
    left, top = (width - columns) // 2, (height - rows) // 2
    return left, top, left + columns, top + rows


def _inner(size: Size, shape: Size) -> Size:
    """Return the width and height that the whole picture has within the model's shape."""
    (width, height), (w, h) = size, shape
    if height * w >= width * h:
        return max(1, min(w, (2 * width * h + height) // (2 * height))), h
    return w, max(1, min(h, (2 * height * w + width) // (2 * width)))
