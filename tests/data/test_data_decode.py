"""The one decode, against Pillow and against what TensorFlow does not survive by itself."""

import io
from functools import lru_cache

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ae_search.data.decode import _traced_decoder, decode_image

SHAPE = (20, 30, 3)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def picture():
    rows, columns = np.mgrid[0:20, 0:30]
    pixels = np.stack([rows * 12, columns * 8, rows * 4 + columns * 4], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels)


@lru_cache
def graph(shape):
    return tf.function(lambda data: decode_image(data, shape), input_signature=[tf.TensorSpec((), tf.string)])


def decoded(data, shape=SHAPE):
    return graph(shape)(tf.constant(data)).numpy()


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_lossless_files_of_the_right_size_come_back_exactly(picture, form):
    np.testing.assert_allclose(decoded(encoded(picture, form)), np.asarray(picture) / 255.0, atol=1e-6)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF"])
def test_lossy_files_come_back_as_pillow_reads_them(picture, form):
    data = encoded(picture, form)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) / 255.0
    assert np.abs(decoded(data) - expected).mean() < 0.02


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "1"])
def test_every_channel_count_becomes_the_models(picture, mode):
    data = encoded(picture.convert(mode), "PNG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) / 255.0
    np.testing.assert_allclose(decoded(data), expected, atol=1e-6)
    grey = decoded(data, (20, 30, 1))
    np.testing.assert_allclose(grey[..., 0], expected @ [0.299, 0.587, 0.114], atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_palettised_bmp_is_looked_up(picture, mode):
    data = encoded(picture.convert(mode), "BMP")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) / 255.0
    np.testing.assert_allclose(decoded(data), expected, atol=1e-6)


def test_cmyk_jpeg(picture):
    data = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decoded(data) - np.asarray(picture) / 255.0).mean() < 0.1


def test_transparent_pixels_are_laid_over_white(picture):
    clear = picture.convert("RGBA")
    clear.putalpha(0)
    np.testing.assert_allclose(decoded(encoded(clear, "PNG")), 1.0)


def test_aspect_is_kept_by_a_centre_crop():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    np.testing.assert_allclose(decoded(encoded(Image.fromarray(pixels), "PNG"), (10, 10, 3)), 1.0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (37, 900)])
def test_extreme_sizes(size):
    image = decoded(encoded(Image.new("RGB", size, "red"), "PNG"), (16, 16, 3))
    np.testing.assert_allclose(image, np.broadcast_to([1.0, 0.0, 0.0], (16, 16, 3)), atol=1e-6)


def test_first_frame_of_an_animated_gif(picture):
    data = encoded(picture, "GIF", save_all=True, append_images=[Image.new("RGB", picture.size, "red")])
    assert np.abs(decoded(data) - np.asarray(picture) / 255.0).mean() < 0.1


def test_animated_webp_is_refused_and_the_process_lives(picture):
    data = encoded(picture, "WEBP", save_all=True, append_images=[picture.rotate(180)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP"):
        decoded(data)


@pytest.mark.parametrize("data", [b"", b"B", b"RIFF", b"BM" + b"\0" * 60, b"plain text, no image", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_is_an_invalid_argument(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(data)


def test_all_graphs_with_it_share_one_trace(picture):
    data, shape = encoded(picture, "JPEG"), (9, 7, 3)
    rows = [
        list(tf.data.Dataset.from_tensors(data).map(lambda one: decode_image(one, shape)).as_numpy_iterator())
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*rows)
    assert _traced_decoder(shape, "crop").experimental_get_tracing_count() == 1
