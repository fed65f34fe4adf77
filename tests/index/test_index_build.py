import fcntl
import os
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from index_fixtures import *  # noqa: F403

from ae_search.errors import ConfigurationError
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.index.forest import Forest
from ae_search.index.tuning import draw_sample


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_build_leaves_exactly_the_layout(build):
    path = build()
    generation = path / "generation-000001"
    assert sorted(p.name for p in path.iterdir()) == [".lock", "CURRENT", "generation-000001"]
    assert sorted(p.name for p in generation.iterdir()) == ["catalogue.sqlite", "forest.ann", "manifest.json"]
    assert (path / "CURRENT").read_text() == "generation-000001\n"


def test_the_builder_reports_what_it_built(tmp_path, card, latents):
    with IndexBuilder(tmp_path / "index", card, n_trees=3, seed=5, recall=0.9) as builder:
        for start in range(0, 600, 100):
            builder.add(latents[start : start + 100], [str(i) for i in range(start, start + 100)])
        builder.add(np.empty((0, 8), np.float32), [])
        assert len(builder) == 600
    manifest = builder.manifest
    assert (manifest.items, manifest.n_trees, manifest.seed) == (600, 3, 5)
    assert set(builder.seconds) == {"forest", "tuning"}
    assert datetime.fromisoformat(manifest.created).tzinfo is not None
    with LatentIndex.open(tmp_path / "index") as index:
        assert index.manifest == manifest
        assert [index.search(row, 1, exact=True)[0][0].key for row in latents[[0, 99, 100, 599]]] == [
            "0",
            "99",
            "100",
            "599",
        ]


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
@pytest.mark.parametrize("recall", [0.7, 0.98, 1.0])
def test_search_k_is_the_smallest_that_meets_the_recall(build, card, metric, recall):
    rows = np.random.default_rng(1).normal(size=(1500, 8)).astype(np.float32)
    path = build(rows=rows, model=replace(card, metric=metric), recall=recall)
    with LatentIndex.open(path) as index:
        manifest = index.manifest
    curve = manifest.recall_curve
    assert manifest.recall >= recall
    assert [p.search_k for p in curve] == sorted({p.search_k for p in curve})
    assert min(p.search_k for p in curve if p.recall >= recall) == manifest.search_k
    assert curve[0].recall < curve[-1].recall


def test_replace_publishes_the_next_generation(build, latents):
    path = build()
    with LatentIndex.open(path) as old:
        build(rows=latents[:100], replace=True)
        assert sorted(p.name for p in path.iterdir()) == [".lock", "CURRENT", "generation-000002"]
        assert old.search(latents[400], 1)[0][0].key == "key-400"
        assert len(old.labels()) == 600
    with LatentIndex.open(path) as new:
        assert len(new) == 100


def test_an_index_is_replaced_only_when_asked(build):
    build()
    with pytest.raises(ConfigurationError, match=r"600 items of model 'tiny' version 1.*--replace"):
        build()


def test_a_damaged_index_can_be_replaced(build):
    path = build()
    (path / "CURRENT").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read.*--replace"):
        build()
    build(replace=True)
    assert (path / "CURRENT").read_text() == "generation-000002\n"


def test_an_empty_folder_will_do(build, tmp_path):
    (tmp_path / "index").mkdir()
    build()


@pytest.mark.parametrize("replace_it", [False, True])
def test_other_folders_and_files_are_left_alone(build, tmp_path, replace_it):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="'cat.jpg'"):
        build("photos", replace=replace_it)
    with pytest.raises(ConfigurationError, match="Not a directory"):
        build("file", replace=replace_it)
    assert (tmp_path / "photos/cat.jpg").read_bytes() == b"cat"
    assert os.listdir(tmp_path / "photos") == ["cat.jpg"]


def test_a_failure_leaves_nothing(tmp_path, card, latents):
    with pytest.raises(KeyboardInterrupt), IndexBuilder(tmp_path / "index", card) as builder:
        builder.add(latents, [str(i) for i in range(600)])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_an_empty_folder_empty(tmp_path, card):
    with pytest.raises(RuntimeError), IndexBuilder(tmp_path, card):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["forest.Forest.grow", "build.tune", "build.describe_file", "place.write_atomically"])
def test_a_failure_keeps_the_old_index(build, latents, monkeypatch, stage):
    path = build()
    before = snapshot(path)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"ae_search.index.{stage}", fail)
    with pytest.raises((ConfigurationError, OSError), match="No space left"):
        build(rows=latents[:10], replace=True)
    assert snapshot(path) == before
    with LatentIndex.open(path) as index:
        assert len(index) == 600


