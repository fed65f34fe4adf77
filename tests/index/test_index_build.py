import os
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from build_options import build_options
from index_fixtures import *  # noqa: F403

from ae_search.errors import ConfigurationError
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.index.engine.annoy import AnnoyEngine
from ae_search.index.engine.tuning import draw_sample, meets
from ae_search.index.options import AnnoyOptions, BaseShape, Resources

LIVE = [".epoch", ".lock", "CURRENT"]


def snapshot(folder):
    """Return the bytes of all files but the two that every writer touches."""
    passing = (".lock", ".epoch")
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in passing}


def counter(folder):
    return int.from_bytes((folder / ".epoch").read_bytes(), "little")


def test_a_build_leaves_exactly_the_layout(build):
    path = build()
    generation = path / "generation-000001"
    assert sorted(p.name for p in path.iterdir()) == [*LIVE, "generation-000001"]
    assert sorted(p.name for p in generation.iterdir()) == [
        "catalogue.sqlite",
        "changes.sqlite",
        "forest.ann",
        "manifest.json",
        "names.bin",
    ]
    assert (path / ".epoch").stat().st_size == 8
    assert counter(path) % 2 == 0
    assert (path / "CURRENT").read_text() == "generation-000001\n"


def test_the_builder_reports_what_it_built(tmp_path, card, latents):
    with IndexBuilder(tmp_path / "index", card, build_options(n_trees=3, seed=5, recall=0.9)) as builder:
        for start in range(0, 600, 100):
            builder.add(latents[start : start + 100], [str(i) for i in range(start, start + 100)])
        builder.add(np.empty((0, 8), np.float32), [])
        assert len(builder) == 600
    manifest = builder.manifest
    assert (manifest.items, manifest.latents, manifest.engine, manifest.seed) == (600, 600, AnnoyOptions(3), 5)
    assert set(builder.seconds) == {"catalogue", "base", "tuning"}
    assert min(builder.seconds.values()) > 0.0
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
    assert [p.effort for p in curve] == sorted({p.effort for p in curve})
    chosen = next(p for p in curve if p.recall - p.error >= recall)
    assert (chosen.effort, chosen.recall) == (manifest.effort, manifest.recall)
    assert [meets(p, recall) for p in curve] == [p.recall - p.error >= recall for p in curve]
    assert curve[0].recall < curve[-1].recall


def test_replace_publishes_the_next_generation(build, latents):
    path = build()
    with LatentIndex.open(path) as old:
        before = old._snapshot()
        build(rows=latents[:100], replace=True)
        assert sorted(p.name for p in path.iterdir()) == [*LIVE, "generation-000002"]
        # What a search has begun with stays as it was; the next one follows.
        assert (len(before), before.names([400])[0][0]) == (600, "key-400")
        np.testing.assert_array_equal(before.latents([400]), latents[400:401])
        assert len(old) == 100
        assert old.search(latents[40], 1)[0][0].key == "key-40"
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


WRITER = "store.generation_writer"
STAGES = [
    "engine.annoy.AnnoyEngine.grow",
    f"{WRITER}.tune",
    f"{WRITER}.create_changes",
    f"{WRITER}.describe_file",
    "store.place.write_atomically",
]


@pytest.mark.parametrize("stage", STAGES)
def test_a_failure_keeps_the_old_index(build, latents, monkeypatch, stage):
    path = build()
    reader = LatentIndex.open(path)
    before = snapshot(path)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"ae_search.index.{stage}", fail)
    with pytest.raises((ConfigurationError, OSError), match="the disk is full"):
        build(rows=latents[:10], replace=True)
    assert snapshot(path) == before
    assert counter(path) % 2 == 0
    with LatentIndex.open(path) as index:
        assert (len(index), len(reader)) == (600, 600)


