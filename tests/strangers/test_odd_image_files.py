"""Odd members of each format: what the graph shows of them is what Pillow shows, or a sentence refuses them."""

import io
import struct
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from bombs import encoded, frame, gif, patched
from pictures import coloured_picture
from PIL import Image

from ae_search.data.decode import decode_image
from ae_search.errors import ImageError
from ae_search.image_file import check_pixels, image_pixels, thumbnail
from ae_search.image_file.head import graph_decodes, truncated

SHAPE = (48, 64, 3)
PICTURE = coloured_picture(4, (64, 48))
DETAILED = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))


@cache
def graph(shape, fit):
    return tf.function(lambda data: decode_image(data, shape, fit), input_signature=[tf.TensorSpec((), tf.string)])


@pytest.fixture(scope="module")
def decode():
    return graph(SHAPE, "crop")


def shown(data):
    """What Pillow shows, over white."""
    rgba = Image.open(io.BytesIO(data)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def bmp(bits, *, header=40, packed=0, masks=b"", alpha=0, top_down=False):
    """A BMP of the picture with a header of some size."""
    rgb = np.asarray(PICTURE)[:: 1 if top_down else -1]
    bgr = rgb[..., ::-1]
    if bits == 32:
        bgr = np.concatenate([bgr, np.full((*bgr.shape[:2], 1), alpha, np.uint8)], axis=2)
    pixels = bgr.tobytes()
    height = -48 if top_down else 48
    about = struct.pack("<IiiHHIIiiII", header, 64, height, 1, bits, packed, len(pixels), 0, 0, 0, 0)
    about = (about + masks).ljust(header if header > 40 else 40 + len(masks), b"\0")
    start = 14 + len(about)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + about + pixels


MASKS = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
BMPS = {
    "24 bits": bmp(24),
    "24 bits from the top": bmp(24, top_down=True),
    "32 bits, reserved 0": bmp(32),
    "32 bits, reserved 0, from the top": bmp(32, top_down=True),
    "32 bits, reserved 7": bmp(32, alpha=7),
    "32 bits with masks": bmp(32, packed=3, masks=MASKS),
    "32 bits, header of 108, no masks": bmp(32, header=108),
    "32 bits, header of 124, masks": bmp(32, header=124, packed=3, masks=MASKS),
    "32 bits, header of 124, alpha": bmp(32, header=124, packed=3, masks=MASKS + b"\0\0\0\xff", alpha=100),
    "palette": encoded(PICTURE.quantize(50), "BMP"),
    "grey": encoded(PICTURE.convert("L"), "BMP"),
}
OTHER_BMPS = {
    "1 bit": encoded(PICTURE.convert("1"), "BMP"),
    "other order": bmp(32, packed=3, masks=struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)),
    "other alpha": bmp(32, header=124, packed=3, masks=MASKS + b"\xff\0\0\0"),
    "16 bits": patched(bmp(24), (28, struct.pack("<H", 16))),
    "4 bits": patched(encoded(PICTURE.quantize(16), "BMP"), (28, struct.pack("<H", 4))),
    "in runs": patched(encoded(PICTURE.quantize(16), "BMP"), (30, struct.pack("<I", 1))),
    "of OS/2": b"BM" + struct.pack("<IHHIIHHHH", 26 + 64 * 48 * 3, 0, 0, 26, 12, 64, 48, 1, 24) + b"\0" * 64 * 48 * 3,
}


@pytest.mark.parametrize("name", BMPS)
def test_a_bmp_is_seen_as_pillow_shows_it(name, decode):
    data = BMPS[name]
    assert graph_decodes(data)
    np.testing.assert_allclose(decode(data) * 255, np.asarray(shown(data), float), atol=0.51)
    assert np.abs(image_pixels(data, name, SHAPE) - decode(data) * 255).max() < 2


@pytest.mark.parametrize("name", OTHER_BMPS)
def test_other_bmps_are_for_conversion_and_the_graph_says_so(name, decode):
    assert not graph_decodes(OTHER_BMPS[name])
    with pytest.raises(tf.errors.InvalidArgumentError, match="a BMP of a kind that is not supported; save it"):
        decode(OTHER_BMPS[name])


def palette_with_a_hole():
    image = PICTURE.quantize(16)
    image.info["transparency"] = 3
    return image


def gif_of(image, *, offset=(0, 0), screen=None, **options):
    """A GIF whose first frame lies somewhere on its screen."""
    data = encoded(image, "GIF", **options)
    at = data.index(b",", 13 + (3 << (data[10] % 8 + 1) if data[10] & 0x80 else 0))
    data = patched(data, (at + 1, struct.pack("<HH", *offset)))
    return patched(data, (6, struct.pack("<HH", *screen))) if screen else data


