"""Data sets that tensorflow-datasets has prepared."""

import sys
import warnings

import numpy as np
import pytest
from pictures import coloured_picture

from ae_search.data import SourceOptions, open_source
from ae_search.errors import ConfigurationError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_datasets as tfds

PICTURES = [np.asarray(coloured_picture(seed, (12, 9)).convert("RGB")) for seed in range(12)]


class SmallPictures(tfds.core.GeneratorBasedBuilder):
    """Twelve pictures of two kinds."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=["a", "b"]),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(10)), "test": self._generate_examples(range(10, 12))}

    def _generate_examples(self, numbers):
        for number in numbers:
            yield number, {"image": PICTURES[number], "label": number % 2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SmallPictures(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def there(data_dir, monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(data_dir))


def pixels(source):
    import io

    from PIL import Image

    return sorted(np.asarray(Image.open(io.BytesIO(source.read(at)))).tobytes() for at in range(len(source)))


def test_a_split_is_read_from_its_files():
    source = open_source("tfds:small_pictures/train")
    assert len(source) == 10
    assert pixels(source) == sorted(picture.tobytes() for picture in PICTURES[:10])
    assert sorted(source.labels) == ["a"] * 5 + ["b"] * 5
    assert source.key(0) == "small_pictures-train.tfrecord-00000-of-00001/0"
    assert [source.position(source.key(at)) for at in range(10)] == list(range(10))
    assert len(open_source(source.argument)) == 10


def test_a_part_of_a_split_keeps_its_keys():
    whole, part = open_source("tfds:small_pictures/train"), open_source("tfds:small_pictures:1.0.0/train[20%:50%]")
    assert [part.key(at) for at in range(len(part))] == [whole.key(at) for at in (2, 3, 4)]
    assert [part.read(at) for at in range(3)] == [whole.read(at) for at in (2, 3, 4)]
    assert [part.position(part.key(at)) for at in range(3)] == [0, 1, 2]
    assert part.position(whole.key(0)) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tfds:small_pictures", "NAME/SPLIT"),
        ("tfds:huggingface:mnist/train", "NAME/SPLIT"),
        ("tfds:kaggle:a/train", "NAME/SPLIT"),
        ("tfds:../../etc/train", "NAME/SPLIT"),
        ("tfds:small_pictures/validation", "has the splits (train, test|test, train)"),
        ("tfds:no_such_data_set_of_anybody/train", "cannot be opened"),
        ("tfds:mnist/train", "is not prepared in .*--download"),
    ],
)
def test_what_is_not_there_is_told(text, told):
    with pytest.raises(ConfigurationError, match=told):
        open_source(text)


def test_a_feature_that_is_not_there_is_told():
    with pytest.raises(ConfigurationError, match="has no feature picture"):
        open_source("tfds:small_pictures/train", options=SourceOptions(image_feature="picture"))


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ae-search\[tfds\]'"):
        open_source("tfds:mnist/train")
