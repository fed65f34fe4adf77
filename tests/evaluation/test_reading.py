"""Images of folders and arrays as the model takes them, and the images of items by their keys."""

import numpy as np
import pytest
import tensorflow as tf

from ae_search.data import ArraySource, open_source
from ae_search.data.decode import decode_image, resize_image
from ae_search.evaluation import reading
from ae_search.evaluation.reading import ItemImages, Reader, shrunk, small_shape

SHAPE = (16, 12, 3)


@pytest.fixture
def folder(photos):
    return open_source(str(photos))


def array_source(name="made/up", count=5, shape=(16, 12, 3), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
    return ArraySource(name, pixels, ["a"] * count)


def test_a_file_is_decoded_as_the_exported_model_decodes_it(folder):
    reader = Reader(SHAPE)
    pixels, read = reader.read(folder, range(len(folder)))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (20, *SHAPE)
    for image, position in zip(pixels, read, strict=True):
        expected = decode_image(tf.io.read_file(str(folder.path(position))), SHAPE).numpy() * 255
        assert np.abs(image - expected).max() <= 0.5 + 1e-3


def test_damaged_files_are_left_out_by_name(folder):
    reader = Reader(SHAPE)
    _, read = reader.read(folder, range(len(folder)))
    assert set(reader.damaged) == {"cats/text.jpg", "cats/truncated.jpg"}
    assert "not a JPEG" in reader.damaged["cats/text.jpg"]
    assert "cut short" in reader.damaged["cats/truncated.jpg"]
    assert {folder.key(position) for position in read}.isdisjoint(reader.damaged)


def test_nothing_readable_is_an_empty_batch(folder):
    position = folder.position("cats/text.jpg")
    pixels, read = Reader(SHAPE).read(folder, [position])
    assert pixels.shape == (0, *SHAPE)
    assert read == []


def test_pixels_of_the_models_shape_stay_and_others_are_resized():
    source = array_source()
    pixels, read = Reader(SHAPE).read(source, [3, 1])
    assert read == [3, 1]
    assert np.array_equal(pixels, source.images[[3, 1]])
    small, _ = Reader((8, 8, 1)).read(source, [3])
    expected = resize_image(tf.constant(source.images[3]), (8, 8, 1)).numpy() * 255
    assert np.abs(small[0] - expected).max() <= 0.5 + 1e-3


def test_items_are_found_in_several_sources_in_the_order_of_their_keys(folder, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 3)
    first, second = array_source("one/train"), array_source("two/train", seed=1)
    images = ItemImages([first, second, folder], Reader(SHAPE))
    keys = ["two/train/4", "one/train/0", "nowhere", "cats/text.jpg", "two/train/1", "one/train/2", "cats/image 01.PNG"]
    found = [(keys[at], pixels) for block, ids in images.blocks(keys) for pixels, at in zip(block, ids, strict=True)]
    assert [key for key, _ in found] == [keys[at] for at in (0, 1, 4, 5, 6)]
    told = dict(found)
    assert np.array_equal(told["two/train/4"], second.images[4])
    assert np.array_equal(told["one/train/2"], first.images[2])
    assert images.missing == {"nowhere"}
    assert set(images.reader.damaged) == {"cats/text.jpg"}


def test_no_source_has_nothing():
    images = ItemImages([], Reader(SHAPE))
    assert list(images.blocks(["a", "b"])) == []
    assert images.missing == {"a", "b"}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((28, 28, 1), (28, 28, 1)), ((128, 96, 3), (64, 48, 3)), ((64, 65, 3), (63, 64, 3)), ((1000, 2, 1), (64, 1, 1))],
)
def test_the_baselines_shape_keeps_the_aspect(shape, expected):
    assert small_shape(shape, 64) == expected


def test_shrinking_averages():
    board = np.indices((32, 24)).sum(axis=0)[np.newaxis, ..., np.newaxis] % 2 * 200
    grey = shrunk(board.astype(np.uint8), (8, 6, 1))
    assert grey.shape == (1, 8, 6, 1)
    assert np.abs(grey.astype(int) - 100).max() <= 20
    colour = shrunk(np.repeat(board.astype(np.uint8), 3, axis=3), (8, 6, 3))
    assert np.array_equal(colour[..., 1], grey[..., 0])
