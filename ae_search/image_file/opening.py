"""Image files of every kind, opened with their format and size checked; no pixel is decoded.

Each decoder is a C library that is fed with strangers' bytes. It is called by name for the kind that the bytes are,
and never before the head has told how many pixels it would fill.
"""

import io
import struct
import warnings
from collections.abc import Callable

from PIL import Image, UnidentifiedImageError, features

from ae_search.errors import ImageError
from ae_search.extras import install
from ae_search.image_file.avif_head import coded_pixels
from ae_search.image_file.head import (
    ANIMATED_WEBP,
    NO_BMP,
    NO_SIZE,
    limit_of,
    read_head,
)
from ae_search.image_file.kinds import KIND_BYTES, Kind, kind_of
from ae_search.image_file.tiff_head import read_tiff

MAX_FILE_MIB = 64
# Animated WebP takes twice the memory of a still one; a BMP in runs is decoded slowly, by Pillow itself.
MAX_ANIMATED_MEGAPIXELS, MAX_RUNS_MEGAPIXELS, MAX_RUNS_MIB = 32, 16, 8
# The alpha of an AVIF is a picture of its own, and so is each tile of a large one.
MAX_AVIF_PICTURES = 4

# What Pillow raises where the bytes are not what their header says.
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
# What decoders of strangers' bytes raise beside that.
DECODER_ERRORS = (*DAMAGE, struct.error, RuntimeError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)

NAMES = {"WEBP": "WebP", "JXL": "JPEG XL", "JP2": "JPEG 2000"}
NO_DECODER = "{}, for which there is no decoder; save it as JPEG or PNG"
NO_KIND = "not a JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF or HEIC image"
NO_HEIF = f"HEIC needs pillow-heif: {install('heif')}"
NO_AVIF_HERE = "AVIF, which this build of Pillow cannot decode; save it as JPEG or PNG"
OS2_HEADER = b"\x0c\0\0\0"
RUNS = frozenset({1, 2})  # compressions of a BMP


def open_bounded(data: bytes, name: str, *, max_megapixels: float | None = None) -> Image.Image:
    """Open an image file of any kind that can be decoded here.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        max_megapixels: Pixels that it may have, in millions, where that is less than the limit of its format: 128 for
            JPEG, 64 for the others, 32 for animated WebP.

    Returns:
        The picture, its pixels not yet decoded.

    Raises:
        ImageError: It is of no such kind, is damaged, or has more pixels.
    """
    if len(data) > MAX_FILE_MIB * 2**20:
        raise ImageError(f"{name}: larger than {MAX_FILE_MIB} MiB.")
    kind = kind_of(data[:KIND_BYTES])
    try:
        if kind not in _OPENERS:
            raise ImageError(NO_KIND if kind is None else NO_DECODER.format(NAMES.get(kind, kind)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the head has passed our own bound
            return _OPENERS[kind](data, max_megapixels)
    except ImageError as error:
        raise ImageError(f"{name}: {error}.") from None
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: damaged image (it is no {NAMES.get(str(kind), kind)} inside).") from error
    except DECODER_ERRORS as error:
        raise ImageError(f"{name}: damaged image ({error}).") from error


def _check_size(pixels: int, size: str, limit: float, max_megapixels: float | None) -> None:
    limit = limit if max_megapixels is None else min(limit, max_megapixels)
    if pixels > limit * 1_000_000:
        raise ImageError(f"{size} is more than {limit:g} megapixels")


def _check_sides(width: int, height: int, limit: float, max_megapixels: float | None) -> None:
    _check_size(width * height, f"{width} x {height} px", limit, max_megapixels)


def _open(data: bytes, form: str) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=[form])


def _checked(picture: Image.Image, form: str, max_megapixels: float | None) -> Image.Image:
    """Return a picture that is open after checking the size that its decoder is going to fill."""
    _check_sides(*picture.size, limit_of(form), max_megapixels)
    return picture


def _known(data: bytes, max_megapixels: float | None) -> Image.Image:
    head = read_head(data)
    _check_size(head.pixels, head.size, head.limit, max_megapixels)
    return _open(data, head.form)


def _webp(data: bytes, max_megapixels: float | None) -> Image.Image:
    try:
        return _known(data, max_megapixels)
    except ImageError as error:
        if str(error) != ANIMATED_WEBP:
            raise
    width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    _check_sides(width, height, MAX_ANIMATED_MEGAPIXELS, max_megapixels)
    return _open(data, "WEBP")


def _bmp(data: bytes, max_megapixels: float | None) -> Image.Image:
    runs = int.from_bytes(data[30:34], "little") in RUNS and data[14:18] != OS2_HEADER
    if runs and len(data) > MAX_RUNS_MIB * 2**20:
        raise ImageError(f"a BMP in runs of more than {MAX_RUNS_MIB} MiB; save it as PNG")
    try:
        if not runs:
            return _known(data, max_megapixels)
    except ImageError as error:
        if str(error) != NO_BMP:
            raise
    if data[14:18] == OS2_HEADER:  # with sizes of 16 bits
        width, height = (int.from_bytes(data[at : at + 2], "little") for at in (18, 20))
    else:
        width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
    if not (width and height):
        raise ImageError(NO_SIZE)
    limit = MAX_RUNS_MEGAPIXELS if runs else limit_of("BMP")
    _check_sides(width, height, limit, max_megapixels)
    return _checked(_open(data, "BMP"), "BMP", max_megapixels)


def _tiff(data: bytes, max_megapixels: float | None) -> Image.Image:
    head = read_tiff(data)
    _check_size(head.pixels, f"{head.width} x {head.height} px", limit_of("TIFF"), max_megapixels)
    return _checked(_open(head.data, "TIFF"), "TIFF", max_megapixels)


def _avif(data: bytes, max_megapixels: float | None) -> Image.Image:
    if not features.check("avif"):
        raise ImageError(NO_AVIF_HERE)
    coded = coded_pixels(data)
    for pixels in (max(coded), sum(coded) // MAX_AVIF_PICTURES):
        _check_size(pixels, f"a coded picture of {pixels} px", limit_of("AVIF"), max_megapixels)
    # By this brand the decoder takes the picture that is there for readers of stills, and not a film's.
    return _checked(_open(data[:8] + b"avif" + data[12:], "AVIF"), "AVIF", max_megapixels)


def _heic(data: bytes, max_megapixels: float | None) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ImageError(NO_HEIF) from error
    opener: Callable[[io.BytesIO], Image.Image] = HeifImageFile
    # libheif refuses a coded picture that is larger than the container says.
    return _checked(opener(io.BytesIO(data)), "HEIC", max_megapixels)


_OPENERS: dict[Kind | None, Callable[[bytes, float | None], Image.Image]] = {
    "JPEG": _known,
    "PNG": _known,
    "GIF": _known,
    "BMP": _bmp,
    "WEBP": _webp,
    "TIFF": _tiff,
    "AVIF": _avif,
    "HEIC": _heic,
}
DECODABLE: tuple[Kind, ...] = tuple(kind for kind in _OPENERS if kind is not None)