def test_a_full_disk_is_noticed_before_annoy_dies_of_it(build, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("ae_search.index.forest.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ConfigurationError, match="MiB free"):
        build()
    assert list(tmp_path.iterdir()) == []


def test_the_room_estimate_covers_the_forest(tmp_path, monkeypatch):
    for dim, n in ((1, 300), (2, 1000), (8, 3000), (64, 500)):
        rows = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
        path = tmp_path / f"{dim}.ann"
        Forest.grow(path, rows, "euclidean", n_trees=20, seed=1)
        with monkeypatch.context() as patch:
            usage = type("Usage", (), {"free": path.stat().st_size})()
            patch.setattr("ae_search.index.forest.shutil.disk_usage", lambda _, usage=usage: usage)
            with pytest.raises(ConfigurationError, match="MiB free"):
                Forest.grow(tmp_path / "again.ann", rows, "euclidean", n_trees=20, seed=1)


def test_no_items_no_index(tmp_path, card):
    with pytest.raises(ConfigurationError, match="No images"), IndexBuilder(tmp_path / "index", card):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_cleared(build, tmp_path):
    path = build()
    (path / ".tmp-abc123_x").mkdir()
    (path / ".tmp-abc123_x/forest.ann").write_bytes(b"half")
    (path / ".tmp-99-CURRENT").write_bytes(b"half")
    (path / "generation-000002").mkdir()
    build(replace=True)
    assert sorted(p.name for p in path.iterdir()) == [".lock", "CURRENT", "generation-000003"]


def test_one_writer_at_a_time(build, tmp_path, card, latents):
    with IndexBuilder(tmp_path / "index", card) as builder:
        builder.add(latents[:5], list("abcde"))
        with pytest.raises(ConfigurationError, match=f"is being written by process {os.getpid()}"):
            build()
    with LatentIndex.open(tmp_path / "index") as index:
        assert index.keys() == list("abcde")


def test_a_lock_of_another_process_holds(build, tmp_path):
    path = build()
    with (path / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="is being written"):
            build(replace=True)
    build(replace=True)


def test_a_refused_block_changes_nothing(tmp_path, card, latents):
    broken = latents[:3].copy()
    broken[1, 2] = np.nan
    with IndexBuilder(tmp_path / "index", card) as builder:
        builder.add(latents[:2], ["a", "b"], ["x", None], [b"1", None])
        with pytest.raises(ConfigurationError, match="'a'"):
            builder.add(latents[2:4], ["c", "a"])
        with pytest.raises(ConfigurationError, match="'d'"):
            builder.add(latents[2:5], ["c", "d", "d"])
        with pytest.raises(ValueError, match=r"finite.*'d'"):
            builder.add(broken, ["c", "d", "e"])
        with pytest.raises(ValueError, match=r"\[n, 8\].*'c'"):
            builder.add(latents[:2, :7], ["c", "d"])
        with pytest.raises(ValueError, match="2, 1, 1, 1"):
            builder.add(latents[:2], ["c"])
        with pytest.raises(ValueError, match="1, 1, 0, 1"):
            builder.add(latents[:1], ["c"], [])
        with pytest.raises(TypeError, match="int64"):
            builder.add(latents[:1], ["c"], np.array([3]))
        with pytest.raises(ConfigurationError, match="Unicode"):
            builder.add(latents[:1], ["c\udcff"])
        builder.add(latents[2:3], ["c"])
    with LatentIndex.open(tmp_path / "index") as index:
        assert (index.keys(), index.labels()) == (["a", "b", "c"], ["x", None, None])
        assert [n.id for n in index.search(latents[2], 3, exact=True)[0]][0] == 2
        assert (index.thumbnail("a"), index.thumbnail("c")) == (b"1", None)


def test_items_go_in_only_while_the_builder_is_open(tmp_path, card, latents):
    builder = IndexBuilder(tmp_path / "index", card)
    with pytest.raises(ValueError, match="with block"):
        builder.add(latents[:1], ["a"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"n_trees": 0}, {"seed": -1}, {"seed": 2**32}, {"recall": 0.0}, {"recall": 1.1}])
def test_options_out_of_range(tmp_path, card, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        IndexBuilder(tmp_path / "index", card, **options)


def test_the_recall_curve_leaves_the_query_itself_out(build, card):
    rows = np.random.default_rng(2).normal(size=(800, 8)).astype(np.float32)
    with LatentIndex.open(build(rows=rows, model=replace(card, metric="euclidean"), recall=0.9)) as index:
        ids = draw_sample(Forest.checked_load(index.path / "generation-000001/forest.ann", index.manifest), 42).ids
        assert len(set(ids.tolist())) == 200
        squares = ((rows[ids, None].astype(np.float64) - rows) ** 2).sum(axis=-1)
        squares[range(200), ids] = np.inf
        truth = np.argsort(squares, axis=1)[:, :10].tolist()
        for point in index.manifest.recall_curve:
            found = [[n.id for n in row] for row in index.search(rows[ids], 11, search_k=point.search_k)]
            hits = [len((set(a) - {i}) & set(t)) for a, i, t in zip(found, ids.tolist(), truth, strict=True)]
            assert point.recall == pytest.approx(sum(hits) / 2000, abs=0.002)
