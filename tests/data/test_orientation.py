"""EXIF orientation: one walk in Python and one in the graph, and Pillow as the oracle for what is shown."""

import io
import struct
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from turned_files import SIZE, chunk, damaged_files, png, saved, segment, tiff, turned_files, upright

from ae_search.data import orientation as graph
from ae_search.data.decode import decode_image
from ae_search.data.octets import octets
from ae_search.image_file import image_pixels, thumbnail
from ae_search.image_file.orientation import JPEG_SEGMENTS, PNG_STEPS, orientation

SHAPE = (SIZE[1], SIZE[0], 3)


@pytest.fixture(scope="module")
def decode():
    return tf.function(lambda data: decode_image(data, SHAPE), input_signature=[tf.TensorSpec((), tf.string)])


@pytest.fixture(scope="module")
def turn_in_graph():
    def turn(data):
        kind = octets(data, 21)
        jpeg, riff = tf.equal(kind[0], 0xFF), tf.equal(kind[0], ord("R"))
        others = lambda: tf.cond(riff, lambda: graph.webp_orientation(data, kind), lambda: graph.png_orientation(data))  # noqa: E731
        return tf.cond(jpeg, lambda: graph.jpeg_orientation(data), others)

    return tf.function(turn, input_signature=[tf.TensorSpec((), tf.string)])


@pytest.mark.parametrize("name", turned_files())
def test_a_turned_file_looks_upright_everywhere(name, decode, turn_in_graph):
    data = turned_files()[name]
    expected = np.asarray(upright(), float)
    assert orientation(data) == int(turn_in_graph(data))
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    small = Image.open(io.BytesIO(thumbnail(data, name))).convert("RGB")
    for seen in (decode(data) * 255, image_pixels(data, name, SHAPE), shown, small):
        assert np.abs(np.asarray(seen, float) - expected).mean() < 4


@pytest.mark.parametrize("name", damaged_files())
def test_exif_that_is_damaged_means_upright(name, decode, turn_in_graph):
    data = damaged_files()[name]
    assert orientation(data) == int(turn_in_graph(data)) == 1
    expected = np.asarray(upright(), float)
    for seen in (decode(data) * 255, image_pixels(data, name, SHAPE)):
        assert np.abs(np.asarray(seen, float) - expected).mean() < 4


def test_bytes_that_go_wild_are_read_alike(turn_in_graph):
    chance = np.random.default_rng(5)
    for name in ("jpeg 6 big", "late png 6 little", "webp 6 big", "jpeg behind jfif, xmp and a profile"):
        data = turned_files()[name]
        at = data.index(b"MM\0*") if b"MM\0*" in data else data.index(b"II*\0")
        for _ in range(60):
            changed = bytearray(data)
            for place in chance.integers(max(3, at - 24), min(at + 100, len(data)), 2):
                changed[place] = chance.integers(256)
            assert orientation(bytes(changed)) == int(turn_in_graph(bytes(changed))), changed.hex()


def test_a_crop_is_that_of_the_upright_picture():
    """By an odd number of pixels the window lies nearer to one side, and that side is the upright one's."""
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 31, 3), np.uint8))
    plain = decode_image(saved(image, "PNG"), (20, 20, 3)).numpy()
    for turn, undone in (
        (6, Image.Transpose.ROTATE_90),
        (3, Image.Transpose.ROTATE_180),
        (8, Image.Transpose.ROTATE_270),
    ):
        data = saved(image.transpose(undone), "PNG", exif=b"Exif\0\0" + tiff(turn))
        np.testing.assert_allclose(decode_image(data, (20, 20, 3)), plain, atol=1e-5)


@pytest.mark.parametrize("kind", ["segments", "fill", "chunks of one size", "chunks of two sizes", "a huge chunk"])
def test_a_long_way_to_the_exif_is_short_to_walk(kind, turn_in_graph):
    exif, n = tiff(6), 2 * 2**20
    body = {
        "segments": segment(b"") * (n // 4),
        "fill": b"\xff" * n,
        "chunks of one size": chunk(b"teSt", b"") * (n // 12),
        "chunks of two sizes": (chunk(b"teSt", b"") + chunk(b"teSt", b"a")) * (n // 25),
        "a huge chunk": struct.pack(">I", 2**31 - 1) + b"teSt",
    }[kind]
    whole = png(1, exif, late=True)
    if kind in ("segments", "fill"):
        data = b"\xff\xd8\xff" + b"\xe0\0\2" + body + segment(b"Exif\0\0" + exif)
        assert n > 4 * JPEG_SEGMENTS
    else:
        data = whole[:33] + body + whole[33:]
        assert n > 25 * PNG_STEPS
    began = time.process_time()
    found = orientation(data), int(turn_in_graph(data))
    assert found == ((6, 6) if kind == "chunks of one size" else (1, 1))
    assert time.process_time() - began < 30  # without a bound it is minutes
