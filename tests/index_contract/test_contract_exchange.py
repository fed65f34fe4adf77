"""Latents out to files, and in again."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from guests import oracle_of
from index_items import CARD, clustered

from ae_search.errors import ConfigurationError
from ae_search.exchange import import_latents

pytestmark = pytest.mark.needs("export")

NEW = clustered(90, seed=99)


@pytest.fixture
def filled(guest, small):
    """Items of the base and added ones, without what no export holds."""
    place, oracle = small
    with guest.open(place) as index:
        index.add(NEW[:2], ["ü 猫", 'q"uote'], [None, "x"], metadata=[{"price": 1.5, "tags": ["a"]}, None])
        index.remove(["key-8"])
        index.update(["key-3"], latents=NEW[3:4])
        yield index


def with_several(filled):
    filled.add(NEW[10:22].reshape(4, 3, 8), [f"three-{i}" for i in range(4)], ["3"] * 4, metadata=[{"n": 3}] * 4)
    filled.add(NEW[22:86].reshape(1, 64, 8), ["most"])
    filled.update(["key-5"], latents=NEW[86:88].reshape(1, 2, 8))
    return filled


def contents(index):
    names = list(index.items())
    rows = index.all_latents([key for key, _, _ in names])
    return [(*name, latents.tolist()) for name, latents in zip(names, rows, strict=True)]


@pytest.mark.parametrize("extend", [lambda index: index, with_several], ids=["one each", "several"])
def test_parquet_and_back(guest, filled, tmp_path, extend):
    index, done, came = extend(filled), [], []
    assert index.export(tmp_path / "all.parquet", on_progress=done.append) == sum(done) == len(index)
    place = guest.place()
    import_latents(tmp_path / "all.parquet", lambda origin: guest.build(place, origin), on_progress=came.append)
    with guest.open(place) as again:
        assert contents(again) == contents(index)
        assert (again.model, again.metric) == (index.model, index.metric)
        assert again.info().latents == index.info().latents
        queries = clustered(20, seed=100)
        expected = [[(n.key, n.distance) for n in row] for row in index.search(queries, exact=True)]
        assert [[(n.key, n.distance) for n in row] for row in again.search(queries, exact=True)] == expected


@pytest.mark.needs("calibration")
@pytest.mark.parametrize("asked", [None, "euclidean"])
def test_what_was_measured_goes_along_while_it_holds(guest, filled, tmp_path, asked):
    stored = {"regions": {"format": 3}, "mine": {"by": [1.5, None, "ü"]}}
    for name, values in stored.items():
        filled.calibrate(name, values)
    filled.export(tmp_path / "all.parquet")
    place = guest.place()
    import_latents(tmp_path / "all.parquet", lambda origin: guest.build(place, origin), metric=asked)
    with guest.open(place) as again:
        assert again.calibration() == (stored if asked in (None, filled.metric) else {})


def test_parquet_as_others_read_it(filled, tmp_path):
    filled.export(str(tmp_path / "all.parquet"))
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["key", "label", "metadata", "latent"]
    row = table.filter(pyarrow.compute.equal(table["key"], "ü 猫")).to_pylist()[0]
    assert (row["label"], json.loads(row["metadata"])) == (None, {"price": 1.5, "tags": ["a"]})
    np.testing.assert_array_equal(np.float32(row["latent"]), filled.latents(["ü 猫"])[0])


def test_json_lines(filled, tmp_path):
    done = []
    assert filled.export(tmp_path / "all.jsonl", on_progress=done.append) == sum(done) == len(filled)
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(row.keys() <= {"id", "embedding", "label", "metadata", "more"} for row in rows)
    assert [row["id"] for row in rows] == filled.keys()
    np.testing.assert_array_equal(np.float32([row["embedding"] for row in rows]), filled.latents(filled.keys()))


def test_json_lines_of_several_latents(filled, tmp_path):
    several = with_several(filled)
    several.export(tmp_path / "all.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    for row, latents in zip(rows, several.all_latents([row["id"] for row in rows]), strict=True):
        np.testing.assert_array_equal(np.float32([row["embedding"], *row.get("more", [])]), latents)


def test_names_and_folders_that_are_refused(filled, tmp_path):
    for name in ("all.csv", "all", "all.npy", "none/all.jsonl"):
        with pytest.raises(ConfigurationError, match=r"\*.parquet or \*.jsonl|Cannot write"):
            filled.export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_was_imported_takes_changes(guest, metric, tmp_path):
    np.save(tmp_path / "all.npy", NEW[:50])
    place, oracle = guest.place(), oracle_of(guest, metric)
    import_latents(Path(tmp_path / "all.npy"), lambda origin: guest.build(place, origin), model=CARD, metric=metric)
    oracle.add(NEW[:50], [str(i) for i in range(50)])
    with guest.open(place) as index:
        oracle.check(index)
        for name, arguments in (("add", {"latents": NEW[60:62], "keys": ["a", "b"]}), ("remove", {"keys": ["7"]})):
            getattr(index, name)(**arguments)
            getattr(oracle, name)(**arguments)
        oracle.check(index)
