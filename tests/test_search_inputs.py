"""What a program may search with: files, pixels of any size, pictures of Pillow's; and what it is told of the rest."""

import io
import subprocess
import sys

import numpy as np
import pytest
from build_options import build_options
from pictures import coloured_picture, encoded
from PIL import Image

from ae_search.errors import ImageError
from ae_search.image_file import decoder_words
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.search import ImageSearch


@pytest.fixture(scope="module")
def search(tiny_export, tmp_path_factory):
    """Twenty pictures of 60 x 40 px in an index, by an encoder that takes 16 x 16."""
    from ae_search.model_server import LocalEncoder

    encoder = LocalEncoder(tiny_export)
    files = [encoded(picture(seed), "PNG") for seed in range(20)]
    place = tmp_path_factory.mktemp("inputs") / "index"
    with IndexBuilder(place, encoder.describe(), build_options()) as builder:
        builder.add(encoder.encode_files(files), [f"item {seed}" for seed in range(20)])
    with LatentIndex.open(place) as index:
        yield ImageSearch(encoder, index)


def picture(seed):
    return coloured_picture(seed, (60, 40))


def first(search, image, **options):
    found = search.search(image, k=1, **options)[0]
    return found.key, found.similarity


KINDS = {
    "pixels of another size": np.asarray,
    "floats of another size": lambda one: np.asarray(one) / 255.0,
    "pixels with alpha": lambda one: np.asarray(one.convert("RGBA")),
    "a picture": lambda one: one,
    "a picture with alpha": lambda one: one.convert("RGBA"),
    "a picture of a file": lambda one: Image.open(io.BytesIO(encoded(one, "PNG"))),
    "bytes": lambda one: encoded(one, "PNG"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("views", [False, True])
def test_it_finds_itself_whatever_it_is_handed_over_as(search, kind, views):
    key, similarity = first(search, KINDS[kind](picture(7)), views=views)
    assert key == "item 7"
    assert similarity == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "CMYK", "YCbCr", "HSV", "I;16", "PA", "RGBX"])
def test_a_picture_of_any_mode_is_searched_with(search, mode):
    image = picture(7)
    made = Image.new(mode, (60, 40), 9) if mode in ("I;16", "PA") else image.convert(mode)
    assert search.search(made, k=3)


def test_a_picture_is_turned_upright_as_its_exif_says(search):
    turned = picture(7).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    assert first(search, turned) == ("item 7", pytest.approx(1.0, abs=1e-5))


def test_several_kinds_go_together(search, tmp_path):
    picture(3).save(tmp_path / "three.png")
    small = np.asarray(picture(5).resize((16, 16)))
    rows = search.search_batch([picture(1), np.asarray(picture(2)), tmp_path / "three.png", small], k=1)
    assert [row[0].key for row in rows[:3]] == ["item 1", "item 2", "item 3"]
    # Pixels of the model's size that go by the way of files: the same but for the rounding of a grey value.
    assert rows[3][0].similarity == pytest.approx(search.search(small, k=1)[0].similarity, abs=1e-4)


def test_grey_pixels_without_an_axis_are_taken(search):
    grey = np.asarray(picture(7).convert("L"))
    assert search.search(grey, k=1) == search.search(grey[..., np.newaxis], k=1)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((3, 40, 60), np.uint8), r"\[h, w\] or \[h, w, c\].*shape=\(3, 40, 60\)"),
        (np.zeros((2, 40, 60, 3), np.uint8), r"shape=\(2, 40, 60, 3\)"),
        (np.zeros((0, 60, 3), np.uint8), r"shape=\(0, 60, 3\)"),
        (np.zeros((40, 60, 3), np.int64), "must be uint8 or floats"),
        (np.full((40, 60, 3), 200.0), r"must lie in \[0, 1\]"),
        (np.full((40, 60, 3), np.nan), r"must lie in \[0, 1\]"),
        (Image.new("F", (4, 4)), "convert a picture of mode F"),
        (Image.open(io.BytesIO(encoded(coloured_picture(1, (99, 99)), "JPEG")[:700])), "image 0: damaged image"),
    ],
    ids=range(8),
)
def test_what_cannot_be_searched_with_says_why(search, image, told):
    with pytest.raises(ImageError, match=told):
        search.search(image)


def test_something_else_is_the_programmers_mistake(search):
    with pytest.raises(TypeError, match=r"a NumPy array or a PIL.Image. Received: dict"):
        search.search({"image": 1})


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("length", [20, 400])
def test_what_a_decoder_says_becomes_words(form, length):
    import tensorflow as tf

    data = encoded(coloured_picture(9, (90, 90)), form)[:length]
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        tf.io.decode_image(data, expand_animations=False)
    named = "WebP" if form == "WEBP" else form
    assert f"the {named} data are damaged" in decoder_words(str(raised.value))


def test_what_no_decoder_says_stays(search):
    assert decoder_words("the batch has no image") is None
    data = encoded(coloured_picture(9, (90, 90)), "PNG")
    with pytest.raises(ImageError, match="^image 0: The model refused it: the PNG data are damaged or cut short.$"):
        search.search(data[: len(data) // 2])


QUIET = """
import sys
from ae_search.model_server import LocalEncoder
encoder = LocalEncoder(sys.argv[1])
print(encoder.encode_files([open(sys.argv[2], "rb").read()]).shape)
"""


def test_a_local_encoder_prints_nothing_of_tensorflows(tiny_export, tmp_path, monkeypatch):
    picture(1).save(tmp_path / "one.png")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    command = [sys.executable, "-c", QUIET, str(tiny_export), str(tmp_path / "one.png")]
    quiet = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (quiet.stdout, quiet.stderr) == ("(1, 8)\n", "")


def test_what_others_say_while_tensorflow_is_loaded_is_kept(tmp_path, monkeypatch):
    for name, text in (("tensorflow.py", LOUD), ("failing.py", LOUD + "raise ImportError('no wheel')\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    code = "from ae_search.quiet_import import load_tensorflow; load_tensorflow()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stderr == "another thread's line\n"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "oneDNN" in run.stderr
    (tmp_path / "failing.py").rename(tmp_path / "tensorflow.py")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "oneDNN" in run.stderr and "no wheel" in run.stderr


LOUD = r"""
import os
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
os.write(2, b"I0000 00:00:1796012366.543353   22745 port.cc:153] oneDNN custom operations are on.\n")
os.write(2, b"another thread's line\n")
"""
