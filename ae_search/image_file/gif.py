"""The first frame of a GIF, found without decoding: `data/gif_frames.py` has the same walk as a graph."""

from ae_search.errors import ImageError

# The bounds keep the walk short on files that were made to be long.
GIF_STEPS = 2**14
GIF_RUN = 256
GIF_COMMENTS = 2**14

LONG_GIF = "a GIF of too many blocks; save its first frame"
NO_FRAME = "a damaged image: its head does not tell its size"


def gif_size(data: bytes) -> tuple[int, int]:
    """Return width and height in px of a GIF: those of its screen, or of its first frame where that reaches beyond.

    Args:
        data: The file's bytes, at least up to the end of its first frame.

    Raises:
        ImageError: It is damaged, or has too many blocks before the end of its first frame. The text does not name
            the file.
    """
    at = 13 + _colour_table_bytes(data, 10)
    width, height, comments = _number(data, 6), _number(data, 8), 0
    within = b""  # what opened the series of blocks that we are in
    for _ in range(GIF_STEPS):
        if not within:
            within = data[at : at + 1]
            if within == b",":
                width = max(width, _number(data, at + 1) + _number(data, at + 5))
                height = max(height, _number(data, at + 3) + _number(data, at + 7))
                at += 11 + _colour_table_bytes(data, at + 9)
            elif within == b"!":
                at += 2
                if data[at : at + 1] in (b"", b"\0"):  # decoders disagree on what follows
                    raise ImageError(NO_FRAME)
            else:
                break
        run, block_bytes = _equal_blocks(data, at)
        at += run * block_bytes
        comments += run if within == b"!" else 0
        if data[at : at + 1] == b"\0":
            if within == b",":
                break
            at, within = at + 1, b""
        if at >= len(data):
            break
    else:
        raise ImageError(LONG_GIF)
    if comments > GIF_COMMENTS:
        raise ImageError(LONG_GIF)
    return width, height


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


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")
