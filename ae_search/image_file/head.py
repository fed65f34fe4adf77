"""What the head of an image file says: its format, and how many pixels decoding would fill. Nothing is decoded.

`data/decode.py` has the same rules as a graph; `tests/strangers/test_image_heads.py` compares the two.
"""

import re
from dataclasses import dataclass

from ae_search.errors import ImageError

MAX_MEGAPIXELS = 64
MAX_JPEG_MEGAPIXELS = 128  # phones make 108

# A GIF is walked to count its frames; the bounds keep the walk short on files that were made to be long.
GIF_STEPS = 2**14
GIF_RUN = 256
GIF_COMMENTS = 2**14
# Texts that a PNG carries compressed unfold to 8 MB each.
PNG_TEXT, PNG_TEXTS = (b"zTXt", b"iTXt"), 10
# Each scan of a JPEG goes over all of its pixels. Its marker may stand by chance in a film behind the picture as well,
# as phones put it there: once in 65,536 bytes.
JPEG_SCAN, JPEG_SCANS = b"\xff\xda", 2**16
SCANNED_PIXELS = 128 * MAX_JPEG_MEGAPIXELS * 1_000_000
JPEG_STEPS = 2**16
# Headers with 32 bits of width and height, as Pillow knows them; TensorFlow takes any other for one of these.
BMP_HEADERS = (40, 52, 56, 64, 108, 124)
BMP_BITS = (8, 24, 32)
VP8_START, VP8L_START = b"\x9d\x01\x2a", b"/"
WEBP_ANIMATION_FLAG = 0x02

NO_IMAGE = "not a JPEG, PNG, GIF, BMP or WebP image"
NO_SIZE = "a damaged image: its head does not tell its size"
NO_BMP = "a BMP of a kind that is not supported; save it with 8, 24 or 32 bits, or as PNG"
ANIMATED_WEBP = "animated WebP is not supported; save one frame of it"
LONG_GIF = "a GIF of too many blocks; save its first frame"
MANY_TEXTS = "a PNG with more than 10 compressed texts"
MANY_SCANS = "a JPEG of too many scans for its size; save it anew"

# Of JPEG, the bytes in which a decoder finds the size.
_SIZES_OF_JPEG = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FILL = re.compile(rb"\xff+")
_ALONE_IN_JPEG = frozenset({0x01, *range(0xD0, 0xD8)})


@dataclass(frozen=True, slots=True)
class ImageHead:
    """What the head of a file says.

    Attributes:
        form: "JPEG", "PNG", "GIF", "BMP" or "WEBP".
        width: In px; of a GIF, that of its widest frame.
        height: In px; of a GIF, that of its highest frame.
        frames: Frames of a GIF, 1 for other formats.
        pixels: Pixels that a decoder fills, those of all frames together.
    """

    form: str
    width: int
    height: int
    frames: int
    pixels: int

    @property
    def limit(self) -> int:
        """Megapixels that a file of this format may have."""
        return limit_of(self.form)

    @property
    def size(self) -> str:
        """Width and height for a person, and the number of frames where there are several."""
        frames = f" in {self.frames} frames" if self.frames > 1 else ""
        return f"{self.width} x {self.height} px{frames}"


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
    if data.startswith(b"\xff\xd8\xff"):
        head = _still("JPEG", *_jpeg_size(data))
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
        return _gif(data)
    if data.startswith(b"BM"):
        return _still("BMP", *_bmp_size(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _still("WEBP", *_webp_size(data))
    raise ImageError(NO_IMAGE)


def graph_decodes(data: bytes) -> bool:
    """Return whether a model's graph decodes a file as a person sees it; others are to be turned into PNG first."""
    try:
        head = read_head(data)
    except ImageError:
        return False
    return head.form != "BMP" or data[30:34] not in (b"\1\0\0\0", b"\2\0\0\0")  # runs of equal pixels


def truncated(data: bytes) -> bool:
    """Return whether a file is a JPEG that is cut short: without its end marker, which zeros may follow."""
    return data.startswith(b"\xff\xd8\xff") and not data.rstrip(b"\0").endswith(b"\xff\xd9")


def _still(form: str, width: int, height: int) -> ImageHead:
    if width <= 0 or height <= 0:
        raise ImageError(NO_SIZE)
    return ImageHead(form, width, height, 1, width * height)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the markers as libjpeg does: bytes between them are passed over, the first frame header counts."""
    at = 2
    for _ in range(JPEG_STEPS):
        found = _FILL.search(data, at)
        if found is None or found.end() == len(data):
            break
        at, marker = found.end() - 1, data[found.end()]
        if marker == 0 or marker in _ALONE_IN_JPEG:
            at += 2
        elif marker in _SIZES_OF_JPEG:
            return _big_endian(data, at + 7), _big_endian(data, at + 5)
        elif 0xD8 <= marker <= 0xDA:
            break
        else:
            at += 2 + max(2, _big_endian(data, at + 2))
    raise ImageError(NO_SIZE)


def _gif(data: bytes) -> ImageHead:
    """Count all frames: TensorFlow's decoder unpacks each, on a canvas as wide and high as any of them."""
    at = 13 + _colour_table_bytes(data, 10)
    width, height, frames, pixels, comments = _little_endian(data, 6), _little_endian(data, 8), 0, 0, 0
    within = b""  # what opened the series of blocks that we are in
    for _ in range(GIF_STEPS):
        if not within:
            within = data[at : at + 1]
            if within == b",":
                frame_width, frame_height = _little_endian(data, at + 5), _little_endian(data, at + 7)
                width, height = max(width, frame_width), max(height, frame_height)
                frames, pixels = frames + 1, pixels + frame_width * frame_height
                at += 11 + _colour_table_bytes(data, at + 9)
            elif within == b"!":
                at += 2
                if data[at : at + 1] in (b"", b"\0"):  # decoders disagree on what follows
                    raise ImageError(NO_SIZE)
            else:
                break
        run, block_bytes = _equal_blocks(data, at)
        at += run * block_bytes
        comments += run if within == b"!" else 0
        if data[at : at + 1] == b"\0":
            at, within = at + 1, b""
        if at >= len(data):
            break
    else:
        raise ImageError(LONG_GIF)
    if width <= 0 or height <= 0:
        raise ImageError(NO_SIZE)
    if comments > GIF_COMMENTS:
        raise ImageError(LONG_GIF)
    return ImageHead("GIF", width, height, frames, max(pixels, width * height))


def _colour_table_bytes(data: bytes, at: int) -> int:
    flags = int.from_bytes(data[at : at + 1])
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _equal_blocks(data: bytes, at: int) -> tuple[int, int]:
    """Return how many blocks of one size follow each other, up to a bound, and how many bytes each has."""
    size = data[at : at + 1]
    if size in (b"", b"\0"):
        return 0, 0
    sizes = data[at : at + (size[0] + 1) * GIF_RUN : size[0] + 1]
    return len(sizes) - len(sizes.lstrip(size)), size[0] + 1


def _bmp_size(data: bytes) -> tuple[int, int]:
    if _little_endian(data, 14, 4) not in BMP_HEADERS or _little_endian(data, 28) not in BMP_BITS:
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


def _big_endian(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
