"""Small files of the kinds that are turned into PNG, which ask for much: pixels, tags, strips, pages, tiles."""

import struct

import pillow_heif
from bombs import encoded, patched, picture
from odd_images import heic, upright
from PIL import Image
from tiffs import LONG, SHORT, shape, tiff


def lying(data, size, told=(64, 48)):
    """A file of boxes whose container tells another size than its coded picture has."""
    real = struct.pack(">II", *size)
    assert real in data
    return data.replace(real, struct.pack(">II", *told))


def many_tags(count, length):
    """A TIFF of which each tag names the same long run of bytes."""
    file = tiff([bytes(48 * 48)], shape((48, 48)), before=bytes(length))
    at = struct.unpack_from("<I", file, 4)[0]
    table = file[at + 2 : -4]
    more = b"".join(struct.pack("<HHII", 40_000 + number, 7, length, 8) for number in range(count))
    return patched(file[:at], (4, struct.pack("<I", at))) + (
        struct.pack("<H", len(table) // 12 + count) + table + more + bytes(4)
    )


def pages_in_a_circle():
    file = tiff([bytes(48 * 48)], shape((48, 48)))
    return file[:-4] + file[4:8]


def large_tile():
    tags = {tag: value for tag, value in shape((10, 10)).items() if tag != 278}
    return tiff([b"\0" * 100], {**tags, 259: (SHORT, 8), 322: (LONG, 60_000), 323: (LONG, 60_000)})


def runs(size, pairs=100_000):
    """A BMP in runs of equal pixels that promises a size."""
    head = struct.pack("<IiiHHIIiiII", 40, *size, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<III", 0, 0, 54 + 1024) + head + bytes(1024) + b"\xff\0" * pairs


def refused():
    """Files by name, each refused before its pixels are decoded."""
    grey = Image.new("L", (9000, 9000))
    small = encoded(upright(), "AVIF")
    animated = encoded(picture(), "WEBP", save_all=True, append_images=[picture(seed=1)])
    pillow_heif.register_heif_opener()
    return {
        "81 megapixels.avif": encoded(grey, "AVIF", speed=10),
        "81 megapixels that lie.avif": lying(encoded(grey, "AVIF", speed=10), (9000, 9000)),
        "promises.avif": lying(small, upright().size, (30_000, 30_000)),
        "promises.heic": lying(heic(upright().resize((128, 128))), (128, 128), (30_000, 30_000)),
        "sixteen megapixels that lie.heic": lying(heic(Image.new("L", (4096, 4096))), (4096, 4096)),
        "no items.avif": small.replace(b"iloc", b"ilox"),
        "144 megapixels.tiff": encoded(Image.new("1", (12_000, 12_000)), "TIFF", compression="group4"),
        "promises.tiff": tiff([b"\0" * 100], {**shape((60_000, 60_000)), 259: (SHORT, 8)}),
        "deep promises.tiff": tiff([b"\0" * 100], {**shape((2**31 - 1, 2**31 - 1)), 259: (SHORT, 5)}),
        "a large tile.tiff": large_tile(),
        "many tags.tiff": many_tags(20_000, 2**20),
        "many strips.tiff": tiff([b"\0"] * 70_000, {**shape((1, 70_000)), 278: (LONG, 1)}),
        "a large profile.tiff": tiff([bytes(48 * 48)], {**shape((48, 48)), 34675: (7, *bytes(5 * 2**20))}),
        "no strips.tiff": tiff([], shape((48, 48))),
        "odd compression.tiff": tiff([b"\0" * 100], {**shape((48, 48)), 259: (SHORT, 34712)}),
        "animated.webp": patched(animated, (24, b"\xff" * 6)),
        "48 megapixels, animated.webp": patched(
            animated, (24, struct.pack("<I", 7999)[:3] + struct.pack("<I", 5999)[:3])
        ),
        "runs.bmp": runs((60_000, 60_000)),
        "runs of 20 megapixels.bmp": runs((5_000, 4_000)),
        "runs that lead nowhere.bmp": runs((1_000, 1_000), 2_000_000),
        "too many runs.bmp": runs((1_000, 1_000), 5_000_000),
        "of OS2.bmp": patched(encoded(picture(), "BMP"), (14, struct.pack("<IHHHH", 12, 65_000, 65_000, 1, 24))),
    }


def taken():
    """Files by name that look like bombs, and are taken without going off."""
    return {
        "pages in a circle.tiff": pages_in_a_circle(),
        "some tags.tiff": many_tags(900, 2**20),
    }
