"""SOURCE arguments, folders as users have them, and the tf.data pipeline."""

import gzip

import numpy as np
import pytest
from PIL import Image

from ae_search.data import ArraySource, FolderSource, open_source, source_name
from ae_search.data.builtin import DIGITS_TRAIN, _read_idx
from ae_search.data.pipeline import first_images, readable_images
from ae_search.data.sources import class_counts, summary
from ae_search.errors import ConfigurationError


def test_a_folder_lists_images_by_relative_path_and_first_level(photos):
    source = open_source(str(photos))
    assert isinstance(source, FolderSource)
    assert len(source) == 22
    assert source.notes == ["skipped 1 .txt"]
    assert class_counts(source) == {"cats": 12, "dögs": 10}
    assert source.key(0) == "cats/image 01.PNG"
    assert source.path(0).is_file()
    assert summary(source) == {"source": photos.name, "images": 22, "classes": 2}


@pytest.mark.parametrize("text", ["fashion", "", "no/such/folder", "digits/validation", "mnist/0"])
def test_what_is_no_source_is_said_in_one_sentence(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not text:
        text = str(tmp_path)  # a folder without images
    with pytest.raises(ConfigurationError, match=r"SOURCE must be|has the splits|holds no image"):
        open_source(text)


def test_a_part_of_a_folder_keeps_keys_labels_and_order(photos):
    whole = open_source(str(photos))
    part = open_source(str(photos), only=["image 0?.*", "*.WEBP"])
    assert part.name == f"{photos.name}[image 0?.*,*.WEBP]"
    assert (part.root, part.notes) == (whole.root, whole.notes)
    expected = [at for at, file in enumerate(whole.files) if "/image 0" in file or file.endswith(".WEBP")]
    assert len(expected) == 12
    assert part.files == [whole.files[at] for at in expected]
    assert part.labels == [whole.labels[at] for at in expected]
    for at in range(len(part)):
        assert part.position(part.key(at)) == at
        assert part.path(at).is_file()
    assert part.position("cats/image 11.PNG") is None
    assert summary(part)["source"] == part.name
    # A source is opened again by its folder, in which all keys are.
    again = open_source(source_name(part))
    assert again.files == whole.files


def test_patterns_are_for_the_name_without_its_folders_in_any_depth(tmp_path):
    files = ["train_0.png", "a/train_1.png", "a/test_1.png", "train_b/c/train_2.png", "train_b/c/Train_3.png"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")

    def names(*patterns):
        return list(open_source(str(tmp_path), only=patterns).files)

    assert names("train_*") == ["a/train_1.png", "train_0.png", "train_b/c/train_2.png"]
    assert names("train_[12].*") == ["a/train_1.png", "train_b/c/train_2.png"]
    assert names("*_3.*", "test*") == ["a/test_1.png", "train_b/c/Train_3.png"]
    assert names("*") == sorted(files)
    assert open_source(str(tmp_path), only=["train_2.png"]).labels == ["train_b"]


@pytest.mark.parametrize("patterns", [["nobody*"], ["cats/*"], ["IMAGE*", "*.tiff"], [""]])
def test_patterns_that_match_nothing_are_named(photos, patterns):
    with pytest.raises(ConfigurationError) as error:
        open_source(str(photos), only=patterns)
    told = str(error.value)
    assert f"None of the 22 images of {photos.name} has a name like {' '.join(patterns)}, folders aside." in told
    assert "cats/image 01.PNG" in told


def test_a_part_of_a_built_in_source_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("AE_SEARCH_DATA", str(tmp_path))
    with pytest.raises(
        ConfigurationError, match=r"--only chooses files of a folder. Received: a\* b, for fashion_mnist."
    ):
        open_source("fashion_mnist", only=["a*", "b"])


def test_one_pattern_that_is_no_list_is_the_programmers_mistake(photos):
    with pytest.raises(TypeError, match="must be a list"):
        open_source(str(photos), only="test_*")


def test_digits_have_stable_keys_and_disjoint_splits():
    train, test = open_source("digits"), open_source("digits/test")
    assert isinstance(train, ArraySource)
    assert (len(train), len(test)) == (DIGITS_TRAIN, 1797 - DIGITS_TRAIN)
    assert train.image_shape == (8, 8, 1)
    assert train.key(3) == "digits/train/3"
    assert train.labels[3] == "3"
    assert train.images.dtype == np.uint8
    assert train.images.max() == 255


def test_fashion_mnist_is_read_from_the_data_folder(tmp_path, monkeypatch):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    pixels = np.arange(3 * 784, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
    for prefix in ("train", "t10k"):
        images = np.array([0x803, 3, 28, 28], ">u4").tobytes() + pixels.tobytes()
        labels = np.array([0x801, 3], ">u4").tobytes() + bytes([9, 0, 8])
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    monkeypatch.setenv("AE_SEARCH_DATA", str(tmp_path))
    source = open_source("fashion_mnist/test")
    np.testing.assert_array_equal(source.images[..., 0], pixels)
    assert list(source.labels) == ["Ankle boot", "T-shirt/top", "Bag"]
    assert source.key(2) == "fashion_mnist/test/2"


@pytest.mark.parametrize(
    "damage",
    [b"", b"no gzip", gzip.compress(b"abc"), gzip.compress(b"\0" * 50)],
    ids=["empty", "no gzip", "too short", "zeros"],
)
def test_a_damaged_idx_file_is_named(tmp_path, damage):
    path = tmp_path / "images.gz"
    path.write_bytes(damage)
    with pytest.raises(ConfigurationError, match="images.gz"):
        _read_idx(path, (28, 28))


def test_damaged_images_are_named_and_left_out(photos, caplog):
    images = readable_images(open_source(str(photos)), (16, 16, 3))
    assert len(images) == 20
    assert set(images.damaged) == {"cats/text.jpg", "cats/truncated.jpg"}
    assert "cats/text.jpg" in caplog.text


def test_a_folder_of_damaged_images_only(tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(ConfigurationError, match="None of the 1 images"):
        readable_images(open_source(str(tmp_path)), (16, 16, 3))


@pytest.mark.parametrize("cache", ["auto", "memory", "none"])
@pytest.mark.parametrize("name", ["photos", "digits"])
def test_an_epoch_holds_every_image_once_in_a_seeded_order(photos, name, cache):
    source = open_source(str(photos) if name == "photos" else "digits/test")
    images = readable_images(source, (16, 16, 3) if name == "photos" else (8, 8, 1), cache=cache)
    assert (images.pixels is None) == (name == "photos" and cache == "none")

    def epochs():
        """Return two passes over the images, as they come."""
        count = len(images)
        batches = images.shuffled(images.positions, 7, seed=5).take(-(-2 * count // 7)).as_numpy_iterator()
        parts = [x for _, x in batches]
        assert {len(part) for part in parts} == {7}
        rows = np.concatenate(parts)
        return rows[:count], rows[count : 2 * count]

    first, second = epochs()
    assert len(first) == len(images)
    assert not np.array_equal(first, second)

    def in_order(rows):
        return sorted(row.tobytes() for row in rows)

    plain = np.concatenate([x for _, x in images.batches(images.positions, 7).as_numpy_iterator()])
    assert in_order(first) == in_order(second) == in_order(plain)
    np.testing.assert_array_equal(epochs()[0], first)


def test_arrays_of_another_size_are_resized():
    images = readable_images(open_source("digits/test"), (28, 28, 3))
    at, batch = next(images.batches(images.positions, 4).as_numpy_iterator())
    assert batch.shape == (4, 28, 28, 3)
    assert at.tolist() == [0, 1, 2, 3]
    assert first_images(images.source, (28, 28, 1), 5).shape == (5, 28, 28, 1)


def test_one_readable_image_is_found_among_damaged_ones(tmp_path):
    for at in range(31):
        (tmp_path / f"{at:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    Image.new("RGB", (9, 9), "red").save(tmp_path / "05.png")
    found = first_images(open_source(str(tmp_path)), (8, 8, 3), 2)
    np.testing.assert_allclose(found, np.broadcast_to(np.float32([1, 0, 0]), (1, 8, 8, 3)), atol=1e-6)
