"""Small image files of each kind, and what they become when bytes of them go wild."""

import functools
import random

from bombs import chunk, encoded, picture
from PIL import Image

WILD = (0x00, 0x01, 0x0C, 0x7F, 0x80, 0xFF)


@functools.cache
def kinds():
    """Valid files of 7 x 5 px by kind."""
    one, clear = picture(), picture().convert("RGBA")
    clear.putalpha(90)
    frames = [picture(seed=seed) for seed in (1, 2)]
    return {
        "jpeg": encoded(one, "JPEG", comment=b"hello"),
        "progressive jpeg": encoded(one, "JPEG", progressive=True),
        "grey jpeg": encoded(one.convert("L"), "JPEG"),
        "png": encoded(one, "PNG"),
        "palette png": encoded(one.quantize(4), "PNG"),
        "clear png": encoded(clear, "PNG"),
        "png with text": encoded(one, "PNG")[:-12] + chunk(b"tEXt", b"k\0text") + chunk(b"IEND", b""),
        "gif": encoded(one, "GIF"),
        "animated gif": encoded(one, "GIF", save_all=True, append_images=frames, comment=b"hello"),
        "bmp": encoded(one, "BMP"),
        "palette bmp": encoded(one.quantize(16), "BMP"),
        "grey bmp": encoded(one.convert("L"), "BMP"),
        "bmp of 32 bits": encoded(clear, "BMP"),
        "bmp of one bit": encoded(one.convert("1"), "BMP"),
        "webp": encoded(one, "WEBP"),
        "lossless webp": encoded(one, "WEBP", lossless=True),
        "clear webp": encoded(clear, "WEBP", exif=b"Exif\0\0ab"),
        "grey png": encoded(Image.new("L", (7, 5), 9), "PNG"),
    }


def wild_bytes(data, first):
    """Yield a file with each of its first bytes made wild in several ways."""
    for at in range(min(first, len(data))):
        for value in {*WILD, data[at] ^ 0x10} - {data[at]}:
            yield data[:at] + bytes([value]) + data[at + 1 :]


def mangled(data, count, seed):
    """Yield a file with bytes changed, put in, taken out or cut off, by chance."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randrange(len(changed))
            kind = chance.randrange(10)
            if kind < 6:
                changed[at] = chance.randrange(256)
            elif kind == 6:
                del changed[at : at + chance.randrange(1, 5)]
            elif kind == 7:
                changed[at:at] = chance.randbytes(chance.randrange(1, 5))
            elif kind == 8 and at:
                del changed[at:]
        yield bytes(changed)