def test_an_interruption_after_the_rename_keeps_the_new_index(build, latents, monkeypatch):
    path = build()
    from ae_search.index.store import place

    write = place.write_atomically

    def interrupted(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(rows=latents[:10], replace=True)
    with LatentIndex.open(path) as index:
        assert len(index) == 10


def test_a_failed_write_cannot_be_passed_over(tmp_path, card, latents, monkeypatch):
    from ae_search.index.items.names import NamesWriter

    def fail(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigurationError, match="a write failed"), IndexBuilder(tmp_path / "index", card) as builder:
        builder.add(latents[:3], list("abc"))
        with monkeypatch.context() as patch:
            patch.setattr(NamesWriter, "add", fail)
            with pytest.raises(ConfigurationError, match="the disk is full"):
                builder.add(latents[3:6], list("def"))
        with pytest.raises(ConfigurationError, match="an earlier write failed"):
            builder.add(latents[6:9], list("ghi"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_before_annoy_dies_of_it(build, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("ae_search.index.engine.annoy.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ConfigurationError, match="the disk is full"):
        build()
    assert list(tmp_path.iterdir()) == []


def grow(path, rows):
    shape = BaseShape(*rows.shape, "euclidean")
    return AnnoyEngine.grow(path, rows, shape, AnnoyOptions(20), seed=1, resources=Resources(1, False))


def test_the_room_estimate_covers_the_forest(tmp_path, monkeypatch):
    for dim, n in ((1, 300), (2, 1000), (8, 3000), (64, 500)):
        rows = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
        path = tmp_path / f"{dim}.ann"
        grow(path, rows)
        with monkeypatch.context() as patch:
            usage = type("Usage", (), {"free": path.stat().st_size})()
            patch.setattr("ae_search.index.engine.annoy.shutil.disk_usage", lambda _, usage=usage: usage)
            with pytest.raises(ConfigurationError, match="the disk is full"):
                grow(tmp_path / "again.ann", rows)


def test_no_items_no_index(tmp_path, card):
    with pytest.raises(ConfigurationError, match="No images"), IndexBuilder(tmp_path / "index", card):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_cleared(build, tmp_path):
    path = build()
    (path / ".tmp-abc123_x").mkdir()
    (path / ".tmp-abc123_x/forest.ann").write_bytes(b"half")
    (path / ".tmp-def456_y").write_bytes(b"half")
    (path / "generation-000001/.tmp-ghi789_z").mkdir()
    (path / "generation-000002").mkdir()
    build(replace=True)
    # The one that was published and never went live is cleared before the next number is chosen.
    assert sorted(p.name for p in path.iterdir()) == [*LIVE, "generation-000002"]
    assert (path / "CURRENT").read_text() == "generation-000002\n"


def test_items_go_in_only_while_the_builder_is_open(tmp_path, card, latents):
    builder = IndexBuilder(tmp_path / "index", card)
    with pytest.raises(ValueError, match="with block"):
        builder.add(latents[:1], ["a"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"n_trees": 0}, {"seed": -1}, {"seed": 2**32}, {"recall": 0.0}, {"recall": 1.1}])
def test_options_out_of_range(tmp_path, card, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        IndexBuilder(tmp_path / "index", card, build_options(**options))


def test_the_recall_curve_leaves_the_query_itself_out(build, card):
    rows = np.random.default_rng(2).normal(size=(800, 8)).astype(np.float32)
    with LatentIndex.open(build(rows=rows, model=replace(card, metric="euclidean"), recall=0.9)) as index:
        base = index._snapshot().generation.base
        ids = draw_sample(base, 42).ids
        assert len(set(ids)) == 500
        squares = ((rows[ids, None].astype(np.float64) - rows) ** 2).sum(axis=-1)
        squares[range(500), ids] = np.inf
        truth = np.argsort(squares, axis=1)[:, :10].tolist()
        for point in index.manifest.recall_curve:
            found = [base.candidates(row, 11, point.effort) for row in rows[ids]]
            hits = [len((set(a) - {i}) & set(t)) / 10 for a, i, t in zip(found, ids, truth, strict=True)]
            assert point.recall == pytest.approx(np.mean(hits), abs=0.002)
            assert point.error == pytest.approx(np.std(hits) / np.sqrt(500), rel=0.1, abs=1e-4)
