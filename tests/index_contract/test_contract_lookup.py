"""Looking items up, and searching by those that are there."""

from dataclasses import replace

import numpy as np
import pytest
from guests import oracle_of
from index_items import CARD, DIM, clustered

from ae_search.errors import ConfigurationError

NEW = clustered(200, seed=81)


@pytest.fixture
def opened(guest, small):
    """Items in the base and added ones, some of them removed or updated."""
    place, oracle = small
    with guest.open(place) as index:
        for change, arguments in (
            ("add", {"latents": NEW[:30], "keys": [f"new-{i}" for i in range(30)], "thumbnails": [b"n"] * 30}),
            ("remove", {"keys": ["key-4", "new-4", "key-5"]}),
            ("update", {"keys": ["key-10", "new-10"], "latents": NEW[30:32]}),
        ):
            getattr(index, change)(**arguments)
            getattr(oracle, change)(**arguments)
        yield index, oracle


def keys(found):
    return [neighbour.key for neighbour in found]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("k", [1, 7, 84, 85, 1000])
def test_search_by_key_leaves_the_item_out(guest, opened, k, exact):
    index, oracle = opened
    for key in ("key-1", "new-1", "key-10", "new-10", "schlüssel/猫 7"):
        expected = [other for other in oracle.ranked(oracle.items[key].latent) if other != key]
        found = index.search_by_key(key, k, exact=exact, effort=guest.exhaustive)
        assert keys(found) == expected[:k]
        assert [n.rank for n in found] == list(range(1, len(found) + 1))


@pytest.mark.parametrize("cut", [30, 1, 15], ids=["in the base", "added", "both"])
def test_search_by_key_among_equal_latents(guest, make, metric, cut):
    """Those with smaller ids push the item itself out of the first k + 1."""
    rows = np.repeat(NEW[:1], 30, axis=0)
    oracle = oracle_of(guest, metric)
    oracle.add(rows[:cut], [f"key-{i}" for i in range(cut)])
    with guest.open(make(rows[:cut], metric=metric)) as index:
        index.add(rows[cut:], [f"key-{i}" for i in range(cut, 30)])
        oracle.add(rows[cut:], [f"key-{i}" for i in range(cut, 30)])
        for own in (0, 2, 14, 15, 29):
            for k in (1, 3, 28, 29, 50):
                found = index.search_by_key(f"key-{own}", k, effort=guest.exhaustive)
                assert keys(found) == [key for key in oracle.items if key != f"key-{own}"][:k]
                assert {n.distance for n in found} == {found[0].distance}


def test_search_by_key_refuses_what_is_not_there(opened):
    index, _ = opened
    for key in ("absent", "key-4", "new-4", "", "key-1' OR '1'='1"):
        with pytest.raises(ConfigurationError, match=f"has no item {key!r}"):
            index.search_by_key(key)
    for k in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            index.search_by_key("key-1", k)


def test_search_by_key_of_the_only_item(guest, make):
    with guest.open(make(NEW[:1])) as index:
        assert index.search_by_key("key-0", 5) == []
        index.add(NEW[1:2], ["other"])
        assert keys(index.search_by_key("key-0", 5)) == ["other"]
        assert keys(index.search_by_key("other", 5)) == ["key-0"]


def test_latents_of_keys(opened):
    index, oracle = opened
    asked = ["new-10", "key-1", "new-29", "key-1", "schlüssel/猫 0", "key-10"]
    received = index.latents(asked)
    assert (received.dtype, received.shape) == (np.float32, (6, DIM))
    np.testing.assert_array_equal(received, [oracle.items[key].latent for key in asked])
    everything = list(oracle.items) * 30  # more than one statement of SQLite binds
    np.testing.assert_array_equal(index.latents(everything), [oracle.items[key].latent for key in everything])
    for key in ("absent", "key-4", "new-4"):
        with pytest.raises(ConfigurationError, match=f"no item {key!r}"):
            index.latents(["key-1", key])


def test_latents_cannot_be_changed_through_what_comes_back(opened):
    index, oracle = opened
    for key in ("key-1", "new-1"):
        index.latents([key])[:] = 9.0
        index.search(oracle.items[key].latent, 1)
        np.testing.assert_array_equal(index.latents([key])[0], oracle.items[key].latent)


def test_thumbnails_of_neighbours_and_keys(opened):
    index, oracle = opened
    (found,) = index.search(NEW[0], 1000)
    assert {n.key: index.thumbnail(n) for n in found} == {key: item.thumbnail for key, item in oracle.items.items()}
    assert [index.thumbnail(key) for key in ("absent", "key-4", "new-4")] == [None] * 3
    # A neighbour from before a change still names its item.
    index.compact()
    assert {n.key: index.thumbnail(n) for n in found} == {key: item.thumbnail for key, item in oracle.items.items()}
    index.remove(["new-1"])
    assert index.thumbnail(next(n for n in found if n.key == "new-1")) is None


