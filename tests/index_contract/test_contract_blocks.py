"""All items in blocks: those of one moment, with all that they have."""

import itertools

import numpy as np
import pytest
from index_items import clustered

NEW = clustered(60, seed=83)
ADDED = {
    "latents": NEW[:10],
    "keys": [f"new-{i}" for i in range(10)],
    "thumbnails": [None if i == 7 else b"new %d" % i for i in range(10)],
    "digests": [f"d-{i}" for i in range(10)],
}


def rows(blocks):
    """Return everything that blocks hold, item by item."""
    found = []
    for latents, items in blocks:
        assert (latents.dtype, latents.ndim, latents.shape[0], latents.shape[2]) == (np.float32, 3, len(items), 8)
        columns = (items.keys, items.labels, items.metadata, items.thumbnails, items.digests)
        found += [(*row, one.tobytes()) for row, one in zip(zip(*columns, strict=True), latents, strict=True)]
    return found


@pytest.fixture
def opened(guest, small):
    place, oracle = small
    with guest.open(place) as index:
        for name, arguments in (
            ("add", ADDED),
            ("remove", {"keys": ["key-1", "new-2"]}),
            ("update", {"keys": ["key-3"], "thumbnails": [b"updated"]}),
        ):
            getattr(index, name)(**arguments)
            getattr(oracle, name)(**arguments)
        yield index, oracle


def test_they_hold_all_there_is(opened):
    index, oracle = opened
    for _ in range(2):
        found = rows(index.blocks())
        assert [row[0] for row in found] == list(oracle.items) == index.keys()
        details = index.details(index.keys())
        for (_, label, metadata, thumbnail, digest, latents), item, detail in zip(
            found, oracle.items.values(), details, strict=True
        ):
            assert (label, thumbnail, digest) == (item.label, item.thumbnail, item.digest)
            assert (metadata is None, detail) == (not item.metadata, (item.label, item.metadata))
            assert latents == item.latents.tobytes()
        index.compact()


def test_without_thumbnails_all_else_is_the_same(opened):
    index, _ = opened
    full, plain = rows(index.blocks()), rows(index.blocks(thumbnails=False))
    assert any(row[3] is not None for row in full)
    assert plain == [(*row[:3], None, *row[4:]) for row in full]


def changed(index, how):
    """Make a change that touches items which a reader has not come to."""
    if how == "remove":
        index.remove(["new-3", "key-40", "key-3"])
    elif how == "update":
        index.update(["new-3", "key-40"], labels=["other"] * 2, thumbnails=[b"other"] * 2, digests=["x"] * 2)
    elif how == "add":
        index.add(NEW[20:40], [f"late-{i}" for i in range(20)])
    index.compact()


@pytest.mark.needs("blocks of one moment")
@pytest.mark.parametrize("how", ["remove", "update", "add", "compact"])
@pytest.mark.parametrize("begun", [0, 1])
@pytest.mark.parametrize("thumbnails", [True, False])
def test_they_are_those_of_the_moment_when_they_were_asked_for(guest, opened, how, begun, thumbnails):
    index, _ = opened
    expected = rows(index.blocks(thumbnails=thumbnails))
    with guest.open(index.place) as writer:
        blocks = index.blocks(thumbnails=thumbnails)
        first = list(itertools.islice(blocks, begun))
        changed(writer, how)
        assert rows([*first, *blocks]) == expected


@pytest.mark.needs("blocks of one moment")
@pytest.mark.parametrize("how", ["remove", "update"])
def test_a_change_without_a_compact_leaves_them_alone_as_well(guest, opened, how, monkeypatch):
    index, _ = opened
    expected = rows(index.blocks())
    with guest.open(index.place) as writer:
        blocks = index.blocks()
        first = next(blocks)
        if how == "remove":
            writer.remove(["new-3", "key-3"])
        else:
            writer.update(["new-3", "key-3"], thumbnails=[b"other", None])
        assert rows([first, *blocks]) == expected


def test_a_builder_takes_them_as_they_come(guest, opened):
    index, oracle = opened
    index.add(NEW[40:46].reshape(2, 3, 8), ["three-1", "three-2"])
    oracle.add(NEW[40:46].reshape(2, 3, 8), ["three-1", "three-2"])
    place = guest.place()
    card = type("Card", (), {"name": "tiny", "version": 1, "fingerprint": "ab" * 32, "image_shape": None})
    card.latent_dim, card.metric = index.latent_dim, index.metric
    with guest.build(place, card) as builder:
        for latents, items in index.blocks():
            builder.add_items(latents, items)
        assert len(builder) == len(oracle.items)
    with guest.open(place) as again:
        oracle.check(again)
        assert again.info().image_shape is None
