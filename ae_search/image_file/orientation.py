"""How the pixels of an image file lie: the EXIF orientation, found by a walk over the containers that carry it.

`data/orientation.py` has the same walk as a graph; `tests/data/test_orientation.py` compares the two. Like browsers,
neither looks at XMP. A file that is damaged, or too long to walk, is upright.
"""

from collections.abc import Iterator
from functools import partial

UPRIGHT = 1
ORIENTATIONS = range(1, 9)
TAG = 0x0112
# SHORT and LONG: how many bytes the value has.
VALUE_BYTES = {3: 2, 4: 4}
PREFIX = b"Exif\0\0"
JPEG_SEGMENTS = 2**10
# A step passes over one chunk of a PNG, or over a run of chunks of one size: encoders write pixels so.
PNG_STEPS, PNG_RUN, PNG_RUN_BYTES = 2**10, 256, 2**21
WEBP_CHUNKS = 2**8
WEBP_EXIF_FLAG = 0x08


def orientation(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG, PNG or WebP file, 1 to 8; 1 (upright) where it tells none.

    Args:
        data: The file's bytes.
    """
    if data.startswith(b"\xff\xd8\xff"):
        exif = _exif_of_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        exif = _exif_of_png(data) if b"eXIf" in data else b""
    elif data.startswith(b"RIFF") and data[8:16] == b"WEBPVP8X" and data[20:21] and data[20] & WEBP_EXIF_FLAG:
        exif = _exif_of_webp(data)
    else:
        return UPRIGHT
    return _orientation_of(exif.removeprefix(PREFIX))


def _exif_of_jpeg(data: bytes) -> bytes:
    at = 2
    for _ in range(JPEG_SEGMENTS):
        mark, marker = data[at : at + 1], data[at + 1 : at + 2]
        if mark != b"\xff" or marker == b"\xff":  # bytes between segments, fill bytes
            at += 1
            continue
        if marker in (b"\xda", b"\xd9", b""):
            break
        if marker in (b"\0", b"\x01") or b"\xd0" <= marker <= b"\xd7":
            at += 2
            continue
        size = max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        if marker == b"\xe1" and data[at + 4 : at + 10] == PREFIX:
            return data[at + 10 : at + 2 + size]
        at += 2 + size
    return b""


def _exif_of_png(data: bytes) -> bytes:
    at = 8
    for _ in range(PNG_STEPS):
        head = data[at : at + 8]
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return data[at + 8 : at + 8 + size]
        if len(head) < 8 or head[4:] == b"IEND":
            break
        stride = size + 12
        run = min(max(1, PNG_RUN_BYTES // stride), PNG_RUN)
        at += stride * _equal(head, (data[here : here + 8] for here in range(at, at + run * stride, stride)))
    return b""


def _equal(head: bytes, heads: Iterator[bytes]) -> int:
    """Return how many chunks in a row begin as the first does."""
    count = 0
    for other in heads:
        if other != head:
            break
        count += 1
    return count


def _exif_of_webp(data: bytes) -> bytes:
    at = 12
    for _ in range(WEBP_CHUNKS):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return data[at + 8 : at + 8 + size]
        if at + 8 > len(data):
            break
        at += 8 + size + size % 2
    return b""


def _orientation_of(exif: bytes) -> int:
    """Return what the first directory of a TIFF says; of several entries the last counts, as for Pillow."""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return UPRIGHT
    number = partial(int.from_bytes, byteorder="big" if exif[:1] == b"M" else "little")
    at, found = number(exif[4:8]), UPRIGHT
    count = number(exif[at : at + 2])
    for entry in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        value_bytes = VALUE_BYTES.get(number(exif[entry + 2 : entry + 4]), 0)
        if number(exif[entry : entry + 2]) == TAG and value_bytes and number(exif[entry + 4 : entry + 8]) == 1:
            found = number(exif[entry + 8 : entry + 8 + value_bytes])
    return found if found in ORIENTATIONS else UPRIGHT
