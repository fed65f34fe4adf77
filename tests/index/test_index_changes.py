import json

import numpy as np
import pytest
from index_child import ask, child
from index_fixtures import *  # noqa: F403
from index_fixtures import clustered

from ae_search.errors import ConfigurationError
from ae_search.index import LatentIndex

NEW = clustered(400, seed=23)


def block(count, start=0):
    """Return items that are in no index yet."""
    return {
        "latents": NEW[start : start + count],
        "keys": [f"new-{i}" for i in range(start, start + count)],
        "labels": [None if i % 3 == 0 else f"label-{i % 5}" for i in range(start, start + count)],
        "metadata": [None if i % 2 else {"n": i, "text": "ü'\""} for i in range(start, start + count)],
        "thumbnails": [None if i % 4 else b"jpeg %d" % i for i in range(start, start + count)],
    }


@pytest.fixture
def opened(small):
    path, oracle = small
    with LatentIndex.open(path) as writer, LatentIndex.open(path) as reader:
        oracle.check(reader)
        yield writer, reader, oracle


def test_additions_are_seen_at_once(opened):
    writer, reader, oracle = opened
    for items in (block(1), block(1, 1), block(300, 2), block(0)):
        writer.add(**items)
        oracle.add(**items)
        for index in (reader, writer):
            oracle.check(index)
    with LatentIndex.open(writer.path) as fresh:
        oracle.check(fresh)


def test_removals_are_seen_at_once(opened):
    writer, reader, oracle = opened
    writer.add(**block(10))
    oracle.add(**block(10))
    # From the forest, from what was added, from both.
    for keys in (["key-1"], ["new-3"], [f"key-{i}" for i in range(2, 40) if i % 7] + ["new-9", "new-0"], []):
        writer.remove(keys)
        oracle.remove(keys)
        for index in (reader, writer):
            oracle.check(index)
            assert not any(key in index for key in keys)
    with LatentIndex.open(writer.path) as fresh:
        oracle.check(fresh)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "fields",
    [
        ("labels",),
        ("latents",),
        ("metadata",),
        ("thumbnails",),
        ("labels", "thumbnails"),
        ("latents", "labels", "metadata", "thumbnails"),
        (),
    ],
)
def test_an_update_keeps_what_is_not_given(opened, fields, times):
    writer, reader, oracle = opened
    writer.add(**block(10))
    oracle.add(**block(10))
    keys = ["key-3", "new-8", "key-1", "new-4", "key-36"]
    for round_ in range(times):
        everything = block(5, 100 + 5 * round_)
        given = {name: everything[name] for name in fields}
        writer.update(keys, **given)
        oracle.update(keys, **given)
        for index in (reader, writer):
            oracle.check(index)
    with LatentIndex.open(writer.path) as fresh:
        oracle.check(fresh)


def test_an_update_can_take_away(opened):
    writer, reader, oracle = opened
    for given in ({"labels": [None]}, {"metadata": [None]}, {"thumbnails": [None]}, {"metadata": [{}]}):
        writer.update(["key-3"], **given)
        oracle.update(["key-3"], **given)
        oracle.check(reader)
    assert (reader.labels()[-1], list(reader.items())[-1][2], reader.thumbnail("key-3")) == (None, {}, None)


def test_a_removed_key_can_be_added_again(opened):
    writer, reader, oracle = opened
    for round_, key in enumerate(["key-5", "key-5", "new-0", "new-0"]):
        if key in writer:
            writer.remove([key])
            oracle.remove([key])
        again = block(1, 50 + round_) | {"keys": [key]}
        writer.add(**again)
        oracle.add(**again)
        oracle.check(reader)


def test_ids_are_never_used_again(opened):
    writer, reader, _ = opened

    def ids():
        return {n.key: n.id for n in reader.search(NEW[0], 1000, exact=True)[0]}

    used = set(ids().values())
    assert used == set(range(60))
    for round_ in range(4):
        writer.add(**block(5, 5 * round_))
        new = {key: number for key, number in ids().items() if key.startswith("new")}
        assert not used & set(new.values())
        used |= set(new.values())
        writer.update([f"new-{5 * round_}"], labels=["other"])
        (moved,) = {ids()[f"new-{5 * round_}"]} - used
        used.add(moved)
        # Also the largest one, whose number SQLite alone would give out again.
        writer.remove([key for key in ids() if key.startswith("new")])
    assert used == set(range(60 + 4 * 6))


def test_another_process_sees_every_change_at_once(small):
    path, oracle = small
    with LatentIndex.open(path) as index, child("read", path) as other:

        def agrees():
            received = ask(other, NEW[0])
            assert received == {"keys": list(oracle.items), "nearest": oracle.ranked(NEW[0])[:3]}

        agrees()
        for round_ in range(20):
            for name, arguments in (
                ("add", block(2, 2 * round_)),
                ("update", {"keys": [f"new-{2 * round_}"], "latents": NEW[300 + round_ : 301 + round_]}),
                ("remove", {"keys": [f"new-{2 * round_ + 1}"]}),
            ):
                getattr(index, name)(**arguments)
                getattr(oracle, name)(**arguments)
                agrees()
        index.compact()
        agrees()
        index.add(**block(2, 200))
        oracle.add(**block(2, 200))
        agrees()


def test_sources_of_additions_are_kept(small):
    path, _ = small
    with LatentIndex.open(path) as index:
        index.add(**block(1), source="photos")
        index.add(**block(1, 1), source="more photos")
        index.add(**block(1, 2), source="photos")
        assert index._snapshot().sources() == ("photos", "more photos")
        index.compact()
        assert index.manifest.sources == ("photos", "more photos")


def test_metadata_come_with_the_answers(opened):
    writer, reader, _ = opened
    writer.add(NEW[:2], ["a", "b"], metadata=[{"price": 2.5, "tags": ["x", {"y": None}], "emoji": "🙂"}, None])
    by_key = {n.key: n for n in reader.search(NEW[0], 100, exact=True)[0]}
    assert by_key["a"].metadata == {"price": 2.5, "tags": ["x", {"y": None}], "emoji": "🙂"}
    assert json.loads(by_key["a"].metadata_json) == by_key["a"].metadata
    assert (by_key["b"].metadata, by_key["b"].metadata_json) == ({}, None)
    assert by_key["key-3"].metadata == {"n": 3, "nested": {"ü": [1, None]}}


def test_a_closed_index_takes_no_changes(small):
    path, oracle = small
    index = LatentIndex.open(path)
    index.close()
    for change in (lambda: index.add(**block(1)), lambda: index.remove(["key-1"]), lambda: index.update(["key-1"])):
        with pytest.raises(ValueError, match="closed"):
            change()
    with LatentIndex.open(path) as fresh:
        oracle.check(fresh)


def test_what_is_no_index_takes_no_changes(small, tmp_path):
    path, _ = small
    with LatentIndex.open(path) as index:
        (path / "CURRENT").rename(tmp_path / "elsewhere")
        for change in (lambda: index.add(**block(1)), index.compact, index.tune):
            with pytest.raises(ConfigurationError, match="is no index"):
                change()
        (tmp_path / "elsewhere").rename(path / "CURRENT")
        index.add(np.ones((1, 8)), ["after"])
        assert "after" in index
