"""Files of one picture in kinds that TensorFlow cannot decode, with what each should look like."""

import io

import numpy as np
import pillow_heif
from pictures import coloured_picture, encoded
from PIL import Image, ImageCms, ImageDraw

SIZE = (96, 72)
# What a picture stored turned by each EXIF orientation must undergo to be upright, undone.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def upright(size=SIZE):
    """A picture of which no two corners are alike."""
    picture = coloured_picture(21, size)
    ImageDraw.Draw(picture).rectangle((0, 0, size[0] // 3, size[1] // 4), fill=(250, 30, 30))
    return picture


def with_alpha(picture):
    """The picture, which fades from left to right."""
    faded = picture.convert("RGBA")
    width, height = picture.size
    faded.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))))
    return faded


def on_white(picture):
    """What a person sees of a picture with alpha."""
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def heic(picture, **options):
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    picture.save(buffer, "HEIF", **options)
    return buffer.getvalue()


def turned(picture, tag):
    """The picture as it is stored under an EXIF orientation."""
    return picture.transpose(STORED[tag]) if tag in STORED else picture


def tagged(tag):
    """EXIF with an orientation; made anew for each file, because writers take it out."""
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


def swapped_profile():
    """A colour profile in which red means green and green means red: what it does cannot be overlooked."""
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(srgb[128:132], "big")
    places = {bytes(srgb[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    srgb[red : red + 4], srgb[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(srgb)


def green_for_red(picture):
    red, green, blue = picture.split()
    return Image.merge("RGB", (green, red, blue))


def sixteen_bit_grey(picture):
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) << 8)


def bmp(bits, header=40):
    """An upright-down BMP of a palette by hand: Pillow writes 1, 8, 24 and 32 bits only."""
    picture = upright().quantize(16 if bits == 4 else 2)
    width, height = picture.size
    indices = np.asarray(picture)
    stored = np.packbits(
        np.unpackbits(indices[..., None], axis=-1)[..., -bits:].reshape(height, -1), axis=-1
    )  # rows of a multiple of 4 bytes, as the size is chosen
    palette = bytes(picture.getpalette()[: 3 << bits])
    colours = b"".join(
        palette[at + 2 : at + 3] + palette[at + 1 : at + 2] + palette[at : at + 1] + (b"\0" if header == 40 else b"")
        for at in range(0, 3 << bits, 3)
    )
    if header == 40:
        head = np.array([40, width, height], "<i4").tobytes() + np.array([1, bits], "<u2").tobytes() + bytes(24)
    else:
        head = np.array([12], "<i4").tobytes() + np.array([width, height, 1, bits], "<u2").tobytes()
    rows = stored[::-1].tobytes()
    start = 14 + len(head) + len(colours)
    file = b"BM" + np.array([start + len(rows), 0, start], "<i4").tobytes() + head + colours + rows
    return file, picture.convert("RGB")


def runs_bmp():
    """A BMP of runs of equal pixels, each of one."""
    picture = upright().quantize(16)
    indices, palette = np.asarray(picture), np.array(picture.getpalette()[:48], np.uint8).reshape(16, 3)
    colours = np.pad(palette[:, ::-1], ((0, 0), (0, 1))).tobytes()
    width, height = SIZE
    rows = b"".join(b"".join(bytes([1, index]) for index in row) + b"\0\0" for row in indices[::-1]) + b"\0\1"
    head = np.array([40, width, height], "<i4").tobytes() + np.array([1, 8], "<u2").tobytes()
    head += np.array([1, len(rows), 0, 0, 16, 0], "<i4").tobytes() + colours
    start = 14 + len(head)
    return b"BM" + np.array([start + len(rows), 0, start], "<i4").tobytes() + head + rows, picture.convert("RGB")


def sixteen_bit_bmp():
    """A BMP of 5 bits a colour."""
    pixels = np.asarray(upright()).astype(np.uint16) >> 3
    width, height = SIZE
    rows = (pixels[..., 0] << 10 | pixels[..., 1] << 5 | pixels[..., 2]).astype("<u2")[::-1].tobytes()
    head = np.array([40, width, height], "<i4").tobytes() + np.array([1, 16], "<u2").tobytes() + bytes(24)
    return b"BM" + np.array([54 + len(rows), 0, 54], "<i4").tobytes() + head + rows


def kinds():
    """Return files by name, each with the picture that a person sees and the mean difference of 255 to allow."""
    picture, pages = upright(), [coloured_picture(seed, SIZE) for seed in (31, 32)]
    grey, faded = picture.convert("L"), with_alpha(picture)
    four, from_four = bmp(4)
    one, from_one = bmp(1)
    os2, from_os2 = bmp(4, header=12)
    found = {
        "TIFF": (encoded(picture, "TIFF"), picture, 0),
        "TIFF of LZW": (encoded(picture, "TIFF", compression="tiff_lzw"), picture, 0),
        "TIFF of deflate": (encoded(picture, "TIFF", compression="tiff_adobe_deflate"), picture, 0),
        "TIFF of PackBits": (encoded(picture, "TIFF", compression="packbits"), picture, 0),
        "TIFF of JPEG": (encoded(picture, "TIFF", compression="jpeg", quality=95), picture, 4),
        "TIFF of fax": (encoded(picture.convert("1"), "TIFF", compression="group4"), picture.convert("1"), 0),
        "big TIFF": (encoded(picture, "TIFF", big_tiff=True), picture, 0),
        "TIFF of pages": (encoded(picture, "TIFF", save_all=True, append_images=pages), picture, 0),
        "grey TIFF": (encoded(grey, "TIFF"), grey, 0),
        "TIFF of 16 bits": (encoded(sixteen_bit_grey(picture), "TIFF"), grey, 1),
        "floating point TIFF": (
            encoded(Image.fromarray(np.asarray(grey, np.float32) / 255), "TIFF"),
            grey,
            1,
        ),
        "TIFF of one bit": (encoded(picture.convert("1"), "TIFF"), picture.convert("1"), 0),
        "palette TIFF": (encoded(picture.quantize(64), "TIFF"), picture.quantize(64), 0),
        "CMYK TIFF": (encoded(picture.convert("CMYK"), "TIFF"), picture, 1),
        "LAB TIFF": (
            encoded(ImageCms.profileToProfile(picture, *_srgb_and_lab(), outputMode="LAB"), "TIFF"),
            picture,
            6,
        ),
        "transparent TIFF": (encoded(faded, "TIFF"), on_white(faded), 1),
        "transparent grey TIFF": (encoded(faded.convert("LA"), "TIFF"), on_white(faded).convert("L"), 2),
        "TIFF of another profile": (
            encoded(green_for_red(picture), "TIFF", icc_profile=swapped_profile()),
            picture,
            2,
        ),
        "TIFF of a damaged profile": (encoded(picture, "TIFF", icc_profile=b"no profile" * 20), picture, 0),
        "AVIF": (encoded(picture, "AVIF", quality=95), picture, 4),
        "grey AVIF": (encoded(grey, "AVIF", quality=95), grey, 4),
        "transparent AVIF": (encoded(faded, "AVIF", quality=95), on_white(faded), 5),
        "animated AVIF": (encoded(picture, "AVIF", quality=95, save_all=True, append_images=pages), picture, 4),
        "AVIF of another profile": (
            encoded(green_for_red(picture), "AVIF", quality=95, icc_profile=swapped_profile()),
            picture,
            8,
        ),
        "HEIC": (heic(picture, quality=95), picture, 4),
        "HEIC of tiles": (heic(upright((384, 288)), quality=95, tile_size=128), upright((384, 288)), 4),
        "transparent HEIC": (heic(faded, quality=95), on_white(faded), 5),
        "HEIC of several": (heic(picture, quality=95, save_all=True, append_images=pages), picture, 4),
        "animated WebP": (
            encoded(picture, "WEBP", lossless=True, save_all=True, append_images=pages),
            picture,
            0,
        ),
        "transparent animated WebP": (
            encoded(faded, "WEBP", lossless=True, save_all=True, append_images=pages),
            on_white(faded),
            1,
        ),
        "BMP of 4 bits": (four, from_four, 0),
        "BMP of 1 bit": (one, from_one, 0),
        "BMP in runs": (*runs_bmp(), 0),
        "BMP of OS 2": (os2, from_os2, 0),
        "BMP of 16 bits": (sixteen_bit_bmp(), picture, 5),
    }
    for tag in range(1, 9):
        stored = turned(picture, tag)
        found[f"TIFF under tag {tag}"] = (encoded(stored, "TIFF", exif=tagged(tag)), picture, 0)
        found[f"AVIF under tag {tag}"] = (encoded(stored, "AVIF", exif=tagged(tag), quality=95), picture, 4)
        found[f"HEIC under tag {tag}"] = (heic(stored, exif=tagged(tag).tobytes(), quality=95), picture, 4)
        found[f"animated WebP under tag {tag}"] = (
            encoded(stored, "WEBP", exif=tagged(tag), lossless=True, save_all=True, append_images=[stored.rotate(180)]),
            picture,
            0,
        )
    return found


def _srgb_and_lab():
    return ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
