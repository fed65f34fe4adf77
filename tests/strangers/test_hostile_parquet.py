"""Parquet files that would unfold into more memory than there is are refused before Arrow makes anything of them."""

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from bounded import run_bounded
from build_options import build_options
from parquet_bytes import (
    BYTE_ARRAY,
    GZIP,
    I64,
    PLAIN,
    REQUIRED,
    SCHEMA,
    Encoded,
    data_page,
    dictionary_page,
    file_of,
    key_chunk,
    latent_chunk,
    number,
    parquet,
    thrift,
    varint,
)

from ae_search.contract import MAX_TEXT_BYTES
from ae_search.errors import ConfigurationError
from ae_search.exchange.parquet_file import about_parquet
from ae_search.index import LatentIndex

FLOATS = 300_000_000
# pyarrow alone takes about 150 MiB.
MIB = 800
THREE_LATENTS = latent_chunk([(0, 1), (1, 3)] * 3, 12)


def column_of(texts, **options):
    """Return a file with some labels, as other programs write it."""
    count = len(texts)
    keys = [f"key {at}" for at in range(count)]
    table = pyarrow.table({"key": keys, "label": texts, "latent": pyarrow.array([[1.0]] * count)})
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, out, **options)
    return out.getvalue().to_pybytes()


def repeated(text, count, **options):
    values = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int32()), pyarrow.array([text]))
    return column_of(values, dictionary_pagesize_limit=1 << 30, compression="gzip", **options)


def with_metadata(text, count):
    values = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int32()), pyarrow.array([text]))
    keys = [f"key {at}" for at in range(count)]
    table = pyarrow.table({"key": keys, "metadata": values, "latent": pyarrow.array([[1.0]] * count)})
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, out, dictionary_pagesize_limit=1 << 30, compression="gzip")
    return out.getvalue().to_pybytes()


def packed_page(size):
    """Return a page of latents that says it unfolds into so many bytes."""
    dictionary, data = THREE_LATENTS
    return dictionary, data_page(gzip.compress(data), 12, size=size)


def zeros(size):
    """Return latents in a page that does unfold into so many bytes."""
    body = gzip.compress(bytes(size))
    return b"", data_page(body, 12, encoding=PLAIN, size=size)


def columns_without_end(groups, columns):
    """Return a footer of which Arrow makes some hundred times as many bytes."""
    column = Encoded(thrift({2: (I64, 0)}))
    group = Encoded(thrift({1: [column] * columns, 2: (I64, 0), 3: (I64, 0)}))
    return file_of(b"", {1: 1, 2: SCHEMA, 3: (I64, 0), 4: [group] * groups})


def deep_schema(levels):
    schema = [{4: "schema", 5: 1}, *[{3: REQUIRED, 4: "g", 5: 1}] * levels, {1: BYTE_ARRAY, 3: REQUIRED, 4: "key"}]
    return file_of(b"", {1: 1, 2: schema, 3: (I64, 0), 4: []})


def huge_arrow_list():
    """Return a file whose own words about Arrow make a latent of 2**31 - 1 floats."""
    kind = pyarrow.list_(pyarrow.float32(), 2**31 - 1)
    table = pyarrow.table({"key": pyarrow.array([], pyarrow.string()), "latent": pyarrow.array([], kind)})
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, out)
    about = pyarrow.parquet.read_metadata(pyarrow.BufferReader(out.getvalue())).metadata[b"ARROW:schema"]
    return parquet(key_chunk(3), THREE_LATENTS, 3, 12, footer={5: [{1: "ARROW:schema", 2: about}]})


def deep_words(levels):
    """Return a file whose words about itself are nested as deep as they are long."""
    return parquet(key_chunk(3), THREE_LATENTS, 3, 12, footer={5: [{1: "ae_search", 2: "[" * levels}]})


def lists_of_a_million():
    """Return a footer with a list that says it has more members than it has bytes."""
    return file_of(b"", b"\x15\x02" + b"\x19" + bytes([0xFC]) + varint(2**31 - 1))


