"""What the head of an image file says: its format, and how many pixels decoding would fill. Nothing is decoded.

`data/decode.py` has the same rules as a graph; `tests/strangers/test_image_heads.py` compares the two.
"""

from dataclasses import dataclass

from ae_search.errors import ImageError
from ae_search.image_file.gif import gif_size
from ae_search.image_file.jpeg import START as JPEG_START
from ae_search.image_file.jpeg import jpeg_size, truncated

__all__ = ["ImageHead", "graph_decodes", "limit_of", "read_head", "truncated"]

MAX_MEGAPIXELS = 64
MAX_JPEG_MEGAPIXELS = 128  # phones make 108

# Texts that a PNG carries compressed unfold to 8 MB each.
PNG_TEXT, PNG_TEXTS = (b"zTXt", b"iTXt"), 10
# Each scan of a JPEG goes over all of its pixels. Its marker may stand by chance in a film behind the picture as well,
# as phones put it there: once in 65,536 bytes.
JPEG_SCAN, JPEG_SCANS = b"\xff\xda", 2**16
SCANNED_PIXELS = 128 * MAX_JPEG_MEGAPIXELS * 1_000_000
# What the graph takes for each pixel at its peak, beyond the file, measured: 11 of a progressive JPEG in four colours.
BYTES_A_PIXEL = 12
# Headers with 32 bits of width and height, as Pillow knows them; TensorFlow takes any other for one of these.
BMP_HEADERS = (40, 52, 56, 64, 108, 124)
BMP_BITS = (8, 24, 32)
# Of 32 bits, masks of colours may stand behind the first 40 bytes: these are the order that all other files have.
BMP_MASKED, BMP_MASKED_HEADERS = 3, (40, 52, 56, 108, 124)
BMP_MASKS = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"
BMP_ALPHA, BMP_ALPHA_HEADERS = b"\0\0\0\xff", (56, 108, 124)
VP8_START, VP8L_START = b"\x9d\x01\x2a", b"/"
WEBP_ANIMATION_FLAG = 0x02

NO_IMAGE = "not a JPEG, PNG, GIF, BMP or WebP image"
NO_SIZE = "a damaged image: its head does not tell its size"
NO_BMP = "a BMP of a kind that is not supported; save it with 8, 24 or 32 bits without compression, or as PNG"
ANIMATED_WEBP = "animated WebP is not supported; save one frame of it"
MANY_TEXTS = "a PNG with more than 10 compressed texts"
MANY_SCANS = "a JPEG of too many scans for its size; save it anew"


@dataclass(frozen=True, slots=True)
class ImageHead:
    """What the head of a file says.

    Attributes:
        form: "JPEG", "PNG", "GIF", "BMP" or "WEBP".
        width: In px; of a GIF, that of its screen, or of its first frame where that reaches beyond.
        height: In px, likewise.
        pixels: Pixels that a decoder fills.
    """

    form: str
    width: int
    height: int
    pixels: int

    @property
    def limit(self) -> int:
        """Megapixels that a file of this format may have."""
        return limit_of(self.form)

    @property
    def size(self) -> str:
        """Width and height for a person."""
        return f"{self.width} x {self.height} px"


def limit_of(form: str) -> int:
    """Return how many megapixels a file of a format may have."""
    return MAX_JPEG_MEGAPIXELS if form == "JPEG" else MAX_MEGAPIXELS


def read_head(data: bytes) -> ImageHead:
    """Return format and size of an image file.

    Args:
        data: The file's bytes, at least its head; all of a GIF.

    Raises:
        ImageError: It is none of the five formats, tells no size, or is of a kind that no decoder here takes. The text
            does not name the file.
    """
    # In this order TensorFlow looks for them.
    if data.startswith(JPEG_START):
        head = _still("JPEG", *jpeg_size(data))
        if data.count(JPEG_SCAN) > min(JPEG_SCANS, SCANNED_PIXELS // head.pixels):
            raise ImageError(MANY_SCANS)
        return head
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        if data[8:16] != b"\0\0\0\rIHDR":
            raise ImageError(NO_SIZE)
        if any(data.count(text) > PNG_TEXTS for text in PNG_TEXT):
            raise ImageError(MANY_TEXTS)
        return _still("PNG", int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    if data.startswith(b"GIF8"):
        return _still("GIF", *gif_size(data))
    if data.startswith(b"BM"):
        return _still("BMP", *_bmp_size(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _still("WEBP", *_webp_size(data))
    raise ImageError(NO_IMAGE)


def graph_decodes(data: bytes) -> bool:
    """Return whether a model's graph decodes an image file as a person sees it.

    Where it does not, Pillow may: TIFF, HEIC and the like, animated WebP, BMP of rare kinds. A file that `read_head`
    refuses for what it would take to decode is none of those, and must not be given to another decoder.

    Args:
        data: The file's bytes.
    """
    try:
        head = read_head(data)
    except ImageError as error:
        return str(error) not in (NO_IMAGE, NO_BMP, ANIMATED_WEBP)
    return head.form != "BMP" or data[30:34] not in (b"\1\0\0\0", b"\2\0\0\0")  # runs of equal pixels


def _still(form: str, width: int, height: int) -> ImageHead:
    if width <= 0 or height <= 0:
        raise ImageError(NO_SIZE)
    return ImageHead(form, width, height, width * height)


def _bmp_size(data: bytes) -> tuple[int, int]:
    header, bits, packed = (_little_endian(data, at, count) for at, count in ((14, 4), (28, 2), (30, 4)))
    masked = packed == BMP_MASKED and bits == 32 and header in BMP_MASKED_HEADERS and data[54:66] == BMP_MASKS
    if header in BMP_ALPHA_HEADERS:
        masked = masked and data[66:70] in (BMP_ALPHA, b"\0\0\0\0")
    if header not in BMP_HEADERS or bits not in BMP_BITS or not (packed == 0 or masked):
        raise ImageError(NO_BMP)
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return width, abs(height)  # rows from the top down have a negative height


def _webp_size(data: bytes) -> tuple[int, int]:
    form = data[12:16]
    if form == b"VP8X":
        if _little_endian(data, 20, 1) & WEBP_ANIMATION_FLAG:
            raise ImageError(ANIMATED_WEBP)
        return 1 + _little_endian(data, 24, 3), 1 + _little_endian(data, 27, 3)
    if form == b"VP8 " and data[23:26] == VP8_START:
        return _little_endian(data, 26) & 0x3FFF, _little_endian(data, 28) & 0x3FFF
    if form == b"VP8L" and data[20:21] == VP8L_START:
        bits = _little_endian(data, 21, 4)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise ImageError(NO_SIZE)


def _little_endian(data: bytes, at: int, count: int = 2) -> int:
    return int.from_bytes(data[at : at + count], "little")
