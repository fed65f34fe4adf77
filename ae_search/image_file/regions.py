"""Regions of an image in a model's shape: what was cut out of an image resembles one of them more than the whole."""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ae_search.image_file.framing import Fit, framed
from ae_search.image_file.pixels import PREPROCESSING_VERSION, image_pixels

# Where a region lies down and across, from the first of its places, 0, to the last, 1.
_CORNERS = tuple(product((0.0, 1.0), repeat=2))
_CENTRE = (0.5, 0.5)
_EDGES = ((0.0, 0.5), (0.5, 0.0), (0.5, 1.0), (1.0, 0.5))
# Part of each side that regions show, and where they lie. A cut of half of each side is found by those of 60 %.
PLACES = {0.6: (*_CORNERS, _CENTRE, *_EDGES), 0.7: (*_CORNERS, _CENTRE)}
REGIONS = sum(map(len, PLACES.values()))

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

    Those of 60 % of each side are the corners, the centre and the middles of the edges; those of 70 % the corners and
    the centre. For each share the image is brought to a larger shape once, by the rule that models have in their graph,
    and the regions are cut out of it without another resize.

    Args:
        image: The bytes of an image file, or uint8 pixels `[h, w, c]`.
        name: What to call it in an error.
        image_shape: Height and width in px, channels (1 or 3).
        fit: As for `image_pixels`.
        version: As for `image_pixels`.

    Returns:
        uint8 `[14, h, w, c]`.

    Raises:
        ImageError: As for `image_pixels`.
    """
    height, width, channels = image_shape
    regions = []
    for share, places in PLACES.items():
        rows, columns = round(height / share), round(width / share)
        whole = _brought_to(image, name, (rows, columns, channels), fit, version)
        for down, across in places:
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