# Each is a function, as some take a while to make.
ATTACKS = {
    "one latent": lambda: parquet(key_chunk(1), latent_chunk([(0, 1), (1, FLOATS - 1)], FLOATS), 1, FLOATS),
    "one latent of many": lambda: parquet(
        key_chunk(5000), latent_chunk([(0, 1), (1, FLOATS - 5000), (0, 4999)], FLOATS), 5000, FLOATS
    ),
    "one latent of which the footer says less": lambda: parquet(
        key_chunk(1), latent_chunk([(0, 1), (1, FLOATS - 1)], FLOATS), 1, 4
    ),
    "one latent in the padding of the column": lambda: parquet(
        key_chunk(3), THREE_LATENTS, 3, FLOATS, footer={6: "parquet-mr version 1.2.8"}
    ),
    "rows without end": lambda: parquet(key_chunk(1), latent_chunk([(0, FLOATS)], FLOATS), FLOATS, FLOATS),
    "a dictionary page of 2 GiB": lambda: parquet(
        key_chunk(3), (dictionary_page(b"\0" * 64, 1, size=2**31 - 1), THREE_LATENTS[1]), 3, 12, latent={"codec": GZIP}
    ),
    "a page of 2 GiB": lambda: parquet(key_chunk(3), packed_page(2**31 - 1), 3, 12, latent={"codec": GZIP}),
    "a page of 200 MB": lambda: parquet(key_chunk(3), zeros(200_000_000), 3, 12, latent={"codec": GZIP}),
    "a page of negative size": lambda: parquet(key_chunk(3), packed_page(-5), 3, 12, latent={"codec": GZIP}),
    "labels of 2 MiB": lambda: repeated("l" * (2 << 20), 4096),
    "plain labels of 2 MiB": lambda: repeated("l" * (2 << 20), 50, use_dictionary=False),
    "plain labels, many of them": lambda: repeated("l" * 8000, 20_000, use_dictionary=False),
    "labels of 2 MiB without a dictionary": lambda: column_of(
        ["l" * (2 << 20) + str(at) for at in range(20)],
        use_dictionary=False,
        column_encoding={"label": "DELTA_BYTE_ARRAY", "key": "PLAIN", "latent.list.element": "PLAIN"},
    ),
    "metadata of 1 MiB": lambda: with_metadata(json.dumps({"a": "x" * 1_000_000}), 4096),
    "a footer of many columns": lambda: columns_without_end(300, 9000),
    "a footer of many groups": lambda: columns_without_end(90_000, 1),
    "a list of more than there is": lists_of_a_million,
    "a deep schema": lambda: deep_schema(50_000),
    "a latent of 2**31 - 1 by its own word": huge_arrow_list,
    "deep words about itself": lambda: deep_words(3_000_000),
    "a column beyond the file": lambda: parquet(
        key_chunk(3), THREE_LATENTS, 3, 12, latent={"_9": (I64, 2**40), "_11": (I64, 2**40)}
    ),
    "a column of 2**62 bytes": lambda: parquet(key_chunk(3), THREE_LATENTS, 3, 12, latent={"_7": (I64, 2**62)}),
    "a column that begins before the file": lambda: parquet(
        key_chunk(3), THREE_LATENTS, 3, 12, latent={"_9": (I64, -9), "_11": (I64, -9)}
    ),
    "more rows than keys": lambda: parquet(key_chunk(3), THREE_LATENTS, 2**40, 12),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused(tmp_path, name):
    (tmp_path / "all.parquet").write_bytes(ATTACKS[name]())
    with pytest.raises(ConfigurationError, match=r"all\.parquet"):
        LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    "name",
    [
        "one latent",
        "one latent of many",
        "a page of 2 GiB",
        "labels of 2 MiB",
        "plain labels, many of them",
        "metadata of 1 MiB",
        "a footer of many columns",
    ],
)
def test_it_is_refused_with_little_memory_and_time(tmp_path, victim, name):
    (tmp_path / "all.parquet").write_bytes(ATTACKS[name]())
    ended = import_in_a_child(tmp_path)
    assert (ended.code, "Traceback" in ended.stderr) == (1, False), ended.stderr[-2000:]
    assert "all.parquet" in ended.stderr


@pytest.mark.slow
def test_metadata_of_many_parts_are_read_with_little_memory(tmp_path, victim):
    """Each takes 30 MB once it is parsed."""
    (tmp_path / "all.parquet").write_bytes(with_metadata('{"a":[' + "{}," * 340_000 + "{}]}", 12))
    assert import_in_a_child(tmp_path).code == 0


