"""What the command line does to an index, as methods of `LatentIndex`."""

import dataclasses
import json

import numpy as np
import pytest
from index_fixtures import CARD, DIM, build_at, clustered

from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.index import BuildOptions, IndexBuilder, LatentIndex
from ae_search.index.upkeep.info import info_of
from ae_search.index.upkeep.verify import verify


@pytest.fixture
def opened(tmp_path):
    with LatentIndex.open(build_at(tmp_path / "index", clustered(200))) as index:
        yield index


def test_info_and_verify(opened):
    opened.remove(["key-3"])
    assert opened.info() == info_of(opened.path)
    assert (opened.info().items, opened.info().removed) == (199, 1)
    assert opened.verify() == verify(opened.path)
    assert all(check.fault is None for check in opened.verify())


def test_export_and_import(opened, tmp_path):
    assert opened.export(tmp_path / "all.parquet") == 200
    with LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "again") as again:
        assert again.model == opened.model
        assert again.keys() == opened.keys()
        np.testing.assert_array_equal(again.latents(again.keys()), opened.latents(opened.keys()))
    with pytest.raises(ConfigurationError, match="replace"):
        LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "again")
    with LatentIndex.import_(tmp_path / "all.parquet", tmp_path / "again", BuildOptions(replace=True)) as again:
        assert len(again) == 200


def test_a_source_that_moved(tmp_path):
    with IndexBuilder(tmp_path / "index", CARD, BuildOptions(), sources=["/old", "/else"]) as builder:
        builder.add(clustered(50), [f"key-{at}" for at in range(50)])
    with LatentIndex.open(tmp_path / "index") as index:
        index.add(np.ones((1, DIM), np.float32), ["one more"], source="/old")
        index.add(np.ones((1, DIM), np.float32), ["another"], source="/added")
        index.rename_source("/old", "/new")
        assert index.info().sources == ("/new", "/else", "/added")
        index.rename_source("/added", "/newer")
        with pytest.raises(ConfigurationError, match="no source '/old'; nothing was changed. Its sources: '/new'"):
            index.rename_source("/old", "/new")
        index.rename_source("/newer", "/else")
        assert index.info().sources == ("/new", "/else")
        assert all(check.fault is None for check in index.verify())
        index.compact()
    with LatentIndex.open(tmp_path / "index") as after:
        assert after.info().sources == ("/new", "/else")
        assert len(after) == 52


def test_json_lines_keep_label_and_metadata(tmp_path):
    with LatentIndex.open(build_at(tmp_path / "index", clustered(3))) as index:
        index.update(["key-0"], labels=["ä label"], metadata=[{"price": 1.5, "colour": "blüe"}])
        index.update(["key-1"], labels=[None])
        index.export(tmp_path / "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["id"]: row for row in map(json.loads, lines)}
    assert (rows["key-0"]["label"], rows["key-0"]["metadata"]) == ("ä label", {"price": 1.5, "colour": "blüe"})
    assert rows["key-1"].keys() == {"id", "embedding"}


def test_rebuild_with_another_model(opened):
    latents = opened.latents(opened.keys())
    opened.update(["key-7"], labels=["renamed"])
    other = dataclasses.replace(CARD, version=2, fingerprint="cd" * 32)
    of = dict(zip(opened.keys(), -latents, strict=True))
    info = opened.rebuild(other, lambda keys: np.stack([of[key] for key in keys]))
    assert info.model.version == 2
    with pytest.raises(ModelMismatchError):
        opened.search(latents[0])
    with LatentIndex.open(opened.path) as after:
        np.testing.assert_array_equal(after.latents(["key-9"])[0], of["key-9"])
        assert after.details(["key-7"])[0][0] == "renamed"


@pytest.mark.parametrize(
    "wrong",
    [lambda keys: np.zeros((len(keys) - 1, DIM)), lambda keys: np.zeros((len(keys), DIM + 1))],
    ids=["too few", "too long"],
)
def test_a_rebuild_with_wrong_latents_changes_nothing(opened, wrong):
    with pytest.raises(ValueError, match="xpected"):
        opened.rebuild(dataclasses.replace(CARD, fingerprint="cd" * 32), wrong)
    assert opened.model.fingerprint == CARD.fingerprint
    assert len(opened.search(np.ones(DIM))[0]) == 10
    assert len(list(opened.path.glob("generation-*"))) == 1
