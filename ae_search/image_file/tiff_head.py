"""The head of a TIFF, read and written anew with what its first picture needs, before a decoder sees the file.

A TIFF is a list of tags that may lie anywhere in the file, any number of times, and any number of further lists: a
reader that follows them all can be kept busy, or filled, by a small file. TIFF 6.0 has the tags.
"""

import struct
from dataclasses import dataclass
from typing import Literal

from ae_search.errors import ImageError

MAX_TIFF_TAGS = 1024
# Offsets of strips and tiles, and bytes in each; a photograph has one for some rows.
MAX_TIFF_STRIPS = 2**16
MAX_PROFILE_BYTES = 4 * 2**20

NO_TIFF = "a damaged TIFF: its head does not tell its size"
MANY_STRIPS = f"a TIFF of more than {MAX_TIFF_STRIPS} strips or tiles; save it anew"
ODD_COMPRESSION = "a TIFF of a compression that is not supported; save it as PNG"

DEEP_PLANES = "a TIFF that keeps its colours apart and has not 8 bits of each; save it as PNG"

_BITS, _PLANES, _APART = 258, 284, 2
_WIDTH, _HEIGHT, _COMPRESSION, _TILE_WIDTH, _TILE_HEIGHT, _PROFILE = 256, 257, 259, 322, 323, 34675
# What the first picture needs: size, samples, colours, strips, tiles, orientation, JPEG tables, the colour profile.
_TAGS = frozenset({
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, 262, 266, 273, 274, 277, 278, 279, _PLANES, 292, 293, 317, 318, 319, 320),
    *(_TILE_WIDTH, _TILE_HEIGHT, 324, 325, 332, 338, 339, 347, 529, 530, 531, 532, _PROFILE),
})  # fmt: skip
# None, CCITT, LZW, JPEG, deflate, PackBits.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
_BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class _Form:
    """How numbers are written in a TIFF: "<" or ">", and with 4 or 8 bytes."""

    order: str
    large: bool

    @property
    def endian(self) -> Literal["little", "big"]:
        """The same as Python names it."""
        return "little" if self.order == "<" else "big"

    @property
    def entry(self) -> struct.Struct:
        """Tag, type, count, value or offset."""
        return struct.Struct(self.order + ("HHQ8s" if self.large else "HHI4s"))

    def number(self, data: bytes) -> int:
        """Return a whole number of as many bytes as there are."""
        return int.from_bytes(data, self.endian)


@dataclass(frozen=True)
class TiffHead:
    """What the head of a TIFF says of its first picture.

    Attributes:
        width: In px.
        height: In px.
        pixels: Pixels that a decoder fills at once, those of a tile that is larger than the picture too.
        data: The file, in which the first picture is the only one and has the tags that it needs.
    """

    width: int
    height: int
    pixels: int
    data: bytes


def read_tiff(data: bytes) -> TiffHead:
    """Return the size of a TIFF's first picture, and the file without all other pictures and tags.

    Args:
        data: The file's bytes.

    Raises:
        ImageError: It tells no size, or has more tags or strips than a photograph, or a rare compression.
    """
    form = _Form("<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+"))
    wide = 8 if form.large else 4
    at = form.number(data[wide : 2 * wide])
    counted = 8 if form.large else 2
    count = form.number(data[at : at + counted])
    start = at + counted
    if not 0 < count <= MAX_TIFF_TAGS or start + count * form.entry.size > len(data):
        raise ImageError(NO_TIFF)
    entries = [form.entry.unpack_from(data, start + number * form.entry.size) for number in range(count)]
    kept = {tag: (tag, kind, length, value) for tag, kind, length, value in entries if tag in _TAGS}
    for tag, kind, length, _ in kept.values():
        _check_length(tag, kind, length)
    table = b"".join(form.entry.pack(*kept[tag]) for tag in sorted(kept))
    written = len(kept).to_bytes(counted, form.endian)
    head = _sizes(data, form, kept)
    # Behind the last tag stands where the next picture's are: nowhere.
    anew = data[:at] + written + table + bytes(wide) + data[start + len(table) + wide :]
    return TiffHead(*head, anew)


def _check_length(tag: int, kind: int, length: int) -> None:
    if kind not in _BYTES_OF_TYPE:
        raise ImageError(NO_TIFF)
    if tag == _PROFILE:
        if length * _BYTES_OF_TYPE[kind] > MAX_PROFILE_BYTES:
            raise ImageError(f"a TIFF with a colour profile of more than {MAX_PROFILE_BYTES >> 20} MiB")
    elif length > MAX_TIFF_STRIPS:
        raise ImageError(MANY_STRIPS)


def _sizes(data: bytes, form: _Form, entries: dict[int, tuple[int, int, int, bytes]]) -> tuple[int, int, int]:
    """Return width, height and the pixels to fill at once."""

    def number(tag: int) -> int:  # the first one where there are several
        if tag not in entries:
            return 0
        _, kind, length, value = entries[tag]
        size = _BYTES_OF_TYPE[kind]
        at = form.number(value)
        return form.number(value[:size] if size * length <= len(value) else data[at : at + size])

    width, height, tile = number(_WIDTH), number(_HEIGHT), number(_TILE_WIDTH) * number(_TILE_HEIGHT)
    if not (width and height):
        raise ImageError(NO_TIFF)
    if _COMPRESSION in entries and number(_COMPRESSION) not in _COMPRESSIONS:
        raise ImageError(ODD_COMPRESSION)
    if number(_PLANES) == _APART and number(_BITS) != 8:
        raise ImageError(DEEP_PLANES)  # Pillow would read them as if they had 8
    return width, height, max(width * height, tile)