def import_in_a_child(tmp_path):
    arguments = ["ae-search", "index", "import", tmp_path / "all.parquet", "--index", tmp_path / "index"]
    ended = run_bounded(arguments, folder=tmp_path, timeout_s=240)
    assert ended.peak_mib < MIB
    return ended


def test_a_file_written_byte_by_byte_is_read(tmp_path):
    """So that the attacks are refused for what they are, and not for how they are written."""
    (tmp_path / "all.parquet").write_bytes(parquet(key_chunk(3), THREE_LATENTS, 3, 12))
    LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index", build_options(n_trees=2))
    with LatentIndex.open(tmp_path / "index") as index:
        assert index.keys() == ["000000", "000001", "000002"]
        np.testing.assert_array_equal(index.latents(index.keys()), np.ones((3, 4)))


KINDS = ["large", "categories", "bytes"]
WRITERS = {
    "as it comes": {},
    "version 1": {"data_page_version": "1.0", "version": "1.0"},
    "version 2": {"data_page_version": "2.0"},
    "no dictionaries": {"use_dictionary": False},
    "gzip": {"compression": "gzip"},
    "zstd": {"compression": "zstd"},
    "not packed": {"compression": "none"},
    "small pages": {"data_page_size": 100},
    "small groups": {"row_group_size": 7},
    "an index of pages": {"write_page_index": True, "write_page_checksum": True},
    "split floats": {"use_dictionary": False, "use_byte_stream_split": ["latent.list.element"]},
    "lengths apart": {
        "use_dictionary": False,
        "column_encoding": {"key": "DELTA_LENGTH_BYTE_ARRAY", "label": "DELTA_LENGTH_BYTE_ARRAY"},
    },
}


@pytest.mark.parametrize(
    ("writer", "kind"), [*((writer, "text") for writer in WRITERS), *(("as it comes", kind) for kind in KINDS)]
)
def test_what_other_programs_write_is_read(tmp_path, writer, kind):
    rows = np.random.default_rng(1).normal(size=(500, 6)).astype(np.float32)
    keys = [f"key {at}" for at in range(500)]
    labels = [None if at % 9 == 0 else "a label " * (at % 3) for at in range(500)]
    texts = pyarrow.array(labels, {"large": pyarrow.large_string(), "bytes": pyarrow.binary()}.get(kind))
    if kind == "categories":
        texts = texts.dictionary_encode()
    metadata = pyarrow.array([json.dumps({"n": at}) if at % 2 else None for at in range(500)])
    table = pyarrow.table({"key": keys, "label": texts, "metadata": metadata, "latent": list(rows)})
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet", **WRITERS[writer])
    LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index", build_options(n_trees=2))
    with LatentIndex.open(tmp_path / "index") as index:
        assert (index.keys(), index.labels()) == (keys, labels)
        assert [metadata for _, _, metadata in index.items()] == [{"n": at} if at % 2 else {} for at in range(500)]
        np.testing.assert_array_equal(index.latents(keys), rows)


def test_constant_latents_and_labels_are_read(tmp_path):
    """Nothing unfolds more than they do."""
    latents = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.zeros(4000 * 8, np.float32)), 8)
    table = pyarrow.table({"id": np.arange(4000), "label": ["one label"] * 4000, "latent": latents})
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet", compression="zstd")
    LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index", build_options(n_trees=1, recall=0.1))
    with LatentIndex.open(tmp_path / "index") as index:
        assert len(index) == 4000