RED = [Image.new("RGB", PICTURE.size, "red")] * 3
GIFS = {
    "plain": gif_of(PICTURE.quantize(64)),
    "interlaced": gif_of(PICTURE.quantize(64), interlace=1),
    "not interlaced": gif_of(PICTURE.quantize(64), interlace=0),
    "transparent": gif_of(palette_with_a_hole(), transparency=3),
    "grey": gif_of(PICTURE.convert("L")),
    "animated": gif_of(PICTURE.quantize(64), save_all=True, append_images=RED, comment=b"hello", loop=0),
    "animated and transparent": gif_of(palette_with_a_hole(), transparency=3, save_all=True, append_images=RED),
    "offset": gif_of(PICTURE.resize((40, 30)).quantize(64), offset=(7, 11), screen=(64, 48)),
    "offset and transparent": gif_of(
        palette_with_a_hole().resize((40, 30)), transparency=3, offset=(7, 11), screen=(64, 48)
    ),
    "beyond its screen": gif_of(PICTURE.quantize(64), screen=(9, 9)),
    "colours of its own": gif((3, 3), [frame((3, 3))]),
}


@pytest.mark.parametrize("name", GIFS)
def test_the_first_frame_of_a_gif_is_seen_as_pillow_shows_it(name):
    data = GIFS[name]
    expected = shown(data)
    shape = (expected.height, expected.width, 3)
    np.testing.assert_allclose(decode_image(data, shape) * 255, np.asarray(expected, float), atol=1e-3)
    assert np.abs(image_pixels(data, name, shape) - np.asarray(expected, float)).max() < 2


CUTS = {
    "2 bytes": (-2, True),
    "a tenth": (0.9, True),
    "a third": (0.67, True),
    "most": (0.4, False),
    "all": (0.03, False),
}


@pytest.mark.parametrize("form", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_jpeg_that_is_cut_short_is_seen_as_far_as_it_is_there(cut, form, decode):
    whole = encoded(DETAILED.convert(form), "JPEG")
    share, enough = CUTS[cut]
    data = whole[: int(share * len(whole)) if share > 0 else share]
    assert truncated(data)
    assert not truncated(whole)
    if enough:
        rows = int(SHAPE[0] * share) - 3 if share > 0 else SHAPE[0]
        assert np.abs(decode(data) - decode(whole))[:rows].max() < 0.02
        assert np.abs(image_pixels(data, cut, SHAPE) - decode(data) * 255).mean() < 4
        check_pixels(data, cut)
        thumbnail(data, cut)
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="cut short, with less than half of its rows"):
        decode(data)
    for read in (lambda: image_pixels(data, cut, SHAPE), lambda: check_pixels(data, cut), lambda: thumbnail(data, cut)):
        with pytest.raises(ImageError, match=f"{cut}: a JPEG that is cut short"):
            read()


def test_a_progressive_jpeg_that_is_cut_short_is_seen_blurred(decode):
    whole = encoded(DETAILED.resize((64, 48)).resize((640, 480)), "JPEG", progressive=True)
    data = whole[: len(whole) * 2 // 3]
    assert np.abs(decode(data) - decode(whole)).mean() < 0.05


def test_grey_rows_of_a_whole_jpeg_are_no_missing_ones(decode):
    pixels = np.full((480, 640, 3), 128, np.uint8)
    pixels[:100] = np.asarray(DETAILED)[:100]
    whole = encoded(Image.fromarray(pixels), "JPEG")
    for data in (whole, whole + b"a film behind the picture", whole + whole):
        assert not truncated(data)
        assert decode(data).shape == SHAPE
        thumbnail(data, "half grey")


@pytest.mark.parametrize("size", [(3000, 2300), (2049, 4097), (520, 400)])
def test_a_large_jpeg_is_seen_as_the_whole_of_its_pixels(size, decode):
    picture = coloured_picture(8, size)
    data = encoded(picture, "JPEG", quality=95)
    lossless = encoded(Image.open(io.BytesIO(data)), "PNG", compress_level=1)
    assert np.abs(decode(data) - decode(lossless)).mean() < 0.006


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(61, 47), (20_000, 50), (50, 20_000), (1, 1), (1, 900), (64, 64), (300, 299)])
@pytest.mark.parametrize("shape", [(24, 24, 3), (20, 36, 1), (90, 50, 3)], ids=str)
def test_the_fit_is_the_same_in_graph_and_query(size, fit, shape):
    data = encoded(coloured_picture(3, size), "PNG")
    seen, pixels = graph(shape, fit)(data).numpy() * 255, image_pixels(data, "picture", shape, fit=fit)
    assert np.abs(seen - pixels).max() < 2.5


def test_pad_shows_all_of_a_panorama_and_crop_its_middle():
    pixels = np.full((50, 20_000, 3), 255, np.uint8)
    pixels[:, :2000] = 0
    data = encoded(Image.fromarray(pixels), "PNG")
    assert decode_image(data, (16, 16, 3)).numpy().min() > 0.999
    row = decode_image(data, (16, 16, 3), "pad").numpy()[7, :, 0]
    np.testing.assert_allclose(row[[0, 8, 15]], [0, 1, 1], atol=0.02)


def test_what_is_transparent_in_a_large_file_is_white():
    image = coloured_picture(3, (1800, 1500)).convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 1800).astype(np.uint8), (1500, 1))))
    for form in ("PNG", "WEBP"):
        data = encoded(image, form, **({"lossless": True} if form == "WEBP" else {"compress_level": 1}))
        assert np.abs(decode_image(data, SHAPE) * 255 - image_pixels(data, form, SHAPE)).max() < 2
