"""Regions of an image in a model's shape: what was cut out of an image resembles one of them more than the whole."""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ae_search.image_file.framing import Fit, framed
from ae_search.image_file.pixels import PREPROCESSING_VERSION, image_pixels

# Where a region lies down and across, from the first of its places, 0, to the last, 1.
PLACES = tuple(product((0.0, 0.5, 1.0), repeat=2))
# Part of each side that regions show. A cut of half of each side is found by those of 60 %.
SHARES = (0.6, 0.7)

Shape = tuple[int, int, int]


def region_pixels(
    image: bytes | npt.NDArray[Any],
    name: str,
    image_shape: Shape,
    *,
    fit: Fit = "crop",
    version: int = PREPROCESSING_VERSION,
) -> npt.NDArray[np.uint8]:
    """Return parts of what a model sees of an image, in the model's shape.

    The corners, the middles of the edges and the centre, first of 60 % of each side, then of 70 %. For each share the
    image is brought to a larger shape once, by the rule that models have in their graph, and the regions are cut out of
    it without another resize.

    Args:
        image: The bytes of an image file, or uint8 pixels `[h, w, c]`.
        name: What to call it in an error.
        image_shape: Height and width in px, channels (1 or 3).
        fit: As for `image_pixels`.
        version: As for `image_pixels`.

    Returns:
        uint8 `[18, h, w, c]`.

    Raises:
        ImageError: As for `image_pixels`.
    """
    height, width, channels = image_shape
    regions = []
    for share in SHARES:
        rows, columns = round(height / share), round(width / share)
        whole = _brought_to(image, name, (rows, columns, channels), fit, version)
        for down, across in PLACES:
            top, left = int(down * (rows - height)), int(across * (columns - width))
            regions.append(whole[top : top + height, left : left + width])
    return np.stack(regions)


def _brought_to(
    image: bytes | npt.NDArray[Any], name: str, shape: Shape, fit: Fit, version: int
) -> npt.NDArray[np.uint8]:
    if isinstance(image, bytes):
        return image_pixels(image, name, shape, fit=fit, version=version)
    rows, columns, channels = shape
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))
    picture = framed(picture, (columns, rows), fit).convert("L" if channels == 1 else "RGB")
    return np.asarray(picture).reshape(shape)
