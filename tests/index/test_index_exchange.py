"""Latents go out to Parquet and JSON lines, and come in from Parquet and NumPy files."""

import json
from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from build_options import build_options
from index_fixtures import *  # noqa: F403

from ae_search.contract import ModelRef
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.index import LatentIndex

NOTHING = pyarrow.array([], pyarrow.null())


@pytest.fixture
def index(build, latents):
    """Two generations' worth: forest, added, updated and removed items."""
    with LatentIndex.open(build(rows=latents[:300])) as index:
        index.add(latents[300:302], ["ü 猫", 'q"uote'], [None, "x"], metadata=[{"price": 1.5, "tags": ["a"]}, None])
        index.remove(["key-7"])
        index.update(["key-3"], latents=latents[400:401])
        yield index


def contents(index):
    keys = index.keys()
    rows = {key: (label, metadata) for key, label, metadata in index.items()}
    return {key: (*rows[key], latent.tolist()) for key, latent in zip(keys, index.latents(keys), strict=True)}


def test_parquet_and_back(index, tmp_path):
    assert index.export(tmp_path / "all.parquet") == 301
    LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "again", build_options(n_trees=2))
    with LatentIndex.open(tmp_path / "again") as again:
        assert contents(again) == contents(index)
        assert again.model == index.model


@pytest.mark.parametrize("name", ["all.parquet", "all.jsonl"])
def test_a_failed_export_leaves_the_old_file(index, tmp_path, name, monkeypatch):
    (tmp_path / name).write_text("old")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ae_search.index.store.snapshot.Snapshot.blocks", fail)
    with pytest.raises(ConfigurationError, match="the disk is full; make room"):
        index.export(tmp_path / name)
    assert (tmp_path / name).read_text() == "old"
    assert not list(tmp_path.glob(".tmp-*"))


def test_npy_with_row_numbers_and_with_keys(tmp_path, latents):
    np.save(tmp_path / "all.npy", latents[:50].astype(np.float64))
    (tmp_path / "keys.txt").write_text("\n".join(f"name {at}" for at in range(50)), encoding="utf-8")
    LatentIndex.import_(tmp_path / "all.npy", tmp_path / "numbers", build_options(n_trees=2))
    LatentIndex.import_(
        tmp_path / "all.npy",
        tmp_path / "named",
        build_options(n_trees=2),
        keys=tmp_path / "keys.txt",
        metric="euclidean",
    )
    with LatentIndex.open(tmp_path / "numbers") as index:
        assert index.search(latents[20], 1)[0][0].key == "20"
        assert (index.model.name, index.manifest.metric) == ("unknown", "angular")
        np.testing.assert_array_equal(index.latents(["7"])[0], latents[7])
    with LatentIndex.open(tmp_path / "named") as index:
        assert index.search(latents[20], 1)[0][0].key == "name 20"
        assert index.manifest.metric == "euclidean"


def test_the_model_can_be_named(tmp_path, latents, card):
    np.save(tmp_path / "all.npy", latents[:50])
    LatentIndex.import_(tmp_path / "all.npy", tmp_path / "i", build_options(n_trees=2), model=card)
    with LatentIndex.open(tmp_path / "i") as index:
        assert index.model == ModelRef("tiny", 1, "ab" * 32)
    with pytest.raises(ConfigurationError, match="tiny version 1 gives latents of 9 floats. Received: 8"):
        LatentIndex.import_(tmp_path / "all.npy", tmp_path / "j", model=replace(card, latent_dim=9))


def test_latents_keep_their_word_about_their_model(index, tmp_path, card):
    index.export(tmp_path / "all.parquet")
    with pytest.raises(ModelMismatchError, match="come from tiny version 1.*not from other version 3"):
        LatentIndex.import_(
            tmp_path / "all.parquet",
            tmp_path / "i",
            model=replace(card, name="other", version=3, fingerprint="cd" * 32),
        )
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("model", [{"name": 5, "version": 1, "fingerprint": "a"}, {"name": "a", "version": 0}, [], ""])
def test_a_malformed_word_about_the_model_is_none(tmp_path, latents, model):
    about = json.dumps({"model": model, "metric": "angular"})
    table = pyarrow.table({"id": list("abc"), "latent": latents[:3].tolist()}).replace_schema_metadata(
        {b"ae_search": about.encode()}
    )
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet")
    LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "i", build_options(n_trees=2))
    with LatentIndex.open(tmp_path / "i") as index:
        assert index.model.name == "unknown"


def test_an_export_does_not_lie_within_the_index(index):
    with pytest.raises(ConfigurationError, match="within the index"):
        index.export(index.path / "all.jsonl")


def test_no_link_leads_an_export_into_the_index(index, tmp_path):
    (tmp_path / "elsewhere").symlink_to(index.path)
    before = sorted(index.path.rglob("*"))
    with pytest.raises(ConfigurationError, match="within the index"):
        index.export(tmp_path / "elsewhere" / "all.jsonl")
    assert sorted(index.path.rglob("*")) == before


