import threading
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


def test_the_same_items_and_the_same_exact_answers(opened):
    index, oracle = opened
    queries = np.concatenate([NEW[:30], clustered(30, seed=43)])
    before = index.search(queries, 20, exact=True)
    assert index._snapshot().delta.removed_count > 0
    index.compact()
    snapshot = index._snapshot()
    assert (len(snapshot.delta), snapshot.delta.removed_count, snapshot.manifest.items) == (0, 0, len(oracle.items))
    oracle.check(index)
    with LatentIndex.open(index.path) as fresh:
        oracle.check(fresh)
    # Ids count anew; all else is the same to the last bit.
    after = index.search(queries, 20, exact=True)
    assert [[n._replace(id=0) for n in row] for row in after] == [[n._replace(id=0) for n in row] for row in before]


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


def test_removed_items_never_come_back(opened):
    index, oracle = opened
    gone = ["key-1", "key-2", "新-5", "key-45"]
    for _ in range(3):
        index.compact()
        index.remove([next(iter(oracle.items))])
        gone.append(next(iter(oracle.items)))
        oracle.remove(gone[-1:])
        for reader in (index, LatentIndex.open(index.path)):
            oracle.check(reader)
            found = {n.key for row in reader.search(NEW[:3], 1000) for n in row}
            assert found == set(oracle.items)
            assert not found & set(gone)


def test_everything_removed_is_an_empty_index_that_takes_additions(opened):
    index, oracle = opened
    names = list(oracle.items)
    index.remove(names)
    oracle.remove(names)
    for _ in range(2):
        for reader in (index, LatentIndex.open(index.path)):
            oracle.check(reader)
            for options in ({}, {"exact": True}, {"where": {"label": "label-1"}}, {"effort": 5}, {"k": 100}):
                assert reader.search(NEW[0], **options) == [[]]
            assert reader.search(NEW[:70]) == [[]] * 70
            assert (len(reader), reader.keys(), "key-3" in reader) == (0, [], False)
            assert reader.thumbnail("key-3") is None
            assert reader.latents([]).shape == (0, 8)
        index.compact()
    index.tune()
    more = {"latents": NEW[:40], "keys": names[:40], "labels": ["x"] * 40}
    index.add(**more)
    oracle.add(**more)
    oracle.check(index)
    assert [n.key for n in index.search(NEW[5], 4, where={"label": "x"})[0]] == oracle.ranked(NEW[5])[:4]
    index.compact()
    oracle.check(index)
    index.remove(names[:39])
    oracle.remove(names[:39])
    index.compact()
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


@pytest.mark.parametrize("metric", ["angular"])
def test_readers_in_threads_never_see_anything_but_the_same_items(small):
    path, oracle = small
    done, wrong, looks = threading.Event(), [], []

    def read(index, query, expected):
        try:
            while not done.is_set():
                looks.append(index._snapshot().generation.folder.name)
                received = [n.key for n in index.search(query, 9, exact=True)[0]]
                if received != expected or len(index.search(query, 5)[0]) != 5 or "key-3" not in index:
                    wrong.append(received)
        except Exception as error:
            wrong.append(error)

    with LatentIndex.open(path) as shared, LatentIndex.open(path) as own, LatentIndex.open(path) as writer:
        readers = [(index, NEW[at], oracle.ranked(NEW[at])[:9]) for at, index in enumerate((shared, shared, own))]
        threads = [threading.Thread(target=read, args=reader) for reader in readers]
        for thread in threads:
            thread.start()
        for round_ in range(5):
            writer.update(["key-3", "key-50"], labels=[f"round {round_}", None])
            writer.compact()
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(set(looks)) > 3
