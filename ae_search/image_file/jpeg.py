"""The segments of a JPEG: its size, and whether its end is missing. Nothing is decoded."""

import re

from ae_search.errors import ImageError

START, END = b"\xff\xd8\xff", b"\xff\xd9"
STEPS = 2**16

NO_SIZE = "a damaged image: its head does not tell its size"
CUT_SHORT = "a JPEG that is cut short, with less than half of its rows; get the whole file"

# The bytes in which a decoder finds the size.
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FILL = re.compile(rb"\xff+")
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SCAN = 0xDA


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height in px of a JPEG.

    Markers are walked as libjpeg does: bytes between them are passed over, the first frame header counts.

    Raises:
        ImageError: No size is found. The text does not name the file.
    """
    at = _find(data, _SIZES)
    if at is None:
        raise ImageError(NO_SIZE)
    return _number(data, at + 7), _number(data, at + 5)


def truncated(data: bytes) -> bool:
    """Return whether an image file is a JPEG whose end is missing: pixels came, and no end of the image after them.

    A decoder fills what is missing with grey.

    Args:
        data: The file's bytes.
    """
    if not data.startswith(START):
        return False
    at = _find(data, frozenset({_SCAN}))
    # Within pixels this pair of bytes cannot be.
    return at is not None and data.find(END, at) < 0


def _find(data: bytes, wanted: frozenset[int]) -> int | None:
    """Return where the first of some markers begins, at its last 0xFF; None where the walk ends before it."""
    at = 2
    for _ in range(STEPS):
        found = _FILL.search(data, at)
        if found is None or found.end() == len(data):
            break
        at, marker = found.end() - 1, data[found.end()]
        if marker in wanted:
            return at
        if marker == 0 or marker in _ALONE:
            at += 2
        elif 0xD8 <= marker <= _SCAN:
            break
        else:
            at += 2 + max(2, _number(data, at + 2))
    return None


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
