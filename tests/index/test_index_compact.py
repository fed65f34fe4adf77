from dataclasses import replace

import numpy as np
import pytest
from build_options import build_options
from index_fixtures import *  # noqa: F403
from index_fixtures import CARD, clustered, only_generation

from ae_search.index import IndexBuilder, LatentIndex, Resources

NEW = clustered(200, seed=41)


@pytest.fixture
def opened(small):
    """An index that all kinds of changes were made to."""
    path, oracle = small
    with LatentIndex.open(path) as index:
        for name, arguments in (
            ("add", {"latents": NEW[:20], "keys": [f"新-{i}" for i in range(20)]}),
            ("update", {"keys": ["key-3", "schlüssel/猫 7"], "latents": NEW[20:22]}),
            ("update", {"keys": ["key-6", "新-3"], "labels": ["été", None], "metadata": [{"🙂": [1]}, {"n": 5}]}),
            ("update", {"keys": ["新-4"], "thumbnails": [b"picture"]}),
            ("remove", {"keys": ["key-1", "key-2", "新-5", "key-45"]}),
        ):
            getattr(index, name)(**arguments)
            getattr(oracle, name)(**arguments)
        yield index, oracle


def generation_of(index):
    return (index.path / "CURRENT").read_text()


def test_the_plan_is_kept(opened):
    index, _ = opened
    old = index.manifest
    index.compact(Resources(1))
    assert index.manifest.plan() == old.plan()
    assert generation_of(index) == "generation-000002\n"
    assert only_generation(index.path).name == "generation-000002"


def test_nothing_to_fold_writes_nothing(small):
    path, oracle = small
    with LatentIndex.open(path) as index:
        index.compact()
        assert generation_of(index) == "generation-000001\n"
        index.remove([])
        index.compact()
        assert generation_of(index) == "generation-000001\n"
        # What was added and removed again leaves nothing to fold either.
        index.add(NEW[:1], ["passing"])
        index.remove(["passing"])
        index.compact()
        assert generation_of(index) == "generation-000001\n"
        oracle.check(index)


def test_many_items_over_several_blocks(tmp_path, metric, monkeypatch):
    monkeypatch.setattr("ae_search.index.store.snapshot._ITEMS_PER_BLOCK", 16)
    rows = clustered(100, seed=47)
    with IndexBuilder(tmp_path / "index", replace(CARD, metric=metric), build_options(n_trees=2)) as builder:
        builder.add(rows, [str(i) for i in range(100)], thumbnails=[b"%d" % i if i % 2 else None for i in range(100)])
    with LatentIndex.open(tmp_path / "index") as index:
        # One block of the forest is left without an item.
        index.remove([str(i) for i in range(30, 50)])
        index.add(NEW[:40], [f"new-{i}" for i in range(40)], thumbnails=[b"n%d" % i for i in range(40)])
        keys = [str(i) for i in range(100) if not 30 <= i < 50] + [f"new-{i}" for i in range(40)]
        for _ in range(2):
            assert index.keys() == keys
            np.testing.assert_array_equal(index.latents(keys), np.concatenate([rows[:30], rows[50:], NEW[:40]]))
            assert [index.thumbnail(key) for key in ("1", "2", "51", "new-7")] == [b"1", None, b"51", b"n7"]
            index.compact()
