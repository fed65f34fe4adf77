"""Figures, checks, tuning, and how an index is closed, copied and waited for."""

import copy
import pickle
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from guests import child
from index_items import CARD, DIM, clustered

from ae_search.contract import ModelRef
from ae_search.errors import ConfigurationError, IndexBusyError

NEW = clustered(120, seed=97)


def test_figures(guest, make, metric):
    place = make(clustered(300), metric=metric, recall=0.9)
    with guest.open(place) as index, guest.open(place) as reader:
        before = reader.info()
        assert (before.items, before.latents, before.in_base, before.added, before.removed) == (300, 300, 300, 0, 0)
        index.add(NEW[:5], [f"new-{i}" for i in range(5)])
        index.add(NEW[5:9].reshape(1, 4, DIM), ["four"])
        index.remove(["key-3", "new-1"])
        index.update(["key-4"], labels=["x"])
        info = reader.info()
        assert info == index.info()
        assert info.place == index.place == reader.place
        assert (info.items, info.latents, info.in_base) == (304, 307, 300)
        assert info.in_base + info.added - info.removed == info.items == len(reader)
        assert (info.model, info.image_shape) == (ModelRef("tiny", 1, "ab" * 32), (28, 28, 1))
        assert (info.latent_dim, info.metric) == (DIM, metric)
        assert info.bytes > 0 and info.engine and isinstance(dict(info.engine_options), dict)
        created = datetime.fromisoformat(info.created)
        assert timedelta(0) <= datetime.now(UTC) - created < timedelta(minutes=10)
        assert info.target_recall == 0.9 <= info.recall <= 1.0
        efforts = [point.effort for point in info.recall_curve]
        assert efforts == sorted(set(efforts)) and info.effort in efforts
        (point,) = [point for point in info.recall_curve if point.effort == info.effort]
        assert point.recall == info.recall
        assert info.compact_because is None


def test_the_builder_tells_the_same_figures(guest, latents):
    place = guest.place()
    with guest.build(place, sources=("photos",)) as builder:
        assert len(builder) == 0
        builder.add(latents[:50], [str(i) for i in range(50)])
        builder.add(np.empty((0, DIM), np.float32), [])
        assert len(builder) == 50
    assert builder.seconds and min(builder.seconds.values()) >= 0.0
    with guest.open(place) as index:
        assert builder.info == index.info()


def test_what_is_built_appears_whole_or_not_at_all(guest, make, latents):
    place = guest.place()
    with pytest.raises(RuntimeError), guest.build(place) as builder:
        builder.add(latents[:5], list("abcde"))
        raise RuntimeError
    with pytest.raises(ConfigurationError):
        guest.open(place)
    with pytest.raises(ConfigurationError, match="No images"), guest.build(place):
        pass
    make(latents[:20], place=place)
    with guest.open(place) as index:
        with pytest.raises(ConfigurationError, match="replace"):
            guest.build(place)
        with pytest.raises(RuntimeError), guest.build(place, replace=True) as builder:
            builder.add(latents[20:23], list("abc"))
            assert index.search(latents[4], 1)[0][0].key == "key-4"
            raise RuntimeError
        assert len(index) == 20
        with guest.build(place, replace=True) as builder:
            builder.add(latents[20:23], list("abc"))
        assert index.keys() == list("abc")


def test_compacting_is_suggested(guest, make):
    with guest.open(make(clustered(300))) as index:
        index.add(NEW[:99], [f"new-{i}" for i in range(99)])
        assert index.info().compact_because is None
        index.add(NEW[99:100], ["new-99"])
        assert "100 items were added" in index.info().compact_because
        index.compact()
        assert index.info().compact_because is None
        index.remove(index.keys()[:100])
        assert "100 of the 400 items" in index.info().compact_because


def test_verify_finds_no_fault(guest, pair, both):
    for step in range(3):
        checks = pair[1].verify()
        assert len(checks) > 1 and all(check.what for check in checks)
        assert [check.fault for check in checks if check.fault] == []
        if step == 0:
            both("add", latents=NEW[:6].reshape(2, 3, DIM), keys=["a", "b"], digests=["x", None])
            both("remove", keys=["key-1"])
            both("calibrate", name="null", values={"x": 1})
        else:
            pair[0].compact()


def test_tune_is_followed(guest, make, latents, metric):
    place = make(metric=metric)
    with guest.open(place) as reader, guest.open(place) as writer:
        old = reader.info()
        tuned = writer.tune(0.5)
        assert (tuned.target_recall, old.target_recall) == (0.5, 0.98)
        # An engine for which the first effort that is tried was enough before has no smaller one.
        assert tuned.effort < old.effort or old.effort == old.recall_curve[0].effort
        assert reader.info() == tuned
        assert reader.search(latents[:40], 10) == reader.search(latents[:40], 10, effort=tuned.effort)
        assert writer.tune().target_recall == 0.5
        back = writer.tune(0.98)
        assert (back.effort, back.recall) == (old.effort, old.recall)
        assert reader.info() == back


@pytest.mark.parametrize("recall", [0.0, -1.0, 1.01, float("nan")])
def test_tune_refuses_a_recall_out_of_range(guest, make, recall):
    with guest.open(make(clustered(30))) as index:
        before = index.info()
        with pytest.raises(ValueError, match="recall in"):
            index.tune(recall)
        assert index.info() == before


