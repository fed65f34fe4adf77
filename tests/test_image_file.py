"""Pixels of image files on the query side, against the model's own decode."""

import io
import zlib

import numpy as np
import pytest
from pictures import coloured_picture, encoded
from PIL import Image

from ae_search.errors import ImageError
from ae_search.image_file import image_pixels, thumbnail

SHAPES = [(24, 24, 3), (24, 24, 1), (20, 36, 3), (90, 50, 1)]


def model_pixels(data, shape):
    """What the model sees, in [0, 255]."""
    import tensorflow as tf

    from ae_search.data.decode import decode_image

    return decode_image(tf.constant(data), shape).numpy() * 255


def clear(mode="RGBA"):
    """A picture that fades from left to right."""
    picture = coloured_picture(5, (60, 45)).convert("RGBA")
    picture.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (45, 1))))
    return picture.convert(mode)


def sixteen_bits():
    return Image.fromarray((np.arange(60 * 45, dtype=np.uint16) * 24).reshape(45, 60))


def palette_with_a_hole():
    picture = coloured_picture(3, (61, 47)).quantize(16)
    picture.info["transparency"] = 3
    return picture


FILES = {
    "colour PNG": encoded(coloured_picture(1, (61, 47))),
    "grey PNG": encoded(coloured_picture(2, (47, 61)).convert("L")),
    "palette PNG": encoded(coloured_picture(3, (61, 47)).quantize(16)),
    "palette PNG with a transparent colour": encoded(palette_with_a_hole(), transparency=3),
    "one bit PNG": encoded(coloured_picture(4, (61, 47)).convert("1")),
    "16 bit PNG": encoded(sixteen_bits()),
    "transparent PNG": encoded(clear()),
    "transparent grey PNG": encoded(clear("LA")),
    "BMP": encoded(coloured_picture(6, (61, 47)), "BMP"),
    "palette BMP": encoded(coloured_picture(6, (61, 47)).quantize(16), "BMP"),
    "GIF": encoded(coloured_picture(7, (61, 47)), "GIF"),
    "transparent GIF": encoded(palette_with_a_hole(), "GIF", transparency=3),
    "WebP": encoded(coloured_picture(8, (61, 47)), "WEBP", lossless=True),
    "transparent WebP": encoded(clear(), "WEBP", lossless=True),
    "upright only by EXIF": encoded(
        coloured_picture(9, (61, 47)),
        "PNG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
    "one pixel": encoded(Image.new("RGB", (1, 1), "red")),
    "very long": encoded(coloured_picture(1, (300, 2))),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_of_the_models_own_decode(name, shape):
    pixels = image_pixels(FILES[name], name, shape)
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    # Both round; the wrong crop, filter, background or luma differs by far more.
    assert np.abs(pixels - model_pixels(FILES[name], shape)).max() < 2.0


@pytest.mark.parametrize("size", [(61, 47), (800, 600)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_are_near_to_the_models_own_decode(mode, size):
    data = encoded(coloured_picture(11, size).convert(mode), "JPEG", quality=90)
    for shape in SHAPES:
        wrong = np.abs(image_pixels(data, "photo", shape) - model_pixels(data, shape))
        assert wrong.mean() < 3.0


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


BAD = {
    "text": b"no image at all",
    "nothing": b"",
    "cut short": encoded(noise(300, 200), "JPEG")[: 2**14],
    "cut short as PNG": encoded(coloured_picture(1))[:200],
    "animated and cut short": encoded(coloured_picture(1), "WEBP", save_all=True, append_images=[coloured_picture(2)])[
        :300
    ],
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_decoded_is_named(name):
    with pytest.raises(ImageError, match="image 3: "):
        image_pixels(BAD[name], "image 3", (16, 16, 3))


def test_a_header_that_promises_too_much_is_refused_before_decoding():
    data = bytearray(encoded(Image.new("L", (1, 1))))
    data[16:24] = (9_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError, match="9000 x 9000 px is more than 64 megapixels"):
        image_pixels(bytes(data), "bomb", (16, 16, 3))


def test_a_thumbnail_of_16_bits_is_as_bright_as_the_image():
    data = encoded(Image.fromarray(np.full((30, 30), 20_000, np.uint16)))
    small = np.asarray(Image.open(io.BytesIO(thumbnail(data, "grey"))))
    assert np.abs(small.astype(int) - 20_000 // 256).max() <= 1
