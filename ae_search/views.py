"""Altered views of a query: a copy that was cropped, turned, moved or mirrored is found through one that undoes it."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

TURNS_DEGREES = (-8.0, 0.0, 8.0)
ZOOMS = (0.87, 1.0, 1.15)
SHIFT = 0.06


def query_views(pixels: Pixels) -> Pixels:
    """Return the image, and views of it as if the camera had moved a little.

    Nine turns and zooms, and shifts in eight directions, each also mirrored: 34 views, the image itself first.

    Args:
        pixels: uint8 `[h, w, c]`.

    Returns:
        uint8 `[34, h, w, c]`. Black enters at the edges.
    """
    moves = [(turn, zoom, 0.0, 0.0) for turn in TURNS_DEGREES for zoom in ZOOMS]
    moves += [(0.0, 1.0, across, down) for across in (-SHIFT, 0.0, SHIFT) for down in (-SHIFT, 0.0, SHIFT)]
    moves = sorted(set(moves), key=lambda move: move != (0.0, 1.0, 0.0, 0.0))
    views = [_moved(image, *move) for move in moves for image in (pixels, pixels[:, ::-1])]
    return np.stack(views)


def _moved(pixels: Pixels, turn_degrees: float, zoom: float, across: float, down: float) -> Pixels:
    """Turn and zoom around the centre, then shift by shares of the sides."""
    if (turn_degrees, zoom, across, down) == (0.0, 1.0, 0.0, 0.0):
        return pixels
    height, width, channels = pixels.shape
    a, b = math.cos(math.radians(turn_degrees)) / zoom, math.sin(math.radians(turn_degrees)) / zoom
    # Pillow's coordinates are those of pixel edges: the centre lies at half the side.
    x, y = width / 2, height / 2
    to_x, to_y = x + across * width, y + down * height
    coefficients = (a, -b, x - a * to_x + b * to_y, b, a, y - b * to_x - a * to_y)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    moved = image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(moved).reshape(pixels.shape)