def test_contains_and_len(opened):
    index, oracle = opened
    assert len(index) == len(oracle.items) == 87
    assert all(key in index for key in oracle.items)
    assert not any(key in index for key in ("key-4", "new-4", "absent", "%", "KEY-1"))


@pytest.mark.parametrize("count", [2, 31, 65])
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"where": {"label": "label-1"}}, {"k": 15}], ids=str)
def test_many_queries_find_what_one_by_one_finds(opened, count, options):
    index, _ = opened
    queries = clustered(count, seed=count)
    for _ in range(2):
        assert index.search(queries, **options) == [index.search(query, **options)[0] for query in queries]
        index.compact()


@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("dim", [3, 64, 130])
def test_many_queries_answer_as_one_by_one_to_the_last_bit(guest, make, metric, dim, is_changed):
    rows = np.random.default_rng(dim).normal(size=(300, dim)).astype(np.float32)
    with guest.open(make(rows[:200], metric=metric, card=replace(CARD, latent_dim=dim))) as index:
        if is_changed:
            index.add(rows[200:250], [f"new-{i}" for i in range(50)])
        for options in ({}, {"exact": True}, {"k": 15}):
            alone = [index.search(query, **options)[0] for query in rows[150:250]]
            assert index.search(rows[150:250], **options) == alone


@pytest.mark.parametrize("dim", [1, 3, 8, 130])
@pytest.mark.parametrize("count", [1, 70])
def test_equal_latents_come_by_id_wherever_they_are(guest, metric, dim, count):
    """Distances must be equal to the last bit, whether many or one are compared at a time."""
    rng = np.random.default_rng(dim)
    centres = rng.normal(size=(4, dim)).astype(np.float32)
    rows = centres[np.arange(40) % 4]
    card = replace(CARD, metric=metric, latent_dim=dim)
    place = guest.place()
    with guest.build(place, card) as builder:
        builder.add(rows[:20], [str(i) for i in range(20)])
    queries = np.concatenate([rng.normal(size=(count, dim)), centres[:1]]).astype(np.float32)
    with guest.open(place) as index:
        index.add(rows[20:], [str(i) for i in range(20, 40)])
        index.remove(["4", "24"])
        live = {str(i) for i in range(40) if i not in (4, 24)}
        for options in ({"exact": True}, {"effort": guest.exhaustive}):
            for found in index.search(queries, 40, **options):
                assert {n.key for n in found} == live and len(found) == len(live)
                for centre in range(4):
                    group = [n for n in found if int(n.key) % 4 == centre]
                    assert [n.id for n in group] == sorted(n.id for n in group)
                    assert [int(n.key) for n in group] == sorted(int(n.key) for n in group)
                    assert len({n.distance for n in group}) == 1
                    if dim > 1 or metric == "euclidean":
                        assert [n.rank for n in group] == list(range(group[0].rank, group[0].rank + len(group)))


def test_items_are_those_of_the_moment_when_they_are_asked_for(opened):
    index, oracle = opened
    expected = [(key, item.label, item.metadata) for key, item in oracle.items.items()]
    stream = index.items()
    first = next(stream)
    index.remove(["key-1", "new-29"])
    index.compact()
    assert [first, *stream] == expected


def test_known_keys(opened):
    index, oracle = opened
    asked = ["key-1", "new-1", "absent", "key-4", "new-4", "", "key-1", "\udcff", "schlüssel/猫 7"]
    assert index.known(asked) == {"key-1", "new-1", "schlüssel/猫 7"}
    assert index.known([]) == set()
    assert index.known(list(oracle.items) * 30) == set(oracle.items)
    assert "\udcff" not in index


def test_details_and_digests_of_keys(opened):
    index, oracle = opened
    asked = [*list(oracle.items)[::-2], "key-10", "key-10"] * 15
    assert index.details(asked) == [(oracle.items[key].label, oracle.items[key].metadata) for key in asked]
    assert index.digests(asked) == [oracle.items[key].digest for key in asked]
    assert (index.details([]), index.digests([]), index.all_latents([])) == ([], [], [])
    index.details(["key-3"])[0][1]["n"] = "other"
    assert index.details(["key-3"])[0][1]["n"] == 3
    for ask in (index.details, index.digests, index.all_latents, index.latents):
        for key in ("absent", "key-4", "new-4"):
            with pytest.raises(ConfigurationError, match=f"no item {key!r}"):
                ask(["key-1", key])


def test_items_keys_and_labels_are_in_the_same_order(opened):
    index, oracle = opened
    for _ in range(2):
        names = list(index.items())
        assert [key for key, _, _ in names] == index.keys() == list(oracle.items)
        assert [label for _, label, _ in names] == index.labels()
        (found,) = index.search(NEW[0], 1000)
        assert [n.key for n in sorted(found, key=lambda neighbour: neighbour.id)] == index.keys()
        assert {n.key: (n.label, n.metadata) for n in found} == {key: (one, data) for key, one, data in names}
        index.compact()