@pytest.mark.parametrize("name", ["empty", "archive"])
def test_what_is_no_array_is_refused(tmp_path, name):
    if name == "empty":
        (tmp_path / "all.npy").write_bytes(b"")
    else:
        with (tmp_path / "all.npy").open("wb") as file:
            np.savez(file, a=np.ones((2, 2)))
    with pytest.raises(ConfigurationError, match="all.npy"):
        LatentIndex.import_(tmp_path / "all.npy", tmp_path / "i")


def test_keys_are_cut_at_line_ends_only(tmp_path, latents):
    np.save(tmp_path / "all.npy", latents[:3])
    (tmp_path / "keys.txt").write_bytes("\ufeffa\u2028b\r\nc\x85\nd".encode())
    LatentIndex.import_(tmp_path / "all.npy", tmp_path / "i", build_options(n_trees=2), keys=tmp_path / "keys.txt")
    with LatentIndex.open(tmp_path / "i") as index:
        assert index.keys() == ["a\u2028b", "c\x85", "d"]


@pytest.mark.parametrize("kind", ["list", "large", "fixed", "double"])
def test_parquet_of_other_programs(tmp_path, latents, kind):
    rows = latents[:40].tolist()
    kinds = {
        "list": pyarrow.list_(pyarrow.float32()),
        "large": pyarrow.large_list(pyarrow.float32()),
        "fixed": pyarrow.list_(pyarrow.float32(), 8),
        "double": pyarrow.list_(pyarrow.float64()),
    }
    table = pyarrow.table({"id": pyarrow.array(range(40)), "embedding": pyarrow.array(rows, kinds[kind])})
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet")
    LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "i", build_options(n_trees=2))
    with LatentIndex.open(tmp_path / "i") as index:
        assert index.keys() == [str(at) for at in range(40)]
        np.testing.assert_array_equal(index.latents(index.keys()), latents[:40])


def write_parquet(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"id": ["a"], "numbers": [[1.0]]}, "needs a column latent or embedding or vector. Received: id, numbers"),
        ({"name": ["a"], "latent": [[1.0]]}, "needs a column key or id"),
        ({"id": ["a", "b"], "latent": [[1.0, 2.0], [1.0]]}, "each latent must hold 2 numbers"),
        ({"id": ["a", "b"], "latent": [[1.0, 2.0], None]}, "each latent must hold 2 numbers"),
        ({"id": ["a", "b"], "latent": [[1.0, 2.0], [None, 1.0]]}, "each latent must hold 2 numbers"),
        ({"id": ["a", "a"], "latent": [[1.0], [2.0]]}, "unique"),
        ({"id": ["a"], "latent": ["text"]}, "latent must hold lists of numbers. Received: string"),
        ({"id": ["a"], "latent": [[]]}, "all.parquet|floats"),
        ({"id": NOTHING, "latent": NOTHING.cast(pyarrow.list_(pyarrow.float32()))}, "no row"),
        ({"id": ["a"], "latent": [[1.0]], "metadata": ["{"]}, "all.parquet cannot be read"),
        ({"id": [None], "latent": [[1.0]]}, "key"),
    ],
)
def test_malformed_parquet_is_refused(tmp_path, columns, told):
    write_parquet(tmp_path / "all.parquet", **columns)
    with pytest.raises((ConfigurationError, TypeError), match=told):
        LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "i")
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((0, 4)), np.array([["a"]]), np.array([[1j]])]
)
def test_malformed_npy_is_refused(tmp_path, array):
    np.save(tmp_path / "all.npy", array)
    with pytest.raises(ConfigurationError, match="all.npy must hold numbers"):
        LatentIndex.import_(tmp_path / "all.npy", tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_pickled_npy_is_refused(tmp_path):
    np.save(tmp_path / "all.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(ConfigurationError, match="all.npy cannot be read"):
        LatentIndex.import_(tmp_path / "all.npy", tmp_path / "i")


def test_latents_that_are_not_finite_are_refused_by_key(tmp_path, latents):
    rows = latents[:10].copy()
    rows[3, 1] = np.nan
    np.save(tmp_path / "all.npy", rows)
    with pytest.raises(ValueError, match="'3'"):
        LatentIndex.import_(tmp_path / "all.npy", tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_keys_must_match_the_rows(tmp_path, latents):
    np.save(tmp_path / "all.npy", latents[:10])
    (tmp_path / "keys.txt").write_text("a\nb\n")
    with pytest.raises(ConfigurationError, match=r"must hold 10 keys.*Received: 2"):
        LatentIndex.import_(tmp_path / "all.npy", tmp_path / "i", keys=tmp_path / "keys.txt")
    with pytest.raises(ConfigurationError, match="none.txt"):
        LatentIndex.import_(tmp_path / "all.npy", tmp_path / "i", keys=tmp_path / "none.txt")


def test_other_endings_are_refused(index, tmp_path):
    with pytest.raises(ConfigurationError, match=r"\*.parquet or \*.jsonl"):
        index.export(tmp_path / "all.csv")
    with pytest.raises(ConfigurationError, match=r"\*.parquet or \*.npy"):
        LatentIndex.import_(tmp_path / "all.csv", tmp_path / "i")
