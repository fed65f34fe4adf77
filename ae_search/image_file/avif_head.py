"""The head of an AVIF: how many pixels its pictures have by their own account, before a decoder fills them.

The container tells a size, and each coded picture tells one again, which is the one that a decoder takes memory for.
ISO/IEC 14496-12 and 23008-12 have the boxes, the AV1 Bitstream Specification 5.5 has the sequence header.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ae_search.errors import ImageError

# Boxes or items beside each other, and units in an item; a photograph has a few of each.
MAX_BOXES = 1024
MAX_UNITS = 256

NO_AVIF = "a damaged AVIF: its head does not tell its size"

_SEQUENCE_HEADER, _HAS_EXTENSION, _HAS_SIZE = 1, 0x04, 0x02
_FILE, _IDAT = 0, 1  # where the bytes of an item lie


def coded_pixels(data: bytes) -> list[int]:
    """Return the pixels of each coded picture of an AVIF: of the image itself, its tiles, its alpha.

    Args:
        data: The file's bytes.

    Raises:
        ImageError: The file is damaged, or has no picture that is not part of a film.
    """
    meta = next((body for name, body in _boxes(data, 0, len(data)) if name == b"meta"), None)
    if meta is None:
        raise ImageError(NO_AVIF)
    children = dict(_boxes(data, meta.start + 4, meta.stop))
    if b"iloc" not in children:
        raise ImageError(NO_AVIF)
    idat = children.get(b"idat", range(0))
    found = [_pixels_of_item(item) for item in _items(data, children[b"iloc"], idat)]
    sizes = [pixels for pixels in found if pixels]
    if not sizes:
        raise ImageError(NO_AVIF)
    return sizes


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, range]]:
    """Yield name and body of each box."""
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        size, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        size = size or end - at
        if size < head:
            return
        yield name, range(at + head, min(at + size, end))
        at += size


@dataclass
class _Numbers:
    """Reads whole numbers, one behind the other; behind the end they are 0."""

    data: bytes
    at: int
    end: int

    def next(self, size: int) -> int:
        """Return the number that the next bytes are."""
        number = int.from_bytes(self.data[self.at : min(self.at + size, self.end)], "big")
        self.at += size
        return number


def _items(data: bytes, iloc: range, idat: range) -> Iterator[bytes]:
    """Yield the bytes of each item, no byte of the file more often than it is there."""
    read = _Numbers(data, iloc.start, iloc.stop)
    version = read.next(4) >> 24
    sizes = read.next(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    left = len(data)
    for _ in range(min(read.next(2 if version < 2 else 4), MAX_BOXES)):
        read.next(2 if version < 2 else 4)
        method = read.next(2) & 15 if version else _FILE
        read.next(2)
        base, parts = read.next(base_size), []
        for _ in range(min(read.next(2), MAX_BOXES)):
            read.next(index_size if version else 0)
            start, length = base + read.next(offset_size), read.next(length_size)
            if method == _IDAT:
                part = data[idat.start + start : min(idat.start + start + length, idat.stop)]
            else:
                part = data[start : start + length] if length else data[start:]
            left -= len(part)
            if left < 0:
                raise ImageError(NO_AVIF)
            parts.append(part)
        yield b"".join(parts)


def _pixels_of_item(item: bytes) -> int:
    """Return the largest size that a sequence header among the units of an item tells, 0 where there is none."""
    at, largest = 0, 0
    for _ in range(MAX_UNITS):
        if at >= len(item) or item[at] & 0x81:  # a unit begins with 0 and ends its head with 0: this is no AV1
            return largest
        head = item[at]
        at += 2 if head & _HAS_EXTENSION else 1
        size, at = _leb128(item, at) if head & _HAS_SIZE else (len(item) - at, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            largest = max(largest, _sequence_pixels(item[at : at + min(size, 1024)]))
        at += size
    raise ImageError(NO_AVIF)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for number, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << 7 * number
        if not byte & 0x80:
            return value, at + number + 1
    return len(data), at


class _Bits:
    """Reads bits of some bytes, behind the end zeros."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def next(self, count: int) -> int:
        """Return the number that the next bits are."""
        self._left -= count
        bits = self._bits >> self._left if self._left >= 0 else self._bits << -self._left
        return bits & ((1 << count) - 1)

    def exponent(self) -> None:
        """Pass over a number that begins with as many zeros as it has further bits."""
        zeros = 0
        while zeros < 32 and not self.next(1):
            zeros += 1
        self.next(zeros)


def _sequence_pixels(data: bytes) -> int:
    """Return the most pixels that a frame may have by a sequence header."""
    bits = _Bits(data)
    bits.next(4)
    if bits.next(1):  # of a still picture, shortened
        bits.next(5)
    else:
        _pass_operating_points(bits)
    width_bits, height_bits = 1 + bits.next(4), 1 + bits.next(4)
    return (1 + bits.next(width_bits)) * (1 + bits.next(height_bits))


def _pass_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.next(1):  # timing
        bits.next(64)
        if bits.next(1):
            bits.exponent()
        if bits.next(1):  # of the decoder
            delay_bits = 1 + bits.next(5)
            bits.next(42)
    shows_delay = bits.next(1)
    for _ in range(1 + bits.next(5)):
        bits.next(12)
        if bits.next(5) > 7:
            bits.next(1)
        if delay_bits and bits.next(1):
            bits.next(2 * delay_bits + 1)
        if shows_delay and bits.next(1):
            bits.next(4)
