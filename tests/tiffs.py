"""TIFF files by hand, for what Pillow does not write."""

import struct

SHORT, LONG, FLOAT = 3, 4, 11
_FORMS = {SHORT: "H", LONG: "I", FLOAT: "f", 1: "B", 2: "s", 7: "B"}


def tiff(strips, tags, *, order="<", next_picture=0, before=b""):
    """A TIFF of one picture.

    Args:
        strips: The bytes of each strip or tile.
        tags: Values by tag: (type, value, value, ...); those of strips are added unless they are there.
        order: "<" or ">".
        next_picture: Where the next picture's tags are said to be.
        before: Bytes between the head and the strips.
    """
    file = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4) + before)
    offsets = []
    for strip in strips:
        offsets.append(len(file))
        file += strip + bytes(len(strip) % 2)
    places = {273: (LONG, *offsets), 279: (LONG, *map(len, strips))}
    if 322 in tags:
        places = {324: places[273], 325: places[279]}
    table = b""
    for tag, (kind, *values) in sorted({**places, **tags}.items()):
        body = struct.pack(f"{order}{len(values)}{_FORMS[kind]}", *values)
        if len(body) > 4:
            place = len(file)
            file += body + bytes(len(body) % 2)
            body = struct.pack(order + "I", place)
        table += struct.pack(order + "HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    file[4:8] = struct.pack(order + "I", len(file))
    count = len(table) // 12
    return bytes(file) + struct.pack(order + "H", count) + table + struct.pack(order + "I", next_picture)


def shape(size, *, bits=8, samples=1, photometric=1, sample_format=1, planar=1, compression=1):
    """The tags of a picture."""
    return {
        256: (LONG, size[0]),
        257: (LONG, size[1]),
        258: (SHORT, *[bits] * samples),
        259: (SHORT, compression),
        262: (SHORT, photometric),
        277: (SHORT, samples),
        278: (LONG, size[1]),
        284: (SHORT, planar),
        339: (SHORT, *[sample_format] * samples),
    }
