"""Image files that TensorFlow cannot decode, turned into PNG before a model's graph sees them.

One function for the clients and for training: what they send and what is learned from are the same bytes.
"""

import io
import math
import threading
import warnings

import numpy as np
from PIL import Image, ImageCms

from ae_search.errors import ImageError
from ae_search.image_file.head import graph_decodes
from ae_search.image_file.kinds import KIND_BYTES, kind_of
from ae_search.image_file.opening import DECODER_ERRORS, open_bounded

# A picture is made smaller by a whole number while its shorter side keeps so many px, more than models take: PNG of
# photographs are large.
KEPT_SIDE_PX = 1024
# As RGB, even the worst of them stays below the limit of a file.
KEPT_PIXELS = 16_000_000

NO_BRIGHTNESS = "its samples are {}; save it with 8 or 16 bits a sample"

_ORIENTATION = 0x0112
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# One at a time: each takes some bytes for each of up to 64 million pixels.
_CONVERTING = threading.Lock()
_ROWS = 256


def for_graph(data: bytes, name: str, *, max_megapixels: float | None = None) -> bytes:
    """Return an image file as a model's graph takes it: the same bytes where it decodes them, else a PNG.

    The PNG is what a person sees: the first frame or page, upright by its EXIF, in sRGB, over white, of 8 bits. It is
    made smaller by a whole number where its shorter side keeps 1,024 px.

    Args:
        data: JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF, or HEIC, for which pillow-heif must be installed.
        name: What to call it in an error.
        max_megapixels: See `check_image`.

    Raises:
        ImageError: It is of no such kind, damaged or too large.
    """
    picture = open_bounded(data, name, max_megapixels=max_megapixels)
    return data if graph_decodes(data) else converted(picture, name)


def may_be_converted(data: bytes) -> bool:
    """Return whether `for_graph` may have to decode a file, which takes a while."""
    return kind_of(data[:KIND_BYTES]) not in ("JPEG", "PNG", "GIF")


def converted(picture: Image.Image, name: str) -> bytes:
    """Return an open image file as the PNG that `for_graph` tells of.

    Raises:
        ImageError: Its pixels cannot be decoded.
    """
    with _CONVERTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with picture:
                return _png(_seen(picture))
        except ImageError as error:
            raise ImageError(f"{name}: {error}.") from error
        except MemoryError as error:
            raise ImageError(f"{name}: there is not enough memory to decode it.") from error
        except DECODER_ERRORS as error:
            raise ImageError(f"{name}: damaged image ({error}).") from error


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # it is read once, not kept
    return buffer.getvalue()


def _seen(picture: Image.Image) -> Image.Image:
    """Return what a person sees of a picture: grey or RGB."""
    picture.load()
    turn, profile = _UPRIGHT.get(_orientation(picture)), picture.info.get("icc_profile")
    seen = _in_eight_bits(picture)
    factor = _reduction(seen.size)
    if factor > 1:
        seen = seen.reduce(factor)
    seen = _in_srgb(_over_white(seen), profile)
    if turn is not None:
        seen = seen.transpose(turn)
    seen.info.clear()
    return seen


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, upright where it cannot be read; as in the graph, XMP is not asked."""
    for name in ("xmp", "XML:com.adobe.xmp"):
        picture.info.pop(name, None)
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except DECODER_ERRORS:
        return 1


def _reduction(size: tuple[int, int]) -> int:
    width, height = size
    too_many = math.ceil(math.sqrt(width * height / KEPT_PIXELS))
    return max(1, min(size) // KEPT_SIDE_PX, too_many if width * height > KEPT_PIXELS else 1)


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """Return a picture in a mode of 8 bits a sample that can be averaged."""
    mode = picture.mode
    if mode.startswith("I;16"):
        return _from_many_bits(picture)
    if mode == "F":
        return _from_floats(picture)
    if mode == "I":
        raise ImageError(NO_BRIGHTNESS.format("whole numbers of 32 bits"))
    if picture.has_transparency_data and mode not in ("LA", "RGBA"):
        return picture.convert("RGBA")
    if mode == "1":
        return picture.convert("L")
    return picture if mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB") else picture.convert("RGB")


def _from_many_bits(picture: Image.Image) -> Image.Image:
    """Return grey of 9 to 16 bits; of TIFF, Pillow says neither how many they are nor that 0 is white."""
    tags = getattr(picture, "tag_v2", {})
    grey = (np.asarray(picture) >> (int(tags.get(_BITS, (16,))[0]) - 8)).astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey)


def _from_floats(picture: Image.Image) -> Image.Image:
    """Return grey of floating point, 0 black and 1 white; which brightness others are, nobody can know."""
    samples = np.asarray(picture)
    grey = np.empty(samples.shape, np.uint8)
    for start in range(0, len(samples), _ROWS):
        rows = samples[start : start + _ROWS]
        if not (rows.min() >= 0 and rows.max() <= 1):
            raise ImageError(NO_BRIGHTNESS.format("floating point, and not from 0 to 1"))
        grey[start : start + _ROWS] = np.rint(255 * rows)
    return Image.fromarray(grey)


def _over_white(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("LA", "RGBA"):
        return picture
    opaque = picture.mode.removesuffix("A")
    page = Image.new(opaque, picture.size, "white")
    page.paste(picture.convert(opaque), mask=picture.getchannel("A"))
    return page


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture in the colours that its profile means; one that cannot be used is passed over."""
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            turned = ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if turned is not None:
                return turned
        except (ImageCms.PyCMSError, *DECODER_ERRORS):
            pass
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
