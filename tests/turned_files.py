"""One picture, stored turned and mirrored in all ways, in every container that carries EXIF."""

import io
import struct
import zlib

from pictures import coloured_picture
from PIL import Image

SIZE = (64, 48)
# What undoes each orientation is what Pillow calls the other way round.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def upright():
    return coloured_picture(21, SIZE)


def stored(turn):
    return upright() if STORED[turn] is None else upright().transpose(STORED[turn])


def tiff(value, order="<", *, kind=3, count=1, before=0):
    """EXIF of one orientation, behind some other entries."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], value).ljust(4, b"\0")
    others = b"".join(struct.pack(order + "HHII", 0x0100 + at, 4, 1, 6) for at in range(before))
    entry = struct.pack(order + "HHI", 0x0112, kind, count) + value
    return mark + struct.pack(order + "IH", 8, 1 + before) + others + entry + b"\0" * 4


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind, data):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(body, marker=0xE1):
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body


def jpeg(turn, exif, before=b""):
    data = saved(stored(turn), "JPEG", quality=95, subsampling=0)
    return data[:2] + before + segment(b"Exif\0\0" + exif) + data[2:]


def png(turn, exif, *, late):
    data, part = saved(stored(turn), "PNG"), chunk(b"eXIf", exif)
    at = len(data) - 12 if late else 33
    return data[:at] + part + data[at:]


def webp(turn, exif):
    return saved(stored(turn), "WEBP", lossless=True, exif=exif)


def turned_files():
    """Files by name, all of the same upright picture."""
    files = {}
    for turn in STORED:
        for order, end in (("<", "little"), (">", "big")):
            exif = tiff(turn, order, before=turn)
            files[f"jpeg {turn} {end}"] = jpeg(turn, exif)
            files[f"png {turn} {end}"] = png(turn, exif, late=False)
            files[f"late png {turn} {end}"] = png(turn, exif, late=True)
            files[f"webp {turn} {end}"] = webp(turn, exif)
    xmp = segment(b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3"/>')
    return files | {
        "jpeg behind jfif, xmp and a profile": jpeg(
            6, tiff(6), segment(b"JFIF\0\1\1\0\0\1\0\1\0\0", 0xE0) + xmp + 3 * segment(b"I", 0xE2)
        ),
        "jpeg behind fill bytes": jpeg(6, tiff(6), b"\xff\xff\xff"),
        "jpeg with exif twice": jpeg(6, tiff(6)).replace(b"\xff\xdb", segment(b"Exif\0\0" + tiff(3)) + b"\xff\xdb", 1),
        "jpeg with a long value": jpeg(8, tiff(8, ">", kind=4)),
        "png with a prefix": png(6, b"Exif\0\0" + tiff(6), late=False),
        "webp with a prefix": webp(6, b"Exif\0\0" + tiff(6)),
    }


def damaged_files():
    """Files by name whose EXIF says nothing that holds: they are upright."""
    whole = tiff(6)
    exif = {
        "empty": b"",
        "text": b"no directory at all",
        "no such turn": tiff(9),
        "turn 0": tiff(0),
        "of a kind without turns": tiff(6, kind=1),
        "several values": tiff(6, count=2),
        "directory beyond the end": whole[:4] + b"\xff\xff\xff\xff" + whole[8:],
        "directory that is cut": whole[:18],
        "wrong order": b"MM*\0" + whole[4:],
        "only the mark": whole[:4],
        "entries without end": whole[:8] + b"\xff\xff" + b"\1" * 40,
    }
    files = {}
    for name, body in exif.items():
        files[f"jpeg, {name}"] = jpeg(1, body)
        files[f"png, {name}"] = png(1, body, late=True)
        if body:
            files[f"webp, {name}"] = webp(1, body)
    plain, flat = saved(upright(), "JPEG", quality=95, subsampling=0), saved(upright(), "PNG")
    return files | {
        "jpeg, exif in a comment": plain[:2] + segment(segment(b"Exif\0\0" + whole), 0xFE) + plain[2:],
        "jpeg, exif behind the pixels": plain + segment(b"Exif\0\0" + whole),
        "png, exif in a text": flat[:33] + chunk(b"tEXt", b"k\0" + chunk(b"eXIf", whole)) + flat[33:],
    }
