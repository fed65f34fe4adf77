"""Altered views of a query: a copy that was cropped, turned, moved or framed is found by the one that undoes it."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from ae_search.contract import Fit
from ae_search.image_file.framing import framed

Pixels = npt.NDArray[np.uint8]

TURNS_DEGREES = (-8.0, 8.0)
ZOOMS = (0.87, 1.15)
SHIFTS = (-0.06, 0.0, 0.06)
QUARTER_TURNS = (1, 2, 3)

# Turn in degrees, zoom, shift across and shift down; as it is first.
Move = tuple[float, float, float, float]
_AS_IT_IS: Move = (0.0, 1.0, 0.0, 0.0)
_SHIFTED: list[Move] = [(0.0, 1.0, across, down) for across in SHIFTS for down in SHIFTS]
MOVES = (
    _AS_IT_IS,
    *((turn, 1.0, 0.0, 0.0) for turn in TURNS_DEGREES),
    *((0.0, zoom, 0.0, 0.0) for zoom in ZOOMS),
    *(move for move in _SHIFTED if move != _AS_IT_IS),
)
# Views of an image without a border, and of one with a border.
PLAIN_VIEWS = 2 * (len(MOVES) + len(QUARTER_TURNS))
MOST_VIEWS = PLAIN_VIEWS + 2

# How far from the edge's colour a pixel of a border may be, of 255: JPEG leaves noise around what lies beside it.
_TOLERANCE = 12
# Share of a line of pixels that must have the colour: screenshots have small signs in their bars.
_UNIFORM = 0.95
# A border is where at least so much of each side lies within it.
_LEAST_INSIDE = 0.2


def query_views(pixels: Pixels, fit: Fit = "crop") -> Pixels:
    """Return the image, and views of it that undo what copies have undergone.

    The image as it is, turned by 8° either way, zoomed by 0.87 and by 1.15, shifted by whole pixels, about 6 % of the
    sides, in eight directions, turned by 90, 180 and 270°, and, where it has a border or bars of one colour, what lies
    inside them. Each view is followed by its mirror image.

    Args:
        pixels: uint8 `[h, w, 1 or 3]`.
        fit: How the model brings another shape to its own; see `image_file.framing`.

    Returns:
        uint8 `[32 or 34, h, w, c]`, the image itself first, its mirror image second. Black enters at the edges of what
        is turned by 8°, zoomed and shifted.

    Raises:
        ValueError: It is no such image.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise ValueError(f"Expected uint8 pixels [h, w, 1 or 3]. Received: dtype={pixels.dtype}, shape={pixels.shape}.")
    shown = [_moved(pixels, move) for move in MOVES]
    shown += [_framed(np.rot90(pixels, turns), pixels.shape, fit) for turns in QUARTER_TURNS]
    inside = within_border(pixels)
    if inside.shape != pixels.shape:
        shown.append(_framed(inside, pixels.shape, fit))
    views = np.empty((len(shown), 2, *pixels.shape), np.uint8)
    views[:, 0] = shown
    # Each move has one to the other side, so these are also the moved views of the mirror image.
    views[:, 1] = views[:, 0, :, ::-1]
    return views.reshape(-1, *pixels.shape)


def unmoved(views: int) -> npt.NDArray[np.intp]:
    """Return which of so many views of an image show all of it, straight: turns by quarters, and mirror images."""
    return np.concatenate([np.arange(2), np.arange(2 * len(MOVES), views)])


def within_border(pixels: Pixels) -> Pixels:
    """Return what lies within a border, or bars at some sides, of one colour; all of it where there is none.

    Args:
        pixels: uint8 `[h, w, c]`.

    Returns:
        uint8 `[rows, columns, c]`, a view into `pixels`.
    """
    inside = _without_bars(pixels)
    inside = _without_bars(inside.swapaxes(0, 1)).swapaxes(0, 1)
    # Bars on the left and right may have kept lines above and below from being of one colour.
    return _without_bars(inside)


def _without_bars(pixels: Pixels) -> Pixels:
    """Cut off bars above and below, unless hardly anything is left."""
    above, below = _bar(pixels), _bar(pixels[::-1])
    height = len(pixels)
    return pixels if height - above - below < _LEAST_INSIDE * height else pixels[above : height - below]


def _bar(pixels: Pixels) -> int:
    """Return how many of the first lines have one colour, that of the first."""
    colour = np.median(pixels[0], axis=0)
    near = np.abs(pixels - colour).max(axis=2) <= _TOLERANCE
    uniform = near.mean(axis=1) >= _UNIFORM
    return len(uniform) if uniform.all() else int(uniform.argmin())


def _framed(pixels: Pixels, shape: tuple[int, ...], fit: Fit) -> Pixels:
    """Bring pixels of another shape to `[h, w, c]`."""
    if pixels.shape == shape:
        return pixels
    height, width, channels = shape
    return np.asarray(framed(_image(pixels), (width, height), fit)).reshape(height, width, channels)


def _moved(pixels: Pixels, move: Move) -> Pixels:
    """Turn anticlockwise and zoom, around the centre, then shift right and down by shares of the sides."""
    if move == _AS_IT_IS:
        return pixels
    turn_degrees, zoom, across, down = move
    height, width, _ = pixels.shape
    a, b = math.cos(math.radians(turn_degrees)) / zoom, math.sin(math.radians(turn_degrees)) / zoom
    # Pillow's coordinates are those of pixel edges: the centre lies at half the side.
    x, y = width / 2, height / 2
    # In whole pixels: parts of one would blur what they shift.
    to_x, to_y = x + round(across * width), y + round(down * height)
    coefficients = (a, -b, x - a * to_x + b * to_y, b, a, y - b * to_x - a * to_y)
    moved = _image(pixels).transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(moved).reshape(pixels.shape)


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
