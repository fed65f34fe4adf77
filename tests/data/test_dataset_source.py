"""A `tf.data.Dataset` as a source."""

import numpy as np
import pytest
import tensorflow as tf
from pictures import coloured_picture, encoded

from ae_search.data import DatasetSource, open_source
from ae_search.data.pipeline import readable_images
from ae_search.errors import ConfigurationError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), np.uint8)
FILES = [encoded(coloured_picture(seed), "PNG") for seed in range(4)]


def test_pairs_of_pixels_and_labels():
    dataset = tf.data.Dataset.from_tensor_slices((PIXELS, [0, 1, 2, 0, 1, 2]))
    source = DatasetSource(dataset, name="mine", label_names=["a", "b"])
    assert list(source.labels) == ["a", "b", "2", "a", "b", "2"]
    assert [source.key(0), source.position("mine/5"), source.position("mine/6")] == ["mine/0", 5, None]
    for at in (0, 1, 4, 2, 2):
        np.testing.assert_array_equal(source.read(at), PIXELS[at])
    images = readable_images(source, (8, 10, 3), cache="memory")
    np.testing.assert_array_equal(images.pixels, PIXELS)


def test_mappings_of_files_with_keys():
    dataset = tf.data.Dataset.from_tensor_slices({"file": FILES, "kind": ["x", "y", "", "x"], "id": [5, 7, 9, 11]})
    source = DatasetSource(dataset, image="file", label="kind", key="id")
    assert [source.read(at) for at in range(4)] == FILES
    assert list(source.labels) == ["x", "y", None, "x"]
    assert [source.key(at) for at in range(4)] == ["5", "7", "9", "11"]
    assert not source.any_order


def test_images_alone():
    assert len(DatasetSource(tf.data.Dataset.from_tensor_slices(FILES))) == 4


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tf.data.Dataset.from_tensor_slices(PIXELS).batch(2), r"uint8 \[2, 8, 10, 3\]. Leave batch\(\) out"),
        (lambda: tf.data.Dataset.from_tensor_slices(PIXELS / 255.0), "Received: float64"),
        (lambda: tf.data.Dataset.from_tensor_slices(PIXELS).repeat(), "has no end"),
        (lambda: tf.data.Dataset.from_tensor_slices(PIXELS).take(0), "no element"),
        (lambda: tf.data.Dataset.from_tensor_slices({"picture": PIXELS}), "has no 'image'.*'picture'|has no .*picture"),
    ],
    ids=["batches", "floats", "endless", "empty", "other names"],
)
def test_what_is_no_image_is_told(make, told):
    with pytest.raises(ConfigurationError, match=told):
        DatasetSource(make())


def test_keys_that_occur_twice_are_told():
    with pytest.raises(ConfigurationError, match="key a occurs twice"):
        DatasetSource(tf.data.Dataset.from_tensor_slices((FILES, ["a", "b", "a", "c"])), key=1)


def test_another_order_each_time_is_noticed():
    dataset = tf.data.Dataset.from_tensor_slices(PIXELS).shuffle(6, seed=1, reshuffle_each_iteration=True)
    source = DatasetSource(dataset)
    with pytest.raises(ConfigurationError, match=r"leave shuffle\(\)"):
        [source.read(at) for at in range(6)]


def test_it_is_no_argument():
    source = DatasetSource(tf.data.Dataset.from_tensor_slices(FILES), name="mine")
    with pytest.raises(ConfigurationError, match="SOURCE must be"):
        open_source(source.argument)
