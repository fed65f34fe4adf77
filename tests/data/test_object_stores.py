"""Sources in object stores, through fsspec's store in memory and its local scheme."""

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from pictures import coloured_picture, encoded
from records import example, write_records

from ae_search.data import open_source
from ae_search.data.pipeline import readable_images
from ae_search.data.sources import ObjectFolderSource
from ae_search.errors import ConfigurationError, ImageError

FILES = [encoded(coloured_picture(seed), "JPEG") for seed in range(4)]


@pytest.fixture
def store():
    system = fsspec.filesystem("memory")
    for number, content in enumerate(FILES):
        system.pipe(f"/bucket/photos/{'cats' if number % 2 else 'dogs'}/{number}", content)
    system.pipe("/bucket/photos/readme.txt", b"no")
    system.pipe("/bucket/photos/.hidden.jpg", FILES[0])
    system.pipe("/bucket/photos2/other.jpg", FILES[0])
    yield system
    system.rm("/bucket", recursive=True)


def test_a_folder_of_objects(store):
    source = open_source("memory://bucket/photos/")
    assert isinstance(source, ObjectFolderSource)
    assert source.files == ["cats/1", "cats/3", "dogs/0", "dogs/2"]
    assert list(source.labels) == ["cats", "cats", "dogs", "dogs"]
    assert [source.read(at) for at in range(4)] == [FILES[1], FILES[3], FILES[0], FILES[2]]
    assert source.notes == ["skipped 1 .txt"]
    assert source.position("dogs/2") == 3
    assert source.stamp(0).size == len(FILES[1])
    assert len(open_source(source.argument)) == 4
    part = open_source("memory://bucket/photos", only=["[12]"])
    assert (part.files, part.read(1)) == (["cats/1", "dogs/2"], FILES[2])
    assert len(readable_images(source, (8, 8, 3), cache="memory")) == 4


def test_an_object_that_is_gone_is_one_damaged_image(store):
    source = open_source("memory://bucket/photos")
    store.rm("/bucket/photos/cats/1")
    with pytest.raises(ImageError, match="memory://bucket/photos/cats/1: there is no such"):
        source.read(0)


def test_records_in_a_store(store, tmp_path):
    path = write_records(tmp_path / "r", [example(image=file, label=at) for at, file in enumerate(FILES)])
    store.pipe("/bucket/data/r-0.tfrecord", path.read_bytes())
    packed = write_records(
        tmp_path / "p", [example(image=file, label=at) for at, file in enumerate(FILES)], gzipped=True
    )
    store.pipe("/bucket/data/r-1.tfrecord", packed.read_bytes())
    source = open_source("tfrecord:memory://bucket/data/r-*.tfrecord")
    assert [source.read(at) for at in range(8)] == FILES * 2
    assert [source.key(0), source.key(7)] == ["r-0.tfrecord/0", "r-1.tfrecord/3"]
    assert list(source.labels) == list("0123") * 2
    assert len(open_source(source.argument)) == 8


def test_tables_in_a_store_name_objects_only(store, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(FILES[0])
    rows = ["dogs/0", "memory://bucket/photos2/other.jpg", str(tmp_path / "secret.jpg"), "../photos2/other.jpg", "a"]
    store.pipe("/bucket/photos/t.csv", ("path\n" + "\n".join(rows) + "\n").encode())
    source = open_source("memory://bucket/photos/t.csv")
    assert [source.read(0), source.read(1)] == [FILES[0], FILES[0]]
    for at, told in ((2, "leads out"), (3, "leads out"), (4, "no such image file")):
        with pytest.raises(ImageError, match=told):
            source.read(at)
        assert source.path(at) is None
    pyarrow.parquet.write_table(pyarrow.table({"path": ["cats/1"], "label": ["x"]}), tmp_path / "t.parquet")
    store.pipe("/bucket/photos/t.parquet", (tmp_path / "t.parquet").read_bytes())
    assert open_source("table:memory://bucket/photos/t.parquet").read(0) == FILES[1]


def test_a_local_table_may_name_objects(store, tmp_path):
    (tmp_path / "t.csv").write_text("uri,label\nmemory://bucket/photos/dogs/2,dog\n")
    source = open_source(str(tmp_path / "t.csv"))
    assert (source.read(0), source.labels[0]) == (FILES[2], "dog")


def test_the_local_scheme_is_a_local_folder(photos):
    local = open_source(str(photos))
    assert open_source(f"file://{photos}").files == local.files
    assert open_source(f"file://{photos}").argument == local.argument


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("memory://bucket/none", "holds no image; there is nothing below it"),
        ("memory://bucket/none/t.csv", "no such object"),
        ("tfrecord:memory://bucket/none-*", "No file is named like"),
        ("http://127.0.0.1/photos", "An object store is one of"),
        ("simplecache::memory://bucket/photos", "An object store is one of|SOURCE must be"),
        ("memory://a::file:///etc", "An object store is one of"),
        ("github://a:b@c/", "An object store is one of"),
        ("file://other/photos", "another machine"),
    ],
)
def test_what_is_not_there_is_told(text, told):
    with pytest.raises(ConfigurationError, match=told):
        open_source(text)


def test_a_store_without_its_package_is_told(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigurationError, match="gs:// needs the package gcsfs: pip install gcsfs"):
        open_source("gs://bucket/photos")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ae-search\[cloud\]'"):
        open_source("gs://bucket/photos")
