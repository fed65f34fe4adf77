"""Folding changes in: what the index holds and answers stays the same, also meanwhile."""

import threading

import numpy as np
import pytest
from index_items import clustered

from ae_search.contract import Resources

NEW = clustered(200, seed=41)


@pytest.fixture
def opened(guest, small):
    """An index that all kinds of changes were made to."""
    place, oracle = small
    with guest.open(place) as index:
        for name, arguments in (
            ("add", {"latents": NEW[:20], "keys": [f"新-{i}" for i in range(20)], "digests": ["one"] * 20}),
            ("add", {"latents": NEW[30:42].reshape(4, 3, 8), "keys": [f"three-{i}" for i in range(4)]}),
            ("update", {"keys": ["key-3", "schlüssel/猫 7"], "latents": NEW[20:22]}),
            ("update", {"keys": ["key-6", "新-3"], "labels": ["été", None], "metadata": [{"🙂": [1]}, {"n": 5}]}),
            ("update", {"keys": ["新-4"], "thumbnails": [b"picture"]}),
            ("remove", {"keys": ["key-1", "key-2", "新-5", "key-45"]}),
            ("calibrate", {"name": "null", "values": {"mean": 0.5}}),
        ):
            getattr(index, name)(**arguments)
            getattr(oracle, name)(**arguments)
        yield index, oracle


def test_the_same_items_and_the_same_exact_answers(guest, opened):
    index, oracle = opened
    queries = np.concatenate([NEW[:30], clustered(30, seed=43)])
    before, done = index.search(queries, 20, exact=True), []
    info = index.info()
    assert (info.items, info.added > 0, info.removed > 0) == (len(oracle.items), True, True)
    index.compact(on_progress=done.append)
    assert sum(done) == len(oracle.items)
    info = index.info()
    assert (info.items, info.in_base, info.added, info.removed) == (len(oracle.items), len(oracle.items), 0, 0)
    oracle.check(index)
    with guest.open(index.place) as fresh:
        oracle.check(fresh)
    # Ids may count anew; all else is the same to the last bit.
    after = index.search(queries, 20, exact=True)
    assert [[n._replace(id=0) for n in row] for row in after] == [[n._replace(id=0) for n in row] for row in before]


def test_ids_follow_the_order_of_the_keys(opened):
    index, oracle = opened
    for _ in range(2):
        (found,) = index.search(NEW[0], 1000)
        assert [n.key for n in sorted(found, key=lambda neighbour: neighbour.id)] == list(oracle.items)
        index.compact(Resources(1))


def test_nothing_to_fold_changes_nothing(guest, small):
    place, oracle = small
    with guest.open(place) as index:
        for _ in range(2):
            index.compact()
            oracle.check(index)
            index.add(NEW[:1], ["passing"])
            index.remove(["passing"])


def test_removed_items_never_come_back(guest, opened):
    index, oracle = opened
    gone = ["key-1", "key-2", "新-5", "key-45"]
    for _ in range(3):
        index.compact()
        index.remove([next(iter(oracle.items))])
        gone.append(next(iter(oracle.items)))
        oracle.remove(gone[-1:])
        with guest.open(index.place) as fresh:
            for reader in (index, fresh):
                oracle.check(reader)
                found = {n.key for row in reader.search(NEW[:3], 1000) for n in row}
                assert found == set(oracle.items)
                assert not found & set(gone)


def test_everything_removed_is_an_empty_index_that_takes_additions(guest, opened):
    index, oracle = opened
    names = list(oracle.items)
    index.remove(names)
    oracle.remove(names)
    for _ in range(2):
        with guest.open(index.place) as fresh:
            for reader in (index, fresh):
                oracle.check(reader)
                for options in ({}, {"exact": True}, {"where": {"label": "label-1"}}, {"effort": 5}, {"k": 100}):
                    assert reader.search(NEW[0], **options) == [[]]
                assert reader.search(NEW[:70]) == [[]] * 70
                assert (len(reader), reader.keys(), "key-3" in reader) == (0, [], False)
                assert reader.thumbnail("key-3") is None
                assert reader.latents([]).shape == (0, 8)
                assert (reader.all_latents([]), reader.digests([]), list(reader.blocks())) == ([], [], [])
                assert (reader.info().items, reader.info().latents) == (0, 0)
                assert (reader.duplicates(), [check.fault for check in reader.verify() if check.fault]) == ([], [])
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


@pytest.mark.parametrize("metric", ["angular"])
def test_readers_in_threads_never_see_anything_but_the_same_items(guest, small):
    place, oracle = small
    done, wrong, looks = threading.Event(), [], []

    def read(index, query, expected):
        try:
            while not done.is_set():
                looks.append(index.info().generation)
                received = [n.key for n in index.search(query, 9, exact=True)[0]]
                if received != expected or len(index.search(query, 5)[0]) != 5 or "key-3" not in index:
                    wrong.append(received)
        except Exception as error:
            wrong.append(error)

    with guest.open(place) as shared, guest.open(place) as own, guest.open(place) as writer:
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
    assert len(looks) > 3
