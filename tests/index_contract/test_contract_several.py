"""Items with several latents: each counts by its nearest one, and appears once."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from guests import child, oracle_of
from index_items import CARD, clustered

pytestmark = pytest.mark.needs("several latents")

DIM = 8
# How many items come with how many latents each.
BLOCKS = ((40, 3), (60, 1), (3, 64), (25, 2), (50, 1))


def block(count, each, seed):
    """Return items whose latents are around different centres, so that not the first one decides."""
    rows = clustered(count * each, seed=seed).reshape(count, each, DIM)
    names = [f"{seed}-{each}-{i}" for i in range(count)]
    return {
        "latents": rows[:, 0] if each == 1 and seed % 2 else rows,
        "keys": names,
        "labels": [f"label-{i % 3}" for i in range(count)],
        "metadata": [{"n": i, "rare": i % 17 == 3} for i in range(count)],
        "digests": [f"d-{name}" for name in names],
        "thumbnails": [None if i % 2 else name.encode() for i, name in enumerate(names)],
    }


@pytest.fixture(scope="module")
def _built(guest):
    made = {}
    for metric in ("angular", "euclidean"):
        place, oracle = guest.place(), oracle_of(guest, metric)
        with guest.build(place, replace(CARD, metric=metric)) as builder:
            for seed, (count, each) in enumerate(BLOCKS):
                builder.add(**block(count, each, seed))
                oracle.add(**block(count, each, seed))
        made[metric] = place, oracle
    return made


@pytest.fixture
def built(guest, metric, _built):
    place, oracle = _built[metric]
    return guest.copied(place), oracle.copy()


STATES = {
    "as built": (),
    "added to": ("add",),
    "removed from": ("remove",),
    "all kinds of changes": ("add", "remove", "update"),
    "compacted": ("add", "remove", "update", "compact"),
}


@pytest.fixture(scope="module")
def _filled(guest, _built):
    made = {}
    for metric, state in itertools.product(_built, STATES):
        place, oracle = guest.copied(_built[metric][0]), _built[metric][1].copy()
        with guest.open(place) as index:
            for step in STATES[state]:
                change(index, oracle, step)
        made[metric, state] = place, oracle
    return made


@pytest.fixture(params=STATES)
def filled(request, guest, metric, _filled):
    """An index in one of the states, not to be changed."""
    place, oracle = _filled[metric, request.param]
    with guest.open(place) as index:
        yield index, oracle


@pytest.fixture(params=STATES)
def own(request, guest, metric, _filled):
    """A copy of one."""
    place, oracle = _filled[metric, request.param]
    place, oracle = guest.copied(place), oracle.copy()
    with guest.open(place) as writer, guest.open(place) as reader:
        oracle.check(reader)
        yield writer, reader, oracle


def change(index, oracle, step):
    held = list(oracle.items)
    if step == "compact":
        index.compact()
        return
    arguments = {
        "add": [block(20, 4, 21), block(20, 1, 22)],
        "remove": [{"keys": held[5:45:2] + held[100:102] + held[-25:-20]}],
        # From 3 latents to 1, from 1 to 3, to as many as there can be; of items of the base and of added ones.
        "update": [
            {"keys": held[:3] + held[-3:], "latents": clustered(6, seed=31)},
            {"keys": held[3:5] + held[50:52] + held[-5:-3], "latents": clustered(18, seed=32).reshape(6, 3, DIM)},
            {"keys": held[60:61], "latents": clustered(64, seed=33).reshape(1, 64, DIM)},
        ],
    }[step]
    for one in arguments:
        getattr(index, step)(**one)
        getattr(oracle, step)(**one)


QUERIES = np.concatenate([clustered(12, seed=41), clustered(4, seed=0)])


def keys(answers):
    return [[neighbour.key for neighbour in row] for row in answers]


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_each_item_counts_by_its_nearest_latent(guest, filled, k):
    index, oracle = filled
    expected = [oracle.ranked(query)[:k] for query in QUERIES]
    assert keys(index.search(QUERIES, k, exact=True)) == expected
    assert keys(index.search(QUERIES, k, effort=guest.exhaustive)) == expected
    for options in ({}, {"effort": 1}):
        for row in keys(index.search(QUERIES, k, **options)):
            assert len(row) == len(set(row)) == min(k, len(oracle.items))


def test_distances_are_those_of_the_nearest_latent(filled):
    index, oracle = filled
    for query, found in zip(QUERIES, index.search(QUERIES, 30), strict=True):
        squares = oracle.distances(query, [n.key for n in found])
        np.testing.assert_allclose([n.distance for n in found], np.sqrt(np.maximum(squares, 0)), atol=2e-6)
        assert [n.rank for n in found] == list(range(1, 31))


@pytest.mark.parametrize("where", [{"rare": True}, {"label": "label-1"}, {"n": {"gte": 30}}, {"n": {"lt": 2}}], ids=str)
def test_filters(guest, filled, where):
    index, oracle = filled
    queries = QUERIES[::3]
    expected = [oracle.ranked(query, where) for query in queries]
    for k in (1, 7, 500):
        for options in ({"exact": True}, {"effort": guest.exhaustive}):
            assert keys(index.search(queries, k, where=where, **options)) == [row[:k] for row in expected]
        for row, all_met in zip(keys(index.search(queries, k, where=where)), expected, strict=True):
            assert len(row) == len(set(row)) == min(k, len(all_met))
            assert set(row) <= set(all_met)


def test_many_queries_find_what_one_by_one_finds(filled):
    index, _ = filled
    queries = clustered(80, seed=43)
    assert index.search(queries, 6) == [index.search(query, 6)[0] for query in queries]


def test_recall_against_brute_force(filled):
    index, oracle = filled
    queries = clustered(60, seed=44)
    shares = [
        len(set(row) & set(oracle.ranked(query)[:10])) / 10
        for query, row in zip(queries, keys(index.search(queries)), strict=True)
    ]
    assert np.mean(shares) >= index.info().recall - 3 * np.std(shares) / np.sqrt(60) - 0.01


def test_search_by_key_is_by_the_first_latent(guest, filled):
    index, oracle = filled
    for own in list(oracle.items)[::23]:
        expected = [key for key in oracle.ranked(oracle.items[own].latents[0]) if key != own]
        for options in ({"exact": True}, {"effort": guest.exhaustive}):
            assert [n.key for n in index.search_by_key(own, 12, **options)] == expected[:12]
        met = [key for key in expected if oracle.items[key].label == "label-1"]
        assert [n.key for n in index.search_by_key(own, 5, where={"label": "label-1"}, exact=True)] == met[:5]


@pytest.mark.parametrize("where", [None, {"rare": True}, {"label": "label-1"}, {"n": {"lt": 2}}], ids=str)
def test_by_the_first_latents_alone(guest, filled, where):
    index, oracle = filled
    queries, given = QUERIES[::2], {"where": where, "first_latents": True}
    expected = [oracle.ranked(query, where, first_latents=True) for query in queries]
    assert expected != [oracle.ranked(query, where) for query in queries]
    for k in (1, 7, 500):
        for options in ({"exact": True}, {"effort": guest.exhaustive}):
            assert keys(index.search(queries, k, **given, **options)) == [row[:k] for row in expected]
        for row, all_met in zip(keys(index.search(queries, k, **given)), expected, strict=True):
            assert len(row) == len(set(row)) == min(k, len(all_met))
            assert set(row) <= set(all_met)
    for query, found in zip(queries, index.search(queries, 5, **given), strict=True):
        squares = oracle.distances(query, [n.key for n in found], first_latents=True)
        np.testing.assert_allclose([n.distance for n in found], np.sqrt(np.maximum(squares, 0)), atol=2e-6)
    for own in list(oracle.items)[::40]:
        others = [key for key in oracle.ranked(oracle.items[own].latents[0], where, first_latents=True) if key != own]
        assert [n.key for n in index.search_by_key(own, 9, exact=True, **given)] == others[:9]


def test_first_latents_of_items_that_have_one_are_all(guest, make, metric):
    rows = clustered(40, seed=71)
    with guest.open(make(rows, metric=metric)) as index:
        for options in ({}, {"exact": True}):
            assert index.search(rows, 5, first_latents=True, **options) == index.search(rows, 5, **options)


def test_latents_and_all_latents(filled):
    index, oracle = filled
    asked = list(oracle.items)[::-3] * 2
    first, every = index.latents(asked), index.all_latents(asked)
    assert (first.dtype, first.shape) == (np.float32, (len(asked), DIM))
    for key, one, rows in zip(asked, first, every, strict=True):
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, oracle.items[key].latents)
        np.testing.assert_array_equal(one, oracle.items[key].latents[0])
    every[0][:] = 9.0
    np.testing.assert_array_equal(index.all_latents(asked[:1])[0], oracle.items[asked[0]].latents)


def test_figures(filled):
    index, oracle = filled
    info = index.info()
    assert (info.items, info.latents) == (len(oracle.items), sum(len(item.latents) for item in oracle.items.values()))
    assert info.in_base + info.added - info.removed == info.items
    assert [check.fault for check in index.verify() if check.fault] == []


def test_blocks_hold_items_of_as_many_latents(filled):
    index, oracle = filled
    seen = []
    for latents, items in index.blocks():
        assert latents.dtype == np.float32 and latents.ndim == 3 and len(latents) == len(items)
        for at, key in enumerate(items.keys):
            item = oracle.items[key]
            np.testing.assert_array_equal(latents[at], item.latents)
            assert (items.labels[at], items.thumbnails[at], items.digests[at]) == item[1:2] + item[3:]
            seen.append(key)
    assert seen == list(oracle.items)


def test_compact_keeps_all_of_it(own):
    writer, index, oracle = own
    before = index.search(QUERIES, 20, exact=True)
    writer.compact()
    oracle.check(index)
    after = index.search(QUERIES, 20, exact=True)
    assert [[n._replace(id=0) for n in row] for row in after] == [[n._replace(id=0) for n in row] for row in before]


def test_an_update_that_leaves_latents_alone_keeps_all_of_them(own):
    writer, index, oracle = own
    names = list(oracle.items)[::9]
    for given in ({"labels": [None] * len(names)}, {"digests": ["x"] * len(names)}, {}):
        writer.update(names, **given)
        oracle.update(names, **given)
        oracle.check(index)


def test_from_one_to_three_and_back_again(guest, make, metric):
    rows = clustered(40, seed=51)
    oracle = oracle_of(guest, metric)
    oracle.add(rows[:30], [f"key-{i}" for i in range(30)], [f"label-{i % 5}" for i in range(30)])
    with guest.open(make(rows[:30], metric=metric)) as writer, guest.open(writer.place) as reader:
        for round_ in range(3):
            for latents in (rows[31:37].reshape(2, 3, DIM), rows[37:39], rows[37:39, np.newaxis]):
                for given in ({"keys": ["key-3", "key-4"], "latents": latents}, {"keys": ["key-4"], "labels": ["x"]}):
                    writer.update(**given)
                    oracle.update(**given)
                    oracle.check(reader)
            assert reader.info().latents == 30
            if round_ == 1:
                writer.compact()
                oracle.check(reader)


def test_equal_latents_within_and_between_items(guest, metric):
    """Each of 12 items has the same two latents, in one order or the other, or one of them twice."""
    one, other = clustered(2, seed=61)
    rows = np.array([[[one, other], [other, one], [one, one]][i % 3] for i in range(12)])
    place, names = guest.place(), [f"key-{i:02}" for i in range(14)]
    with guest.build(place, replace(CARD, metric=metric)) as builder:
        builder.add(rows[:7], names[:7])
    with guest.open(place) as index:
        index.add(rows[7:], names[7:12])
        index.add(one[np.newaxis], names[12:13])
        index.add(np.repeat(one[np.newaxis, np.newaxis], 64, axis=1), names[13:])
        for options in ({"exact": True}, {"effort": guest.exhaustive}):
            for k in (1, 5, 13, 14, 20):
                (found,) = index.search(one, k, **options)
                assert [n.key for n in found] == names[:k]
                assert {n.distance for n in found} == {found[0].distance}
        assert [n.key for n in index.search_by_key("key-01", 3)] != ["key-01"] * 3
        index.remove(names[:13])
        for _ in range(2):
            assert keys(index.search(other, 3)) == [names[13:]]
            index.compact()


def test_no_items_of_several_latents(guest, make):
    with guest.open(make(clustered(5))) as index:
        index.add(np.empty((0, 3, DIM)), [])
        index.update([], latents=np.empty((0, 3, DIM)))
        assert len(index) == 5


@pytest.mark.needs("changes of other processes")
def test_another_process_sees_them(guest, built):
    place, oracle = built
    with guest.open(place) as index, child(place) as ask:
        for step in ("add", "update", "remove", "compact"):
            change(index, oracle, step)
            found = ask("search", QUERIES.tolist(), 5, exact=True)
            assert [[key for _, key, *_ in row] for row in found] == [oracle.ranked(query)[:5] for query in QUERIES]


def linked(oracle, similarity):
    """Return the groups of items of which one's first latent is so similar to any latent of the other."""
    names = list(oracle.items)
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (i.latents for i in oracle.items.values())]
    near = np.array([[(other @ own[0]).max() >= similarity for other in units] for own in units])
    near |= near.T
    group_of = list(range(len(names)))
    for one, other in np.argwhere(near):
        old, new = max(group_of[one], group_of[other]), min(group_of[one], group_of[other])
        group_of = [new if group == old else group for group in group_of]
    groups = [[key for key, of in zip(names, group_of, strict=True) if of == group] for group in sorted(set(group_of))]
    return sorted((group for group in groups if len(group) > 1), key=lambda group: -len(group))


@pytest.mark.needs("duplicates")
@pytest.mark.parametrize("similarity", [0.9, 0.9999])
def test_duplicates(guest, similarity):
    """Also through an item that was found as a copy, but by another latent than the one that it is searched by."""
    rng = np.random.default_rng(71)
    rows = rng.normal(size=(60, 3, 32)).astype(np.float32)
    rows[10, 2], rows[11, 1], rows[12, 2] = rows[3, 0], rows[3, 0], rows[11, 0]
    rows[40] = rows[41]
    place, oracle = guest.place(), oracle_of(guest)
    with guest.build(place, replace(CARD, latent_dim=32), recall=1.0) as builder:
        builder.add(rows[:50], [f"key-{i}" for i in range(50)])
    oracle.add(rows, [f"key-{i}" for i in range(60)])
    with guest.open(place) as index:
        index.add(rows[50:], [f"key-{i}" for i in range(50, 60)])
        found = [group.keys for group in index.duplicates(similarity)]
    assert found == linked(oracle, similarity)
    assert found == [["key-3", "key-10", "key-11", "key-12"], ["key-40", "key-41"]]
