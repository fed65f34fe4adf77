"""Tables of image paths, CSV and Parquet."""

import json
import os

import pyarrow
import pyarrow.parquet
import pytest
from pictures import coloured_picture, encoded

from ae_search.data import TableSource, open_source
from ae_search.errors import ConfigurationError, ImageError

FILES = [encoded(coloured_picture(seed), "PNG") for seed in range(3)]


@pytest.fixture
def place(tmp_path):
    for number, content in enumerate(FILES):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{number}.png").write_bytes(content)
    return tmp_path


def parquet(path, /, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_a_csv_names_images_labels_and_metadata(place):
    (place / "t.csv").write_text(
        "path,key,label,metadata_price,metadata_code,metadata,left\n"
        'images/0.png,zero,cat,3.5,007,"{""a"": [1]}",x\n'
        f"{place}/images/1.png,,,,,,\n"
        '"images/2.png",two,"a, b",-2,1e3,,\n',
        encoding="utf-8-sig",
    )
    source = open_source(str(place / "t.csv"))
    assert isinstance(source, TableSource)
    assert [source.read(at) for at in range(3)] == FILES
    assert list(source.labels) == ["cat", None, "a, b"]
    assert [source.key(at) for at in range(3)] == ["zero", f"{place}/images/1.png", "two"]
    assert [source.metadata(at) for at in range(3)] == [
        {"a": [1], "price": 3.5, "code": "007"},
        None,
        {"price": -2, "code": 1000.0},
    ]
    assert [source.position(source.key(at)) for at in range(3)] == [0, 1, 2]
    assert source.position("one") is None
    assert source.position("\udcff") is None
    assert "left" in source.notes[0]
    assert source.path(0) == place / "images/0.png"


def test_a_parquet_table_is_the_same(place):
    path = parquet(
        place / "t.parquet",
        path=[f"images/{n}.png" for n in range(3)],
        label=["cat", None, "cat"],
        metadata_price=[1.5, None, 2.0],
        metadata_sold=[True, False, None],
        metadata=[None, json.dumps({"b": 1}), None],
        embedding=[[1.0], [2.0], [3.0]],
    )
    source = open_source(f"table:{path}")
    assert [source.read(at) for at in range(3)] == FILES
    assert list(source.labels) == ["cat", None, "cat"]
    assert [source.metadata(at) for at in range(3)] == [
        {"price": 1.5, "sold": True},
        {"b": 1, "sold": False},
        {"price": 2.0},
    ]
    again = open_source(source.argument)
    assert again.key(2) == "images/2.png"


def test_what_is_missing_is_told_for_the_one_image(place):
    (place / "t.csv").write_text("path\nimages/0.png\nimages/9.png\nimages\nhttp://a/b.png\n")
    source = open_source(str(place / "t.csv"))
    assert source.read(0) == FILES[0]
    for at, told in ((1, "no such image file"), (2, "no regular file"), (3, "no object store that is known")):
        with pytest.raises(ImageError, match=told):
            source.read(at)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "needs a column path"),
        ("name,label\na,b\n", "needs a column path or file.*Received: name, label"),
        ("path\n", "holds no row"),
        ("path,label\n,x\n", "row 1: it has no path"),
        ("path,key\na,k\nb,k\n", "row 2: its key k occurs twice"),
        ("path\na\na\n", "row 2: its key a occurs twice"),
        ("path,metadata\na,[]\n", "row 1: metadata are an object"),
        ("path,metadata\na,{\n", "row 1"),
        ("path,path\na,b\n", "two columns of one name"),
        ("path,label\na,b,c\n", "row 1: it has more values"),
        ('path\n"a\n', "row 1"),
        ("path\n" + "a" * 9000 + "\n", "row 1: a path is a text of at most 8192"),
        ("path\n" + "a" * (3 << 20) + "\n", "row 1: a line is longer"),
        ("path,label\na,b\0c\n", "row 1"),
    ],
)
def test_a_malformed_csv_is_refused_by_row(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        open_source(f"table:{tmp_path}/t.csv")


def test_bytes_that_are_no_text_are_refused_by_row(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"path\na\n\xff\xfe\n")
    with pytest.raises(ConfigurationError, match="row 2: 'utf-8'"):
        open_source(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"path": [[1]]}, "column path must hold texts"),
        ({"path": ["a"], "label": [{"x": 1}]}, "label must be one column|label must hold"),
        ({"path": [None]}, "row 1: it has no path"),
        ({"image": ["a"]}, "needs a column path"),
    ],
    ids=["lists", "objects", "null", "other"],
)
def test_a_parquet_table_of_other_things_is_refused(tmp_path, columns, told):
    with pytest.raises(ConfigurationError, match=told):
        open_source(str(parquet(tmp_path / "t.parquet", **columns)))


def test_no_parquet_at_all(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        open_source(str(tmp_path / "t.parquet"))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ConfigurationError, match="no table"):
        open_source(f"table:{tmp_path}/pipe.csv")
    with pytest.raises(ConfigurationError, match="A table is one of"):
        open_source(f"table:{tmp_path}/t.xlsx")