USES = {
    "len": len,
    "in": lambda index: "key-1" in index,
    "search": lambda index: index.search(NEW[0]),
    "search_by_key": lambda index: index.search_by_key("key-1"),
    "known": lambda index: index.known(["key-1"]),
    "latents": lambda index: index.latents(["key-1"]),
    "all_latents": lambda index: index.all_latents(["key-1"]),
    "details": lambda index: index.details(["key-1"]),
    "digests": lambda index: index.digests(["key-1"]),
    "thumbnail": lambda index: index.thumbnail("key-1"),
    "items": lambda index: list(index.items()),
    "keys": lambda index: index.keys(),
    "labels": lambda index: index.labels(),
    "blocks": lambda index: list(index.blocks()),
    "add": lambda index: index.add(NEW[:1], ["new"]),
    "update": lambda index: index.update(["key-1"], labels=["x"]),
    "remove": lambda index: index.remove(["key-1"]),
    "calibration": lambda index: index.calibration(),
    "calibrate": lambda index: index.calibrate("null", {}),
    "rebuilding": lambda index: index.rebuilding(CARD).__enter__(),
    "compact": lambda index: index.compact(),
    "tune": lambda index: index.tune(),
    "info": lambda index: index.info(),
    "verify": lambda index: index.verify(),
    "duplicates": lambda index: index.duplicates(),
    "model": lambda index: index.model,
    "latent_dim": lambda index: index.latent_dim,
    "metric": lambda index: index.metric,
}


def test_a_closed_index_says_so(guest, make, tmp_path):
    place = make(clustered(30))
    index = guest.open(place)
    index.remove(["key-2"])
    index.close()
    index.close()
    for name, use in (USES | {"export": lambda index: index.export(tmp_path / "all.jsonl")}).items():
        with pytest.raises(ValueError, match="closed"):
            use(index)
            pytest.fail(name)
    with guest.open(place) as fresh:
        assert fresh.keys() == [f"key-{i}" for i in range(30) if i != 2]
        assert fresh.info().removed == 1


def test_a_block_closes_it(guest, make):
    with guest.open(make(clustered(5))) as index:
        assert index.__enter__() is index
        assert len(index) == 5
    with pytest.raises(ValueError, match="closed"):
        len(index)
    with pytest.raises(RuntimeError), guest.open(index.place) as index:
        raise RuntimeError
    with pytest.raises(ValueError, match="closed"):
        len(index)


@pytest.mark.parametrize(
    "again",
    [lambda index: pickle.loads(pickle.dumps(index)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)
def test_a_copy_is_an_index_of_its_own(pair, again):
    index, reader, oracle = pair
    index.remove(["key-1"])
    oracle.remove(["key-1"])
    other = again(index)
    oracle.check(other)
    other.add(NEW[:1], ["new"])
    oracle.add(NEW[:1], ["new"])
    oracle.check(reader)
    other.close()
    oracle.check(index)
    third = again(index)
    index.close()
    oracle.check(third)
    third.close()


def test_what_is_not_there_cannot_be_opened(guest):
    with pytest.raises(ConfigurationError):
        guest.open(guest.place())


def test_waiting_for_another_writer(guest, make):
    place = make(clustered(30))
    held, end = threading.Event(), threading.Event()

    def hold():
        # With an error, so that what was begun is thrown away.
        with guest.open(place) as other, pytest.raises(RuntimeError), other.rebuilding(CARD):
            held.set()
            end.wait(60.0)
            raise RuntimeError

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60.0)
    with guest.open(place) as index:
        with pytest.raises(IndexBusyError):
            index.remove(["key-1"], wait_s=0.1)
        release = threading.Timer(0.3, end.set)
        release.start()
        index.remove(["key-1"], wait_s=60.0)
        assert end.is_set()
        assert index.keys() == [f"key-{i}" for i in range(30) if i != 1]
    for thread in (release, holder):
        thread.join()


def test_a_writer_of_another_process_is_waited_for(guest, make):
    place = make(clustered(30))
    with guest.open(place) as index, child(place) as ask, index.rebuilding(replace(CARD)) as writer:
        assert ask("add", NEW[:1].tolist(), ["new"]) == {"error": "IndexBusyError"}
        assert ask("keys") == index.keys()
        writer.add(NEW[:2], ["a", "b"])


def test_readers_while_another_writes(guest, small):
    """They see each change whole or not at all: a pair of items is never there by half."""
    place, _ = small
    done, wrong, seen = threading.Event(), [], set()

    def read():
        try:
            with guest.open(place) as reader:
                while not done.is_set():
                    keys = {n.key for n in reader.search(NEW[0], 1000, exact=True)[0]} & {"one", "two"}
                    pair = {key for key in reader.keys() if key in ("one", "two")}
                    seen.add(len(pair))
                    if len(keys) == 1 or len(pair) == 1 or len(reader.known(["one", "two"])) == 1:
                        wrong.append((keys, pair))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    with guest.open(place) as writer:
        for thread in threads:
            thread.start()
        for round_ in range(12):
            writer.add(NEW[:2], ["one", "two"])
            writer.update(["two", "one"], labels=[f"round {round_}"] * 2)
            if round_ % 4 == 3:
                writer.compact()
            writer.remove(["one", "two"])
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert 0 in seen