@pytest.mark.parametrize("longest", [True, False])
def test_long_metadata_are_read_a_few_at_a_time(tmp_path, longest):
    count = 20 if longest else 3000
    metadata = [json.dumps({"text": "m" * (1_000_000 if longest else 4000), "n": at}) for at in range(count)]
    table = pyarrow.table(
        {"key": [str(at) for at in range(count)], "metadata": metadata, "latent": [[1.0, at] for at in range(count)]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet", compression="none")
    LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index", build_options(n_trees=1))
    with LatentIndex.open(tmp_path / "index") as index:
        assert [metadata["n"] for _, _, metadata in index.items()] == list(range(count))


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ({"latent": [[[1.0]], [[2.0]]]}, "lists of numbers"),
        ({"latent": [{"a": 1.0}, {"a": 2.0}]}, "lists of numbers"),
        ({"latent": [["a"], ["b"]]}, "lists of numbers"),
        ({"label": [["a"], ["b"]]}, "label must hold texts"),
        ({"label": [{"a": "b"}, None]}, "label must hold texts"),
        ({"label": [1.5, 2.5]}, "label must hold texts"),
        ({"key": [["a"], ["b"]]}, "key must hold texts"),
        ({"metadata": [{"a": "b"}, None]}, "metadata must hold objects as JSON texts"),
        ({"metadata": [1, 2]}, "metadata must hold objects as JSON texts"),
        ({"label": ["l" * (MAX_TEXT_BYTES + 1), "l"]}, "label may have 8192 bytes"),
        ({"key": ["l" * (MAX_TEXT_BYTES + 1), "l"]}, "key may have 8192 bytes"),
        ({"metadata": ["{}", '{"a":"' + "l" * (1 << 20) + '"}']}, "metadata may have 1048576 bytes"),
        ({"metadata": ["{}", '{"a":' * 200 + "1" + "}" * 200]}, "levels deep"),
        ({"metadata": ["{}", "[" * 100_000]}, "all.parquet"),
        ({"metadata": ["{}", "[1]"]}, "object"),
        ({"latent": [[1.0] * 70_000] * 2}, "1 to 65536 floats. Received: 70000"),
        ({"key.more": ["x", "y"]}, "must be one column"),
    ],
)
def test_columns_of_other_kinds_are_refused(tmp_path, column, told):
    table = pyarrow.table({"key": ["a", "b"], "latent": [[1.0], [2.0]], **column})
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet")
    with pytest.raises((ConfigurationError, ValueError), match=told):
        LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_two_columns_of_one_name_are_refused(tmp_path):
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"]), pyarrow.array([[1.0]])]
    pyarrow.parquet.write_table(pyarrow.table(columns, names=["key", "key", "latent"]), tmp_path / "all.parquet")
    with pytest.raises(ConfigurationError, match="must be one column"):
        LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index")


def test_no_file_at_all_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "all.parquet")
    with pytest.raises(ConfigurationError, match="no regular file"):
        LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index")
    with pytest.raises(ConfigurationError, match="no regular file"):
        about_parquet(tmp_path / "all.parquet")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_or_read(tmp_path, seed):
    """A few hundred bytes changed at random: an error of ours, or an index."""
    good = parquet(key_chunk(3), THREE_LATENTS, 3, 12)
    rng = np.random.default_rng(seed)
    for at in range(40):
        content = bytearray(good)
        for place in rng.integers(4, len(good) - 8, size=1 + at % 3):
            content[place] = rng.integers(256)
        (tmp_path / "all.parquet").write_bytes(content)
        try:
            LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index", build_options(n_trees=1))
        except (ConfigurationError, ValueError, TypeError):
            continue
        shutil.rmtree(tmp_path / "index")


def test_page_headers_that_say_something_twice_are_refused(tmp_path):
    """Who reads a field a second time may take either."""
    dictionary, data = THREE_LATENTS
    said = thrift({1: 0, 2: 40, 3: 40, 5: {1: 12, 2: 8, 3: 3, 4: 3}})
    twice = said[:-1] + bytes([0x05]) + number(2) + number(2**31 - 1) + b"\0"
    body = data[len(said) :]
    (tmp_path / "all.parquet").write_bytes(parquet(key_chunk(3), (dictionary, twice + body), 3, 12))
    with pytest.raises(ConfigurationError, match="says something twice"):
        LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "index")


def test_hostile_shards_of_embed_are_done_again_or_refused(tmp_path):
    path = Path(tmp_path / "latents-00000.parquet")
    path.write_bytes(columns_without_end(300, 9000))
    with pytest.raises(ConfigurationError, match="its footer cannot be read"):
        about_parquet(path)
    with pytest.raises(ConfigurationError, match="its footer cannot be read"):
        LatentIndex.import_(tmp_path, tmp_path / "index")
