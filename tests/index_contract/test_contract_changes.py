"""What a change does, and who sees it when."""

import json

import pytest
from guests import child
from index_items import clustered

from ae_search.errors import ConfigurationError

NEW = clustered(400, seed=23)


def block(count, start=0):
    """Return items that are in no index yet."""
    return {
        "latents": NEW[start : start + count],
        "keys": [f"new-{i}" for i in range(start, start + count)],
        "labels": [None if i % 3 == 0 else f"label-{i % 5}" for i in range(start, start + count)],
        "metadata": [None if i % 2 else {"n": i, "text": "ü'\""} for i in range(start, start + count)],
        "thumbnails": [None if i % 4 else b"jpeg %d" % i for i in range(start, start + count)],
        "digests": [None if i % 3 else f"digest-{i}" for i in range(start, start + count)],
    }


def test_additions_are_seen_at_once(guest, pair, both):
    for items in (block(1), block(1, 1), block(300, 2), block(0)):
        both("add", **items)
    with guest.open(pair[0].place) as fresh:
        pair[2].check(fresh)


def test_removals_are_seen_at_once(guest, pair, both):
    both("add", **block(10))
    # From the base, from what was added, from both.
    for keys in (["key-1"], ["new-3"], [f"key-{i}" for i in range(2, 40) if i % 7] + ["new-9", "new-0"], []):
        both("remove", keys=keys)
        assert not any(key in index for key in keys for index in pair[:2])
    with guest.open(pair[0].place) as fresh:
        pair[2].check(fresh)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "fields",
    [
        ("labels",),
        ("latents",),
        ("metadata",),
        ("thumbnails",),
        ("digests",),
        ("labels", "thumbnails"),
        ("latents", "labels", "metadata", "thumbnails", "digests"),
        (),
    ],
)
def test_an_update_keeps_what_is_not_given(guest, pair, both, fields, times):
    both("add", **block(10))
    keys = ["key-3", "new-8", "key-1", "new-4", "key-36"]
    for round_ in range(times):
        everything = block(5, 100 + 5 * round_)
        both("update", keys=keys, **{name: everything[name] for name in fields})
    with guest.open(pair[0].place) as fresh:
        pair[2].check(fresh)


def test_an_update_can_take_away(pair, both):
    for name in ("labels", "metadata", "thumbnails", "digests"):
        both("update", keys=["key-3"], **{name: [None]})
    both("update", keys=["key-3"], metadata=[{}])
    reader = pair[1]
    assert reader.details(["key-3"]) == [(None, {})]
    assert (reader.thumbnail("key-3"), reader.digests(["key-3"])) == (None, [None])


def test_a_removed_key_can_be_added_again(pair, both):
    for round_, key in enumerate(["key-5", "key-5", "new-0", "new-0"]):
        if key in pair[0]:
            both("remove", keys=[key])
        both("add", **block(1, 50 + round_) | {"keys": [key]})


def test_the_longest_texts_that_an_item_may_have(pair, both):
    longest = "ü" * 4096
    both("add", latents=NEW[:1], keys=[longest], labels=[longest], digests=["~" * 128])
    both("update", keys=[longest], labels=["short"])
    assert longest in pair[1]


@pytest.mark.needs("changes of other processes")
def test_another_process_sees_every_change_at_once(guest, small):
    place, oracle = small
    with guest.open(place) as index, child(place) as ask:

        def agrees():
            keys = list(oracle.items)
            assert ask("keys") == keys
            assert ask("digests", keys) == [item.digest for item in oracle.items.values()]
            (found,) = ask("search", NEW[0].tolist(), 3, exact=True)
            assert [key for _, key, *_ in found] == oracle.ranked(NEW[0])[:3]
            assert ask("calibration") == oracle.calibration

        agrees()
        for round_ in range(10):
            for name, arguments in (
                ("add", block(2, 2 * round_)),
                ("update", {"keys": [f"new-{2 * round_}"], "latents": NEW[300 + round_ : 301 + round_]}),
                ("remove", {"keys": [f"new-{2 * round_ + 1}"]}),
                ("calibrate", {"name": "round", "values": {"n": round_}}),
            ):
                getattr(index, name)(**arguments)
                getattr(oracle, name)(**arguments)
                agrees()
        index.compact()
        agrees()
        index.add(**block(2, 200))
        oracle.add(**block(2, 200))
        agrees()


@pytest.mark.needs("changes of other processes")
def test_changes_of_another_process_are_seen_when_its_call_has_returned(guest, small):
    place, oracle = small
    with guest.open(place) as index, child(place) as ask:
        for name, arguments in (
            ("add", block(2) | {"latents": NEW[:2].tolist(), "thumbnails": None}),
            ("update", {"keys": ["new-0", "key-1"], "labels": ["x", None], "latents": NEW[50:52].tolist()}),
            ("remove", {"keys": ["key-2", "new-1"]}),
            ("calibrate", {"name": "null", "values": {"mean": 0.25}}),
        ):
            assert ask(name, **arguments) is None
            getattr(oracle, name)(**arguments)
            oracle.check(index)
        assert ask("compact") is None
        oracle.check(index)
        assert ask("add", NEW[:1].tolist(), ["key-3"]) == {"error": "ConfigurationError"}
        oracle.check(index)


def test_sources_of_additions_are_kept(guest):
    place = guest.place()
    with guest.build(place, sources=("first", "photos")) as builder:
        builder.add(**block(3, 10))
    with guest.open(place) as index, guest.open(place) as reader:
        assert reader.info().sources == ("first", "photos")
        index.add(**block(1), source="photos")
        index.add(**block(1, 1), source="more photos")
        index.add(**block(1, 2), source="photos")
        assert reader.info().sources == ("first", "photos", "more photos")
        index.remove(["new-1"])
        index.compact()
        assert reader.info().sources == ("first", "photos", "more photos")


@pytest.mark.parametrize(
    ("source", "error"),
    [(b"bytes", TypeError), (5, TypeError), ("\ud800", ConfigurationError), ("a\0b", ConfigurationError)],
    ids=["bytes", "number", "surrogate", "NUL"],
)
def test_sources_that_are_no_texts_are_refused(guest, pair, source, error):
    writer, reader, oracle = pair
    with pytest.raises(error, match="ource"):
        writer.add(**block(1), source=source)
    with pytest.raises(error, match="ource"):
        guest.build(guest.place(), sources=(source,))
    oracle.check(reader)
    assert reader.info().sources == ()


def test_metadata_come_with_the_answers(pair):
    writer, reader, _ = pair
    writer.add(NEW[:2], ["a", "b"], metadata=[{"price": 2.5, "tags": ["x", {"y": None}], "emoji": "🙂"}, None])
    by_key = {n.key: n for n in reader.search(NEW[0], 100, exact=True)[0]}
    assert by_key["a"].metadata == {"price": 2.5, "tags": ["x", {"y": None}], "emoji": "🙂"}
    assert json.loads(by_key["a"].metadata_json) == by_key["a"].metadata
    assert (by_key["b"].metadata, by_key["b"].metadata_json) == ({}, None)
    assert by_key["key-3"].metadata == {"n": 3, "nested": {"ü": [1, None]}}


def test_a_closed_index_takes_no_changes(guest, small):
    place, oracle = small
    index = guest.open(place)
    index.close()
    for change in (
        lambda: index.add(**block(1)),
        lambda: index.remove(["key-1"]),
        lambda: index.update(["key-1"]),
        lambda: index.calibrate("null", {}),
    ):
        with pytest.raises(ValueError, match="closed"):
            change()
    with guest.open(place) as fresh:
        oracle.check(fresh)
