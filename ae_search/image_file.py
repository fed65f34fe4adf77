"""Image files as strangers send them: which are accepted, how they are checked, how thumbnails are made."""

import io
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ae_search.errors import ImageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
MAX_MEGAPIXELS = 64
MAX_FILE_MIB = 64
THUMBNAIL_SIDE_PX = 96

# What Pillow raises where the bytes are not what their header says.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
_DECODING = threading.Lock()


def read_image_file(path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS) -> bytes:
    """Return the bytes of an image file after `check_image`.

    Raises:
        ImageError: There is no such file, it cannot be read, is too large, or is no image.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ImageError(f"{path}: there is no such image file.")
        if path.stat().st_size > MAX_FILE_MIB * 2**20:
            raise ImageError(f"{path}: larger than {MAX_FILE_MIB} MiB.")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}).") from error
    check_image(data, str(path), max_megapixels=max_megapixels)
    return data


def check_image(data: bytes, name: str, *, max_megapixels: float = MAX_MEGAPIXELS) -> None:
    """Check format and size of an image from its header, without decoding the pixels.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        max_megapixels: Pixels that it may have, in millions.

    Raises:
        ImageError: It is none of JPEG, PNG, GIF, BMP or WebP, is animated WebP, or has more pixels.
    """
    with _opened(data, name) as image:
        if image.width * image.height > max_megapixels * 1_000_000:
            raise ImageError(f"{name}: {image.width} x {image.height} px is more than {max_megapixels:g} megapixels.")
        # TensorFlow's DecodeImage corrupts its memory on these (seen on 2.21).
        if image.format == "WEBP" and getattr(image, "is_animated", False):
            raise ImageError(f"{name}: animated WebP is not supported; save one frame of it.")


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
            with _opened(data, name) as picture:
                picture.load()
        except ImageError:
            raise
        except MemoryError:
            return  # that says nothing about the image
        except Exception as error:  # strangers' bytes make Pillow raise whatever its decoders stumble over
            raise ImageError(f"{name}: damaged image ({error}).") from error


def _opened(data: bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_image has its own bound
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a JPEG, PNG, GIF, BMP or WebP image.") from error
    except _DAMAGE as error:
        raise ImageError(f"{name}: damaged image ({error}).") from error


def thumbnail(image: bytes | npt.NDArray[Any], name: str) -> bytes:
    """Return a JPEG of at most 96 px a side, upright as its EXIF orientation says.

    Args:
        image: The bytes of an image file, or uint8 pixels `[h, w, c]`.
        name: What to call it in an error.

    Raises:
        ImageError: The pixels cannot be decoded.
    """
    if isinstance(image, bytes):
        picture = _opened(image, name)
    else:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    try:
        picture.draft("RGB", (THUMBNAIL_SIDE_PX * 2, THUMBNAIL_SIDE_PX * 2))  # JPEG only: decodes fewer pixels
        picture = _in_eight_bits(ImageOps.exif_transpose(picture))
        picture.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
        if picture.mode != "L":
            picture = _over(picture, "white")
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
    except _DAMAGE as error:
        raise ImageError(f"{name}: damaged image ({error}).") from error
    return buffer.getvalue()


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
    check_image(data, name)
    picture = _opened(data, name)
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
    except _DAMAGE as error:
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
