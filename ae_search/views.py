"""Altered views of a query: a copy that was cropped, turned, moved or mirrored is found through one that undoes it."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

TURNS_DEGREES = (-8.0, 0.0, 8.0)
ZOOMS = (0.87, 1.0, 1.15)
SHIFTS = (-0.06, 0.0, 0.06)

# Turn in degrees, zoom, shift across and shift down; as it is first.
Move = tuple[float, float, float, float]
_AS_IT_IS: Move = (0.0, 1.0, 0.0, 0.0)
_TURNED: list[Move] = [(turn, zoom, 0.0, 0.0) for turn in TURNS_DEGREES for zoom in ZOOMS]
_SHIFTED: list[Move] = [(0.0, 1.0, across, down) for across in SHIFTS for down in SHIFTS]
MOVES = (_AS_IT_IS, *(move for move in (*_TURNED, *_SHIFTED) if move != _AS_IT_IS))
VIEWS = 2 * len(MOVES)


def query_views(pixels: Pixels) -> Pixels:
    """Return the image, and views of it as if the camera had moved a little.

    Each combination of a turn (8° either way or none) with a zoom (0.87, 1 or 1.15), and shifts by 6 % of the sides in
    eight directions; each view is followed by its mirror image.

    Args:
        pixels: uint8 `[h, w, 1 or 3]`.

    Returns:
        uint8 `[34, h, w, c]`, the image itself first, its mirror image second. Black enters at the edges.

    Raises:
        ValueError: It is no such image.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise ValueError(f"Expected uint8 pixels [h, w, 1 or 3]. Received: dtype={pixels.dtype}, shape={pixels.shape}.")
    views = np.empty((len(MOVES), 2, *pixels.shape), np.uint8)
    for view, move in zip(views, MOVES, strict=True):
        view[0] = _moved(pixels, move)
        # The moves are the same to the left as to the right, so these are also the moved views of the mirror image.
        view[1] = view[0, :, ::-1]
    return views.reshape(VIEWS, *pixels.shape)


def _moved(pixels: Pixels, move: Move) -> Pixels:
    """Turn anticlockwise and zoom, around the centre, then shift right and down by shares of the sides."""
    if move == _AS_IT_IS:
        return pixels
    turn_degrees, zoom, across, down = move
    height, width, channels = pixels.shape
    a, b = math.cos(math.radians(turn_degrees)) / zoom, math.sin(math.radians(turn_degrees)) / zoom
    # Pillow's coordinates are those of pixel edges: the centre lies at half the side.
    x, y = width / 2, height / 2
    to_x, to_y = x + across * width, y + down * height
    coefficients = (a, -b, x - a * to_x + b * to_y, b, a, y - b * to_x - a * to_y)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
    moved = image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(moved).reshape(pixels.shape)
