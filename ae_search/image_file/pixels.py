"""Pixels of image files on the query side: thumbnails, views of a query, and pixels as a file."""

import io
import threading
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ae_search.errors import ImageError
from ae_search.image_file.framing import Fit, framed, ratio_of
from ae_search.image_file.head import graph_decodes, truncated
from ae_search.image_file.jpeg import CUT_SHORT, END
from ae_search.image_file.opening import DAMAGE
from ae_search.image_file.orientation import UPRIGHT, orientation
from ae_search.image_file.reading import FORMATS, opened

# The rules that models exported today have; `data.decode.PREPROCESSING` begins with it.
PREPROCESSING_VERSION = 3
THUMBNAIL_SIDE_PX = 96
MAX_STORED_BYTES = 4 * 2**20
MAX_STORED_MEGAPIXELS = 16

_DECODING = threading.Lock()
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
                check_rows(data, name, picture)
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
    picture = _opened(data, name, max_megapixels=max_megapixels, formats=formats)
    try:
        _draft(picture, ratio_of(picture.size, (side_px, side_px), "pad"))
        check_rows(data, name, picture)
        # Turned when it is small.
        return _turned(_reduced(picture, side_px), _turn(data))
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


def image_pixels(
    data: bytes,
    name: str,
    image_shape: tuple[int, int, int],
    *,
    fit: Fit = "crop",
    version: int = PREPROCESSING_VERSION,
) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image file in a model's shape, by the rule that models have in their graph.

    Upright as its EXIF orientation says, alpha over white, cropped to the aspect or padded, antialiased bilinear, grey
    by luma. Pillow rounds in other places, so this is near to what the model sees, and not the same: latents for an
    index come from the model's own decode.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        image_shape: Height and width in px, channels (1 or 3).
        fit: "crop" or "pad", as the model's card says.
        version: That of the model's preprocessing, as its card says. Before 3, EXIF was not applied, and what is
            transparent in a GIF was black.

    Returns:
        uint8 `[h, w, c]`.

    Raises:
        ImageError: As for `check_image`, most of it is missing, or the pixels cannot be decoded.
    """
    old = version < PREPROCESSING_VERSION
    picture, turn = _opened(data, name), UPRIGHT if old else _turn(data)
    height, width, channels = image_shape
    try:
        size = picture.size if turn < 5 else (picture.height, picture.width)
        _draft(picture, ratio_of(size, (width, height), fit))
        check_rows(data, name, picture)
        background = "black" if old and picture.format == "GIF" else "white"
        picture = _in_eight_bits(picture)
        if picture.has_transparency_data:
            picture = _over(picture, background)
        elif picture.mode != "L":
            picture = picture.convert("RGB")
        picture = framed(_turned(picture, turn), (width, height), fit)
        return np.asarray(picture.convert("L" if channels == 1 else "RGB")).reshape(image_shape)
    except DAMAGE as error:
        raise ImageError(f"{name}: damaged image ({error}).") from error


def check_rows(data: bytes, name: str, picture: Image.Image) -> None:
    """Check that of a JPEG whose end is missing at least half of the rows are there, as models do.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        picture: The picture in it.

    Raises:
        ImageError: Most is missing, or the pixels cannot be decoded.
    """
    if not truncated(data):
        return
    # What libjpeg puts where nothing came; the halves of inks round to two values.
    rows = np.isin(np.asarray(picture), (127, 128) if picture.mode == "CMYK" else (128,))
    filled = np.all(np.reshape(rows, (picture.height, -1)), axis=1)[::-1]
    if 2 * int(np.cumprod(filled).sum()) > len(filled):
        raise ImageError(f"{name}: {CUT_SHORT}.")


def _opened(
    data: bytes, name: str, *, max_megapixels: float | None = None, formats: tuple[str, ...] = FORMATS
) -> Image.Image:
    """Open a file, whatever its EXIF; of a JPEG that is cut short Pillow then shows what is there, as browsers do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ended = data + END if truncated(data) else data
        return opened(ended, name, max_megapixels=max_megapixels, formats=formats)


def _turn(data: bytes) -> int:
    """Return the orientation of a file; one that is converted first is upright by then."""
    return orientation(data) if graph_decodes(data) else UPRIGHT


def _turned(picture: Image.Image, turn: int) -> Image.Image:
    method = _TURNS.get(turn)
    return picture if method is None else picture.transpose(method)


def _draft(picture: Image.Image, ratio: int) -> None:
    """Tell a JPEG to decode fewer pixels."""
    picture.draft(None, (max(1, picture.width // ratio), max(1, picture.height // ratio)))


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
