"""Small image files that ask for much: pixels, frames, texts or scans."""

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def picture(size=(7, 5), seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size, *, bits=8, colour=0, row=b"\0\0", before=b"", between=b"", after=b""):
    """A PNG of equal rows, with chunks before its header, before its pixels and after them."""
    rows = 100 if size[1] % 100 == 0 else 1
    deflate = zlib.compressobj(9, wbits=-15)
    block = deflate.compress(row * rows) + deflate.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(size[1] // rows):
        check = zlib.adler32(row * rows, check)
    pixels = b"\x78\xda" + block * (size[1] // rows) + b"\3\0" + struct.pack(">I", check)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n", before, header, between, chunk(b"IDAT", pixels), after, chunk(b"IEND", b"")]
    return b"".join(parts)


def gif(screen, frames, *, before=b""):
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + before + b"".join(frames) + b";"


def frame(size):
    """One frame of a GIF, all black."""
    data = encoded(Image.new("P", size), "GIF")
    return data[data.index(b",", 13 + (3 << (data[10] % 8 + 1) if data[10] & 0x80 else 0)) : -1]


def patched(data, *patches):
    """A file with other bytes at some places."""
    changed = bytearray(data)
    for at, new in patches:
        changed[at : at + len(new)] = new
    return bytes(changed)


def jpeg(size, **options):
    """A JPEG whose frame header promises another size."""
    data = encoded(picture(), "JPEG", **options)
    at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    return patched(data, (at + 5, struct.pack(">HH", *size[::-1])))


@functools.cache
def bombs():
    """Files by name, each refused by every way in."""
    text = zlib.compress(b"A" * 7_900_000, 9)
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    grey, progressive = encoded(picture(), "JPEG"), jpeg((8_000, 8_000), progressive=True)
    lossy, lossless = encoded(picture(), "WEBP"), encoded(picture(), "WEBP", lossless=True)
    clear = picture().convert("RGBA")
    clear.putalpha(100)
    extended = encoded(clear, "WEBP")
    bmp, palette = encoded(picture(), "BMP"), encoded(picture().convert("P"), "BMP")
    largest_lossless = (16_382 | 16_382 << 14).to_bytes(4, "little")
    return {
        "144 megapixels.png": png((12_000, 12_000), colour=6, row=b"\0" * 48_001),
        "484 megapixels of one bit.png": png((22_000, 22_000), bits=1, row=b"\0" * 2_751),
        "hundred texts.png": png((1, 1), between=100 * chunk(b"zTXt", b"k\0\0" + text)),
        "hundred texts at the end.png": png((1, 1), after=100 * chunk(b"iTXt", b"k\0\1\0\0\0" + text)),
        "another head first.png": png(
            (30_000, 30_000), row=b"\0" * 30_001, before=chunk(b"abCd", struct.pack(">IIB", 1, 1, 8))
        ),
        "a wide frame beyond a high screen.gif": gif((1, 60_000), [frame((60_000, 1))]),
        "a frame far off.gif": gif((9, 9), [patched(frame((9, 9)), (1, b"\xff\xff\xff\xff"))]),
        "a frame beyond the screen.gif": gif((1, 1), [patched(frame((9, 9)), (5, b"\xff\xff\xff\xff"))]),
        "a million comments.gif": gif((9, 9), [frame((9, 9))], before=b"!\xfe" + b"\1a" * 1_000_000 + b"\0"),
        "an empty comment hides.gif": gif((9, 9), [b"!\xfe\0", frame((9, 9))]),
        "run length.bmp": patched(palette, (18, struct.pack("<ii", 60_000, 60_000)), (30, b"\1")),
        "from the top.bmp": patched(bmp, (18, struct.pack("<ii", 30_000, -30_000))),
        "of OS2.bmp": patched(bmp, (14, struct.pack("<IHHHH", 12, 65_000, 65_000, 1, 24))),
        "lossy.webp": patched(lossy, (26, struct.pack("<HH", 16_383, 16_383))),
        "lossless.webp": patched(lossless, (21, largest_lossless)),
        "extended.webp": patched(extended, (24, b"\xff" * 6)),
        "animated.webp": patched(
            encoded(picture(), "WEBP", save_all=True, append_images=[picture(seed=1)]), (24, b"\xff" * 6)
        ),
        "bare.webp": lossless[:12] + lossless[20:],
        "sequential.jpg": jpeg((65_500, 65_500)),
        "progressive.jpg": jpeg((65_500, 65_500), progressive=True),
        "132 megapixels.jpg": jpeg((12_000, 11_000)),
        "garbage first.jpg": jpeg((65_500, 65_500)).replace(b"\xff\xc0", b"\0\1\xff\0\xff\xff\xff\xc0"),
        "a small size in a comment.jpg": patched(
            jpeg((65_500, 65_500)), (2, b"\xff\xfe\0\x0e\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0" + grey[2:20])
        ),
        "thousand scans.jpg": progressive[:-2] + 1000 * scan + progressive[-2:],
        "no size.jpg": b"\xff\xd8" + b"\xff\xe1\0\x10" + b"\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0\0" + b"\xff\xd9",
    }
