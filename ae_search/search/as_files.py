"""Images of a program as image files: pixels of any size, and pictures of Pillow's."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ae_search.contract import image_batch
from ae_search.errors import ImageError
from ae_search.image_file import pixels_to_png

ImageInput = Path | str | bytes | npt.NDArray[Any] | Image.Image

# What a PNG file holds as it is, of eight or fewer bits, and grey of sixteen.
_KEPT = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
# 32 bits a pixel, of which nobody says what is black and what is white.
_OPEN = frozenset({"I", "F"})


def as_file(image: ImageInput, name: str) -> Path | str | bytes:
    """Return an image as a path or as the bytes of a file, for the model's own decode and resize.

    Args:
        image: A path or the bytes of a file, which stay as they are; pixels `[h, w]` or `[h, w, c]`, c being 1, 3 or 4,
            uint8 or floats in [0, 1]; or a picture of Pillow's.
        name: What to call it in an error.

    Raises:
        ImageError: The pixels have another form, or the picture cannot be decoded.
        TypeError: It is nothing of the kind.
    """
    if isinstance(image, np.ndarray):
        return _png_of_pixels(image, name)
    if isinstance(image, Image.Image):
        return _png_of_picture(image, name)
    if isinstance(image, Path | str | bytes):
        return image
    raise TypeError(
        f"An image is a path, the bytes of a file, a NumPy array or a PIL.Image. Received: {type(image).__name__}."
    )


def _png_of_pixels(pixels: npt.NDArray[Any], name: str) -> bytes:
    planes = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    if planes.ndim != 3 or planes.shape[2] not in (1, 3, 4) or not planes.size:
        raise ImageError(
            f"{name}: pixels of one image are [h, w] or [h, w, c], c being 1, 3 or 4. Received: shape={pixels.shape}."
        )
    _, (checked,) = image_batch(planes, planes.shape)
    return pixels_to_png(checked if checked.dtype == np.uint8 else np.rint(255 * checked).astype(np.uint8))


def _png_of_picture(picture: Image.Image, name: str) -> bytes:
    if picture.mode in _OPEN:
        raise ImageError(f"{name}: convert a picture of mode {picture.mode} to 8 bits first, such as L or RGB.")
    buffer = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(picture)
        (upright if upright.mode in _KEPT else upright.convert(_converted(upright.mode))).save(buffer, "PNG")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: damaged image ({error}).") from error
    return buffer.getvalue()


def _converted(mode: str) -> str:
    return "RGBA" if mode in ("PA", "La", "RGBa") else "RGB"
