"""TFRecord files of Examples as a source."""

import os

import numpy as np
import pytest
from pictures import coloured_picture, encoded
from records import example, write_records

from ae_search.data import SourceOptions, open_source
from ae_search.data.pipeline import readable_images
from ae_search.data.sources.record_file import MAX_RECORD_BYTES, RecordFile, records
from ae_search.errors import ConfigurationError, ImageError

FILES = [encoded(coloured_picture(seed, (30, 20)), "PNG") for seed in range(10)]
CLASSES = ["cat", "dog"]


def shard(numbers, **more):
    return [
        example(
            image__encoded=FILES[n], image__class__label=n % 2, image__class__text=CLASSES[n % 2], name=f"n{n}", **more
        )
        for n in numbers
    ]


@pytest.fixture(params=[False, True], ids=["plain", "gzip"])
def pattern(tmp_path, request):
    write_records(tmp_path / "data" / "train-0", shard(range(4)), gzipped=request.param)
    write_records(tmp_path / "data" / "train-1", shard(range(4, 10)), gzipped=request.param)
    write_records(tmp_path / "data" / "other", shard([0]))
    return f"tfrecord:{tmp_path}/data/train-*"


def test_images_labels_and_keys(pattern):
    source = open_source(pattern)
    assert len(source) == 10
    assert [source.read(at) for at in range(10)] == FILES
    assert list(source.labels) == [CLASSES[n % 2] for n in range(10)]
    assert [source.key(at) for at in (0, 3, 4, 9)] == ["train-0/0", "train-0/3", "train-1/0", "train-1/5"]
    assert [source.position(source.key(at)) for at in range(10)] == list(range(10))
    for stranger in ("train-0/4", "train-1/05", "train-2/0", "other/0", "", "train-0/", "train-0/-1"):
        assert source.position(stranger) is None
    assert "images from image/encoded, labels from image/class/text" in source.notes[0]


def test_images_are_read_in_any_order(pattern):
    source = open_source(pattern)
    order = np.random.default_rng(0).permutation(10).tolist()
    assert [source.read(at) for at in order] == [FILES[at] for at in order]


def test_features_are_named_and_remembered(pattern, monkeypatch, tmp_path):
    options = SourceOptions(label_feature="image/class/label", key_feature="name")
    source = open_source(pattern, options=options)
    assert list(source.labels) == [str(n % 2) for n in range(10)]
    assert [source.key(at) for at in range(10)] == [f"n{n}" for n in range(10)]
    assert [source.position(f"n{n}") for n in range(10)] == list(range(10))
    assert source.position("n10") is None
    assert source.position("\udcff") is None
    monkeypatch.chdir(tmp_path)
    again = open_source(source.argument)
    assert again.argument == source.argument
    assert (again.key(3), again.labels[3]) == ("n3", "1")


def test_a_relative_pattern_is_found_again_from_elsewhere(pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "data")
    argument = open_source("tfrecord:train-*").argument
    monkeypatch.chdir("/")
    assert len(open_source(argument)) == 10


def test_files_of_one_name_in_several_folders_have_their_own_keys(tmp_path):
    write_records(tmp_path / "a" / "part", shard([0]))
    write_records(tmp_path / "b" / "part", shard([1]))
    source = open_source(f"tfrecord:{tmp_path}/*/part")
    assert [source.key(0), source.key(1)] == ["a/part/0", "b/part/0"]
    assert len(open_source(f"tfrecord:{tmp_path}/**/part")) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (SourceOptions(image_feature="jpg"), "has no feature jpg; it has .*image/encoded.*--image-feature"),
        (SourceOptions(label_feature="kind"), "has no feature kind.*--label-feature"),
        (SourceOptions(key_feature="image/class/label"), "the key 0 occurs twice.*--key-feature"),
    ],
    ids=["image", "label", "key"],
)
def test_a_wrong_feature_is_told_with_those_that_there_are(pattern, options, told):
    with pytest.raises(ConfigurationError, match=told):
        open_source(pattern, options=options)


