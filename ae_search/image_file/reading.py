"""Which image files of strangers are accepted, and how they are opened."""

import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ae_search.errors import ImageError
from ae_search.image_file.head import BYTES_A_PIXEL, ImageHead, read_head

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
MAX_FILE_MIB = 64

# What Pillow raises where the bytes are not what their header says.
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def read_image_file(path: Path | str, *, max_megapixels: float | None = None) -> bytes:
    """Return the bytes of an image file after `check_image`.

    Raises:
        ImageError: There is no such file, it cannot be read, is too large, or is no image.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ImageError(f"{path}: {'no regular file' if path.exists() else 'there is no such image file'}.")
        if path.stat().st_size > MAX_FILE_MIB * 2**20:
            raise ImageError(f"{path}: larger than {MAX_FILE_MIB} MiB.")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}).") from error
    check_image(data, str(path), max_megapixels=max_megapixels)
    return data


def check_image(data: bytes, name: str, *, max_megapixels: float | None = None) -> None:
    """Check format and size of an image from its head, without decoding the pixels, by the rules of the graph.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        max_megapixels: Pixels that it may have, in millions, where that is less than the limit of its format: 128 for
            JPEG, 64 for the others.

    Raises:
        ImageError: It is none of JPEG, PNG, GIF, BMP or WebP, is animated WebP, is damaged or has more pixels.
    """
    opened(data, name, max_megapixels=max_megapixels)


def opened(
    data: bytes, name: str, *, max_megapixels: float | None = None, formats: tuple[str, ...] = FORMATS
) -> Image.Image:
    """Return an image file after `check_image`, its pixels not yet decoded.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        max_megapixels: See `check_image`.
        formats: Formats that it may have, from `FORMATS`.

    Raises:
        ImageError: As for `check_image`, or it has another format.
    """
    head = _checked_head(data, name, max_megapixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the head has passed our own bound
            return Image.open(io.BytesIO(data), formats=[form for form in formats if form == head.form])
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a {_listed(formats)} image.") from error
    except DAMAGE as error:
        raise ImageError(f"{name}: damaged image ({error}).") from error


def _checked_head(data: bytes, name: str, max_megapixels: float | None) -> ImageHead:
    if len(data) > MAX_FILE_MIB * 2**20:
        raise ImageError(f"{name}: larger than {MAX_FILE_MIB} MiB.")
    try:
        head = read_head(data)
    except ImageError as error:
        raise ImageError(f"{name}: {error}.") from None
    limit = head.limit if max_megapixels is None else min(head.limit, max_megapixels)
    if head.pixels > limit * 1_000_000:
        raise ImageError(f"{name}: {head.size} is more than {limit:g} megapixels.")
    return head


def _listed(formats: tuple[str, ...]) -> str:
    names = ["WebP" if form == "WEBP" else form for form in formats]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def decoded_bytes(data: bytes) -> int:
    """Return an upper bound of the memory that a model's graph takes to decode an image file, in bytes.

    It is read from the head of the file, and nothing is decoded; files beyond the limits give what they ask for.

    Args:
        data: The file's bytes.

    Returns:
        0 where the graph refuses the file without decoding it.
    """
    try:
        head = read_head(data)
    except ImageError:
        return 0
    return head.pixels * BYTES_A_PIXEL
