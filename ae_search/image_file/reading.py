"""Which image files of strangers are accepted, and how they are opened."""

import io
import logging
from pathlib import Path

from PIL import Image

from ae_search.errors import ImageError
from ae_search.image_file.converting import converted, for_graph
from ae_search.image_file.head import BYTES_A_PIXEL, graph_decodes, read_head, truncated
from ae_search.image_file.kinds import KIND_BYTES, kind_of
from ae_search.image_file.opening import DECODABLE, MAX_FILE_MIB, NAMES, open_bounded

log = logging.getLogger(__name__)

SUFFIXES = frozenset({
    *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif")
})  # fmt: skip
TRUNCATED = "truncated: the file ends too early"
FORMATS: tuple[str, ...] = DECODABLE


def file_bytes(path: Path | str) -> bytes:
    """Return the bytes of a regular file of at most 64 MiB, whatever it holds.

    Raises:
        ImageError: There is no such file, it cannot be read or is larger.
    """
    path = Path(path)
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ImageError(f"{path}: {'no regular file' if path.exists() else 'there is no such image file'}.")
        if path.stat().st_size > MAX_FILE_MIB * 2**20:
            raise ImageError(f"{path}: larger than {MAX_FILE_MIB} MiB.")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}).") from error


def read_image_file(path: Path | str, *, max_megapixels: float | None = None) -> bytes:
    """Return the bytes of an image file as `for_graph` makes them.

    Raises:
        ImageError: There is no such file, it cannot be read, is too large, or is no image that can be decoded here.
    """
    return for_graph(file_bytes(path), str(path), max_megapixels=max_megapixels)


def bytes_for_graph(file: Path | str | bytes, name: str, *, max_megapixels: float | None = None) -> bytes:
    """Return what to send to a model for a file; one that is read here and cut short is told.

    Args:
        file: A path, or the bytes of an image file.
        name: What to call it in an error.
        max_megapixels: See `check_image`.

    Raises:
        ImageError: It is missing, no image that can be decoded here, or too large.
    """
    if isinstance(file, bytes):  # its caller can ask `image_file.truncated`
        return for_graph(file, name, max_megapixels=max_megapixels)
    data = read_image_file(file, max_megapixels=max_megapixels)
    if truncated(data):
        log.warning("%s: %s; the part that is there is taken", name, TRUNCATED)
    return data


def check_image(data: bytes, name: str, *, max_megapixels: float | None = None) -> None:
    """Check format and size of an image from its head, without decoding the pixels, by the rules of the graph.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        max_megapixels: Pixels that it may have, in millions, where that is less than the limit of its format: 128 for
            JPEG, 64 for the others.

    Raises:
        ImageError: It is none of JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF and HEIC, is damaged or has more pixels.
    """
    open_bounded(data, name, max_megapixels=max_megapixels)


def opened(
    data: bytes, name: str, *, max_megapixels: float | None = None, formats: tuple[str, ...] = FORMATS
) -> Image.Image:
    """Return an image file as `for_graph` makes it, its pixels not yet decoded.

    Args:
        data: The file's bytes.
        name: What to call it in an error.
        max_megapixels: See `check_image`.
        formats: Formats that it may have, from `FORMATS`.

    Raises:
        ImageError: As for `check_image`, or it has another format.
    """
    if formats is not FORMATS and kind_of(data[:KIND_BYTES]) not in formats:
        raise ImageError(f"{name}: not a {_listed(formats)} image.")
    picture = open_bounded(data, name, max_megapixels=max_megapixels)
    return picture if graph_decodes(data) else Image.open(io.BytesIO(converted(picture, name)), formats=["PNG"])


def _listed(formats: tuple[str, ...]) -> str:
    names = [NAMES.get(form, form) for form in formats]
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