def test_features_of_a_folder_are_refused(photos):
    with pytest.raises(ConfigurationError, match="Features are those of tfrecord"):
        open_source(str(photos), options=SourceOptions(label_feature="x"))


def test_training_reads_them(pattern):
    images = readable_images(open_source(pattern), (8, 8, 3), cache="memory")
    assert len(images) == 10
    from ae_search.data.decode import decode_image

    # Half a level may be rounded up or down: graphs that are optimised otherwise differ in the last bit.
    expected = 255 * np.stack([decode_image(file, (8, 8, 3)) for file in FILES])
    np.testing.assert_allclose(images.pixels, expected, atol=0.5 + 1e-3)


def test_training_without_a_cache_needs_any_order(tmp_path):
    write_records(tmp_path / "plain", shard(range(4)))
    write_records(tmp_path / "packed", shard(range(4)), gzipped=True)
    images = readable_images(open_source(f"tfrecord:{tmp_path}/plain"), (8, 8, 3), cache="none")
    order = next(images.shuffled(images.positions, 4, seed=1).take(1).as_numpy_iterator())[0]
    assert sorted(order) == [0, 1, 2, 3]
    with pytest.raises(ConfigurationError, match="only be read in its order.*--cache memory"):
        readable_images(open_source(f"tfrecord:{tmp_path}/packed"), (8, 8, 3), cache="none")


def test_a_damaged_record_is_left_out_by_name(tmp_path, caplog):
    path = write_records(tmp_path / "r", shard(range(3)))
    content = bytearray(path.read_bytes())
    offset = [record.offset for record in records(RecordFile(str(path), "r"), gzipped=False)][1]
    content[offset + 40] ^= 1
    path.write_bytes(content)
    source = open_source(f"tfrecord:{path}", options=SourceOptions(key_feature="name"))
    assert len(source) == 3
    assert source.key(1) == "r/1"
    with pytest.raises(ImageError, match="record 1: a damaged record: its checksum is wrong"):
        source.read(1)
    images = readable_images(source, (8, 8, 3), cache="memory")
    assert list(images.damaged) == ["r/1"]
    assert "left out r/1" in caplog.text


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 500])
@pytest.mark.parametrize("options", [SourceOptions(), SourceOptions(label_feature="x")], ids=["plain", "features"])
def test_a_file_that_is_cut_short_is_told(tmp_path, cut, options):
    rows = [example(image=file) for file in FILES[:3]]
    if options.label_feature:
        rows = [example(image=file, x=1) for file in FILES[:3]]
    path = write_records(tmp_path / "r", rows)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ConfigurationError, match="cut short: only 2 of its records are whole"):
        open_source(f"tfrecord:{path}", options=options)


def test_other_files_and_patterns_are_told(tmp_path):
    (tmp_path / "text").write_bytes(b"this is no file of records at all")
    with pytest.raises(ConfigurationError, match="is no TFRecord file"):
        open_source(f"tfrecord:{tmp_path}/text")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="holds no whole record"):
        open_source(f"tfrecord:{tmp_path}/empty")
    with pytest.raises(ConfigurationError, match="No file is named like"):
        open_source(f"tfrecord:{tmp_path}/none-*")
    path = write_records(tmp_path / "strings", [b"no example", b"at all"])
    with pytest.raises(ConfigurationError, match="holds no tf.train.Example"):
        open_source(f"tfrecord:{path}")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="No file is named like"):
        open_source(f"tfrecord:{tmp_path}/pipe")


def test_a_length_beyond_all_bounds_is_refused_before_it_is_read(tmp_path):
    import struct

    from ae_search.data.sources.record_file import _masked_crc

    head = struct.pack("<Q", MAX_RECORD_BYTES + 1)
    (tmp_path / "long").write_bytes(head + struct.pack("<I", _masked_crc(head)) + bytes(100))
    with pytest.raises(ConfigurationError, match="at most"):
        open_source(f"tfrecord:{tmp_path}/long")
