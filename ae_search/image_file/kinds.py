"""What kind of file some bytes begin, told by the bytes alone: a file's name says nothing about what is in it."""

from typing import Literal, get_args

Kind = Literal["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "HEIC", "AVIF", "JXL", "JP2"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# So many bytes of a file's beginning are enough.
KIND_BYTES = 64

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2"),
    (b"\xff\x4f\xff\x51", "JP2"),
)
# Brands of ISO media files (ISO/IEC 23008-12, AV1 Image File Format 1.1), the major one and the compatible ones.
_BRANDS: tuple[tuple[frozenset[bytes], Kind], ...] = (
    (frozenset({b"avif", b"avis"}), "AVIF"),
    (frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}), "HEIC"),
)


def kind_of(head: bytes) -> Kind | None:
    """Return the kind of image that a file is, None where it is none that is known.

    Args:
        head: The file's first `KIND_BYTES` bytes, or all of it.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}
        for known, kind in _BRANDS:
            if brands & known:
                return kind
    return None
