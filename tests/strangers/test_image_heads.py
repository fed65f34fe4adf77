"""The rules for heads of image files: in Python and in the graph they are the same."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from bombs import bombs, chunk, encoded, frame, gif, jpeg, patched, picture, png
from image_mutations import kinds, mangled, wild_bytes

from ae_search.data.image_head import examined, is_harmless
from ae_search.errors import ImageError
from ae_search.image_file import decoded_bytes, read_head
from ae_search.image_file.head import NO_SIZE


@pytest.fixture(scope="module")
def graph():
    def checked(data):
        return tf.cond(is_harmless(data), lambda: data, lambda: examined(data).image_bytes)

    return tf.function(checked, input_signature=[tf.TensorSpec((), tf.string)])


def by_python(data):
    """Why a file is refused, empty where it is not."""
    try:
        head = read_head(data)
    except ImageError as error:
        return str(error)
    return f"{head.size} is more than {head.limit} megapixels" if head.pixels > head.limit * 10**6 else ""


def by_graph(graph, data):
    try:
        assert graph(tf.constant(data)).numpy() == data
    except tf.errors.InvalidArgumentError as error:
        return error.message
    return ""


def agree(graph, data):
    python, tensorflow = by_python(data), by_graph(graph, data)
    if data.startswith(b"\xff\xd8\xff"):
        return bool(tensorflow) or not python  # libjpeg may refuse more
    if python == NO_SIZE and not tensorflow:
        return True  # no side at all: the decoder refuses it
    return python in tensorflow if python else not tensorflow


@pytest.mark.parametrize("kind", kinds())
def test_python_and_graph_refuse_the_same(kind, graph):
    data = kinds()[kind]
    for file in (*wild_bytes(data, 32), *mangled(data, 40, seed=len(kind))):
        assert agree(graph, file), (file.hex(), by_python(file), by_graph(graph, file))


def test_python_and_graph_refuse_the_same_bombs(graph):
    for name, data in bombs().items():
        assert by_python(data), name
        assert agree(graph, data), name
        assert by_graph(graph, data), name


LIMITS = {
    "PNG": (lambda w, h: patched(png((1, 1)), (16, struct.pack(">II", w, h))), 64),
    "JPEG": (lambda w, h: jpeg((w, h)), 128),
    "progressive JPEG": (lambda w, h: jpeg((w, h), progressive=True), 128),
    "GIF": (lambda w, h: gif((w, h), [frame((3, 3))]), 64),
    "frame of a GIF": (lambda w, h: gif((1, 1), [patched(frame((3, 3)), (5, struct.pack("<HH", w, h)))]), 64),
    "BMP": (lambda w, h: patched(encoded(picture(), "BMP"), (18, struct.pack("<ii", w, h))), 64),
    "BMP from the top": (lambda w, h: patched(encoded(picture(), "BMP"), (18, struct.pack("<ii", w, -h))), 64),
    "lossy WebP": (lambda w, h: patched(encoded(picture(), "WEBP"), (26, struct.pack("<HH", w, h))), 64),
    "lossless WebP": (
        lambda w, h: patched(
            encoded(picture(), "WEBP", lossless=True), (21, struct.pack("<I", (w - 1) | (h - 1) << 14))
        ),
        64,
    ),
    "extended WebP": (
        lambda w, h: patched(
            kinds()["clear webp"], (24, struct.pack("<I", w - 1)[:3]), (27, struct.pack("<I", h - 1)[:3])
        ),
        64,
    ),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_the_limit_is_exact(kind, graph):
    make, limit = LIMITS[kind]
    for rows in (limit * 125, limit * 125 + 1):
        data = make(8000, rows)
        head = read_head(data)
        assert (head.width, head.height, head.pixels) == (8000, rows, 8000 * rows)
        too_large = rows > limit * 125
        for refused in (by_python(data), by_graph(graph, data)):
            assert (f"8000 x {rows} px is more than {limit} megapixels" in refused) is too_large


@pytest.mark.slow
def test_frames_behind_the_first_of_a_gif_count_for_nothing(graph):
    still = frame((1000, 1000))
    for frames in (100 * [b"!\xf9\4\0\0\0\0\0", still], 17_000 * [frame((2, 2))], [still, frame((60_000, 60_000))]):
        data = gif((1000, 1000), frames, before=b"!\xfe\5hello\0")
        assert (read_head(data).width, read_head(data).height) == (1000, 1000)
        assert by_python(data) == by_graph(graph, data) == ""


def test_a_first_frame_that_lies_beyond_the_screen_widens_it(graph):
    for left, top, refused in ((60, 70, False), (60_000, 60_000, True)):
        data = gif((9, 9), [patched(frame((3, 3)), (1, struct.pack("<HH", left, top)))])
        assert (read_head(data).width, read_head(data).height) == (left + 3, top + 3)
        for reason in (by_python(data), by_graph(graph, data)):
            assert ("more than 64 megapixels" in reason) is refused


def test_a_gif_may_have_some_thousand_blocks_before_its_first_frame(graph):
    for count in (4000, 17_000):
        data = gif((2, 2), [frame((2, 2))], before=count * b"!\xfe\1a\0")
        for refused in (by_python(data), by_graph(graph, data)):
            assert ("too many blocks" in refused) is (count == 17_000)


JPEG = encoded(picture(), "JPEG")
FRAME_HEAD = JPEG[JPEG.index(b"\xff\xc0") :][:19]
ODD_JPEGS = {
    "fill bytes": JPEG.replace(b"\xff\xc0", b"\xff\xff\xff\xff\xc0", 1),
    "garbage between markers": JPEG.replace(b"\xff\xc0", b"\0\1\2\xff\0\3\xff\xc0", 1),
    "a frame header in a comment": JPEG[:2] + b"\xff\xfe\0\x15" + patched(FRAME_HEAD, (5, b"\xff" * 4)) + JPEG[2:],
    "a thumbnail in an APP segment": JPEG[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(JPEG)) + JPEG + JPEG[2:],
    "restart markers": JPEG.replace(b"\xff\xc0", b"\xff\xd0\xff\xd7\xff\x01\xff\xc0", 1),
}


@pytest.mark.parametrize("name", ODD_JPEGS)
def test_the_size_of_a_jpeg_is_found_where_the_decoder_finds_it(name, graph):
    data = ODD_JPEGS[name]
    assert (read_head(data).width, read_head(data).height) == (7, 5)
    assert by_graph(graph, data) == ""
    assert tf.io.decode_image(data).shape == (5, 7, 3)


@pytest.mark.parametrize("texts", [10, 11])
def test_a_png_may_carry_ten_compressed_texts(texts, graph):
    large = b"\0" * 20_000  # of small files the graph counts none
    data = png((1, 1), between=texts * chunk(b"zTXt", b"k\0\0ab") + chunk(b"prIv", large))
    for refused in (by_python(data), by_graph(graph, data)):
        assert ("compressed texts" in refused) is (texts == 11)


def test_decoded_bytes_bound_what_decoding_takes():
    assert decoded_bytes(b"no image") == 0
    assert decoded_bytes(encoded(picture(), "PNG")) >= 7 * 5 * 12
    assert decoded_bytes(gif((7, 5), 3 * [frame((7, 5))])) == decoded_bytes(gif((7, 5), [frame((7, 5))]))
    assert decoded_bytes(patched(png((1, 1)), (16, struct.pack(">II", 2**31 - 1, 2**31 - 1)))) > 2**62


def test_a_film_behind_a_photograph_counts_for_nothing(graph):
    """Phones write it there; by chance it holds the marker of a scan hundreds of times."""
    photograph = encoded(picture().resize((1200, 900)), "JPEG")
    film = np.random.default_rng(0).integers(0, 256, 20 * 2**20, np.uint8).tobytes()
    assert film.count(b"\xff\xda") > 200
    assert by_python(photograph + film) == by_graph(graph, photograph + film) == ""


@pytest.mark.timeout(60)  # byte by byte it took minutes
@pytest.mark.parametrize("between", [b"\xff", b"\xff\xe0\0\2", b"\xff\xe0\0\0"], ids=["fill", "segments", "wrong"])
def test_a_long_way_to_the_size_is_short_to_walk(between):
    data = b"\xff\xd8\xff" + 60 * 2**20 // len(between) * between
    assert by_python(data) == NO_SIZE
