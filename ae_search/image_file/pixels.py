"""Pixels of image files on the query side: thumbnails, views of a query, and pixels as a file."""

import io
import threading
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ae_search.errors import ImageError
from ae_search.image_file.opening import DAMAGE
from ae_search.image_file.reading import FORMATS, opened

THUMBNAIL_SIDE_PX = 96
MAX_STORED_BYTES = 4 * 2**20
MAX_STORED_MEGAPIXELS = 16

_DECODING = threading.Lock()


def check_pixels(data: bytes, name: str) -> None:
    """Check an image that has passed `check_image` by decoding its first frame.

    One at a time, because each may take 4 bytes a pixel.

    Args:
        data: The file's bytes.
        name: What to call it in an error.

    Raises:
        ImageError: The pixels cannot be decoded.
    """
    with _DECODING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with opened(data, name) as picture:
                picture.load()
        except ImageError:
            raise
        except MemoryError:
            return  # that says nothing about the image
        except Exception as error:  # strangers' bytes make Pillow raise whatever its decoders stumble over
            raise ImageError(f"{name}: damaged image ({error}).") from error


def thumbnail(image: bytes | npt.NDArray[Any], name: str) -> bytes:
    """Return a JPEG of at most 96 px a side, upright as its EXIF orientation says.

    Args:
        image: The bytes of an image file, or uint8 pixels `[h, w, c]`.
        name: What to call it in an error.

    Raises:
        ImageError: As for `check_image`, or the pixels cannot be decoded.
    """
    if isinstance(image, bytes):
        picture = small_picture(image, name, THUMBNAIL_SIDE_PX)
    else:
        picture = _reduced(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), THUMBNAIL_SIDE_PX)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def small_picture(
    data: bytes,
    name: str,
    side_px: int,
    *,
    max_megapixels: float | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> Image.Image:
    """Return an image file made small, grey or RGB, over white, upright as its EXIF orientation says.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        side_px: Longest side of the answer, at most.
        max_megapixels: See `check_image`.
        formats: Formats that it may have.

    Raises:
        ImageError: As for `check_image`, it has another format, or the pixels cannot be decoded.
    """
    picture = opened(data, name, max_megapixels=max_megapixels, formats=formats)
    try:
        picture.draft("RGB", (side_px * 2, side_px * 2))  # JPEG only: decodes fewer pixels
        return _reduced(ImageOps.exif_transpose(picture), side_px)
    except DAMAGE as error:
        raise ImageError(f"{name}: damaged image ({error}).") from error


def stored_thumbnail(data: bytes | None, side_px: int) -> Image.Image | None:
    """Return a thumbnail that an index holds, which may be any bytes of a stranger.

    Args:
        data: A JPEG or PNG file of up to 4 MiB and 16 megapixels; other formats are not even tried.
        side_px: Longest side of the answer, at most.

    Returns:
        None where there is none, or none that can be shown.
    """
    if not data or len(data) > MAX_STORED_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return small_picture(
                data, "thumbnail", side_px, max_megapixels=MAX_STORED_MEGAPIXELS, formats=("JPEG", "PNG")
            )
    except Exception:  # decoders raise anything on bytes that were made to hurt them
        return None


def _reduced(picture: Image.Image, side_px: int) -> Image.Image:
    picture = _in_eight_bits(picture)
    picture.thumbnail((side_px, side_px))
    return picture if picture.mode == "L" else _over(picture, "white")


def image_pixels(data: bytes, name: str, image_shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image file in a model's shape, by the rule that models have in their graph.

    Alpha over white, centre crop to the aspect, antialiased bilinear, grey by luma; EXIF orientation is not applied.
    Pillow rounds in other places and decodes a large JPEG at a smaller scale, so this is near to what the model sees,
    and not the same: latents for an index come from the model's own decode.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        image_shape: Height and width in px, channels (1 or 3).

    Returns:
        uint8 `[h, w, c]`.

    Raises:
        ImageError: As for `check_image`, or the pixels cannot be decoded.
    """
    picture = opened(data, name)
    height, width, channels = image_shape
    try:
        picture.draft("RGB", (2 * width, 2 * height))  # JPEG only: decodes fewer pixels
        picture = _in_eight_bits(picture)
        if picture.has_transparency_data:
            # Where a GIF is transparent, TensorFlow's decoder leaves black.
            picture = _over(picture, "black" if picture.format == "GIF" else "white")
        elif picture.mode != "L":
            picture = picture.convert("RGB")
        for _ in range(2):  # as in the model: for its rounding, the second crop may take one pixel more
            picture = picture.crop(_centre_window(picture.size, width / height))
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture.convert("L" if channels == 1 else "RGB")).reshape(image_shape)
    except DAMAGE as error:
        raise ImageError(f"{name}: damaged image ({error}).") from error


def _centre_window(size: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    """Return the largest centred window of an aspect ratio: left, top, right and bottom in px."""
    width, height = size
    columns = min(width, max(1, round(height * aspect)))
    rows = min(height, max(1, round(width / aspect)))
    left, top = (width - columns) // 2, (height - rows) // 2
    return left, top, left + columns, top + rows


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """Keep the upper half of 16 bits of grey: Pillow would take all but the darkest for white."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def _over(picture: Image.Image, background: str) -> Image.Image:
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba).convert("RGB")


def pixels_to_png(pixels: npt.NDArray[Any]) -> bytes:
    """Return uint8 pixels `[h, w, c]` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)).save(buffer, "PNG")
    return buffer.getvalue()
