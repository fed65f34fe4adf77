"""Regions of an image in a model's shape: what was cut out of an image resembles one of them more than the whole."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ae_search.image_file.framing import Fit, framed
from ae_search.image_file.pixels import PREPROCESSING_VERSION, image_pixels

# Part of each side that a region shows.
SHARE = 0.6
REGIONS = 5

Shape = tuple[int, int, int]


def region_pixels(
    image: bytes | npt.NDArray[Any],
    name: str,
    image_shape: Shape,
    *,
    fit: Fit = "crop",
    version: int = PREPROCESSING_VERSION,
) -> npt.NDArray[np.uint8]:
    """Return the four corners and the centre of what a model sees of an image, 60 % of each side, in the model's shape.

    The image is brought to a larger shape once, by the rule that models have in their graph, and the regions are cut
    out of it without another resize.

    Args:
        image: The bytes of an image file, or uint8 pixels `[h, w, c]`.
        name: What to call it in an error.
        image_shape: Height and width in px, channels (1 or 3).
        fit: As for `image_pixels`.
        version: As for `image_pixels`.

    Returns:
        uint8 `[5, h, w, c]`.

    Raises:
        ImageError: As for `image_pixels`.
    """
    height, width, channels = image_shape
    rows, columns = round(height / SHARE), round(width / SHARE)
    larger = (rows, columns, channels)
    if isinstance(image, bytes):
        whole = image_pixels(image, name, larger, fit=fit, version=version)
    else:
        picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))
        picture = framed(picture, (columns, rows), fit).convert("L" if channels == 1 else "RGB")
        whole = np.asarray(picture).reshape(larger)
    below, right = rows - height, columns - width
    corners = [(0, 0), (0, right), (below, 0), (below, right), (below // 2, right // 2)]
    return np.stack([whole[top : top + height, left : left + width] for top, left in corners])
