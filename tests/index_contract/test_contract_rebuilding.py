"""All items anew, with latents of another model: the old ones answer until one step puts the new in their place."""

from dataclasses import replace

import numpy as np
import pytest
from guests import child, oracle_of
from index_items import CARD, clustered

from ae_search.contract import ModelRef
from ae_search.errors import IndexBusyError, ModelMismatchError

pytestmark = pytest.mark.needs("rebuilding")

NEW = clustered(80, dim=5, seed=91)
OTHER = replace(CARD, version=2, fingerprint="cd" * 32, latent_dim=5, image_shape=(32, 32, 3))


@pytest.fixture
def opened(guest, metric):
    """An index with sources, changes and calibration."""
    place, oracle = guest.place(), oracle_of(guest, metric)
    block = {
        "latents": clustered(50, seed=92),
        "keys": [f"key-{i}" for i in range(50)],
        "labels": [f"label-{i % 3}" for i in range(50)],
        "metadata": [{"n": i} if i % 2 else None for i in range(50)],
        "thumbnails": [b"%d" % i if i % 3 else None for i in range(50)],
        "digests": [f"d-{i}" if i % 4 else None for i in range(50)],
    }
    with guest.build(place, replace(CARD, metric=metric), sources=("photos",)) as builder:
        builder.add(**block)
    oracle.add(**block)
    with guest.open(place) as index, guest.open(place) as reader:
        for name, arguments in (
            ("add", {"latents": clustered(4, seed=93), "keys": list("abcd"), "thumbnails": [b"t"] * 4}),
            ("remove", {"keys": ["key-3", "b"]}),
            ("update", {"keys": ["key-5"], "labels": ["renamed"]}),
            ("calibrate", {"name": "null", "values": {"mean": 1}}),
        ):
            getattr(index, name)(**arguments)
            getattr(oracle, name)(**arguments)
        index.add(clustered(1, seed=94), ["e"], source="more")
        oracle.add(clustered(1, seed=94), ["e"])
        yield index, reader, oracle


def write_all(reader, writer, rows=NEW):
    at = 0
    for _, items in reader.blocks():
        writer.add_items(rows[at : at + len(items), np.newaxis], items)
        at += len(items)
    return at


def after(oracle, metric, rows=NEW):
    new = oracle.copy()
    new.metric, new.fingerprint, new.calibration = metric, OTHER.fingerprint, {}
    new.items = {key: item._replace(latents=rows[at : at + 1]) for at, (key, item) in enumerate(oracle.items.items())}
    return new


@pytest.mark.parametrize("new_metric", ["angular", "euclidean"])
def test_the_old_latents_answer_until_the_new_ones_are_there(guest, opened, new_metric):
    index, reader, oracle = opened
    with child(index.place) as ask:
        keys = list(oracle.items)
        with index.rebuilding(replace(OTHER, metric=new_metric)) as writer:
            assert write_all(reader, writer) == len(writer) == len(keys)
            for one in (index, reader):
                oracle.check(one)
            assert ask("keys") == keys
        new = after(oracle, new_metric)
        for one in (index, reader):
            new.check(one)
            assert (one.model, one.latent_dim, one.metric) == (ModelRef("tiny", 2, "cd" * 32), 5, new_metric)
            assert (one.info().image_shape, one.info().sources) == ((32, 32, 3), ("photos", "more"))
            assert (one.info().in_base, one.info().added, one.info().removed) == (len(keys), 0, 0)
        assert ask("search", [0.5] * 8) == {"error": "ModelMismatchError"}
        (found,) = ask("search", NEW[4].tolist(), 3, exact=True, fingerprint="cd" * 32)
        assert [key for _, key, *_ in found] == new.ranked(NEW[4])[:3]
    with guest.open(index.place) as fresh:
        new.check(fresh)
        assert [check.fault for check in fresh.verify() if check.fault] == []
        fresh.add(NEW[60:61], ["new"])
        assert "new" in reader


def test_latents_of_the_old_model_are_refused_afterwards(opened, metric):
    index, reader, oracle = opened
    with reader.rebuilding(replace(OTHER, metric=metric)) as writer:
        write_all(reader, writer)
    new = after(oracle, metric)
    old = clustered(1, seed=1)
    for refused in (
        lambda: index.search(old),
        lambda: index.search(old, exact=True, where={"label": "renamed"}),
        lambda: index.search(NEW[0], fingerprint=CARD.fingerprint),
        lambda: index.add(old, ["new"]),
        lambda: index.update(["key-1"], latents=old),
        lambda: index.calibrate("null", {"mean": 2}),
    ):
        with pytest.raises(ModelMismatchError, match="tiny version 2"):
            refused()
    new.check(index)
    # What is taken out needs no model.
    index.remove(["key-1"])
    new.remove(["key-1"])
    new.check(reader)


@pytest.mark.parametrize("when", ["at once", "after some", "after all", "refused latents"])
def test_an_error_inside_leaves_the_old(guest, opened, metric, when):
    index, reader, oracle = opened
    error = ValueError if when == "refused latents" else RuntimeError
    with pytest.raises(error), index.rebuilding(replace(OTHER, metric=metric)) as writer:
        if when == "after some":
            writer.add(NEW[:3], ["key-1", "x", "y"])
        elif when == "after all":
            write_all(reader, writer)
        elif when == "refused latents":
            writer.add(np.ones((1, 8)), ["key-1"])
        raise RuntimeError
    for one in (index, reader):
        oracle.check(one)
    with guest.open(index.place) as fresh:
        oracle.check(fresh)
    # Nothing is held any more.
    index.add(clustered(1, seed=95), ["afterwards"])
    assert "afterwards" in reader


def test_other_items_than_before_may_come(opened, metric):
    index, reader, oracle = opened
    with index.rebuilding(replace(OTHER, metric=metric)) as writer:
        writer.add(NEW[:6].reshape(2, 3, 5), ["key-1", "only here"], ["x", None], digests=["1", None])
        writer.add(NEW[6:8], ["key-2", "z"], thumbnails=[b"1", None])
        with pytest.raises(Exception, match="'z'"):
            writer.add(NEW[8:9], ["z"])
    assert reader.keys() == ["key-1", "only here", "key-2", "z"]
    assert (reader.info().latents, reader.digests(["key-1"]), reader.thumbnail("key-2")) == (8, ["1"], b"1")
    assert [rows.shape for rows in reader.all_latents(reader.keys())] == [(3, 5), (3, 5), (1, 5), (1, 5)]


def test_nobody_else_writes_meanwhile(guest, opened, metric):
    index, reader, oracle = opened
    with child(index.place) as ask, index.rebuilding(replace(OTHER, metric=metric)) as writer:
        row = clustered(1, seed=96)
        for change in (
            lambda: reader.add(row, ["new"]),
            lambda: reader.update(["key-1"], labels=["x"]),
            lambda: reader.remove(["key-1"]),
            lambda: reader.calibrate("null", {}),
            lambda: reader.compact(),
            lambda: reader.tune(),
            lambda: reader.rebuilding(OTHER).__enter__(),
            lambda: guest.build(index.place, replace=True).__enter__(),
            lambda: reader.remove(["key-1"], wait_s=0.1),
        ):
            with pytest.raises(IndexBusyError, match="written by"):
                change()
        assert ask("remove", ["key-1"]) == {"error": "IndexBusyError"}
        oracle.check(reader)
        write_all(reader, writer)
    assert ask is not None
    reader.remove(["key-1"])
    assert "key-1" not in index
