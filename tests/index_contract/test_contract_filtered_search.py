"""k items come back whenever k meet the filter, however few and far they are."""

from dataclasses import replace

import numpy as np
import pytest
from guests import oracle_of
from index_items import CARD, clustered

COUNT = 2000
ROWS = clustered(COUNT + 300, seed=71)
# Around one corner, while every query of these tests is around the opposite one.
FAR = (np.random.default_rng(72).normal(size=(60, 8)) * 0.2 - 4.0).astype(np.float32)
QUERIES = (np.random.default_rng(73).normal(size=(70, 8)) * 0.3 + 3.0).astype(np.float32)


@pytest.fixture(scope="module")
def made(guest):
    indexes = {}
    for metric in ("angular", "euclidean"):
        place, oracle = guest.place(), oracle_of(guest, metric)
        rows = np.concatenate([ROWS[:COUNT], FAR[:30]])
        block = {
            "latents": rows,
            "keys": [f"key-{i}" for i in range(len(rows))],
            "labels": ["far" if i >= COUNT else "common" for i in range(len(rows))],
            "metadata": [{"n": i, "rare": i % 100 == 7, "half": i % 2} for i in range(len(rows))],
        }
        with guest.build(place, replace(CARD, metric=metric), recall=0.9) as builder:
            builder.add(**block)
        oracle.add(**block)
        indexes[metric] = place, oracle
    return indexes


@pytest.fixture(params=["as built", "changed since"])
def filled(request, guest, made, metric):
    place, oracle = made[metric]
    place, oracle = guest.copied(place), oracle.copy()
    with guest.open(place) as index:
        if request.param == "changed since":
            more = {
                "latents": np.concatenate([ROWS[COUNT:], FAR[30:]]),
                "keys": [f"more-{i}" for i in range(330)],
                "labels": ["far" if i >= 300 else "common" for i in range(330)],
                "metadata": [{"n": 10_000 + i, "rare": i % 100 == 7, "half": i % 2} for i in range(330)],
            }
            gone = [f"key-{i}" for i in range(COUNT, COUNT + 10)] + [f"key-{i}" for i in range(0, 600)] + ["more-320"]
            index.add(**more)
            index.remove(gone)
            oracle.add(**more)
            oracle.remove(gone)
        yield index, oracle


def keys(answers):
    return [[neighbour.key for neighbour in row] for row in answers]


@pytest.mark.parametrize("k", [1, 12])
@pytest.mark.parametrize("where", [{"label": "far"}, {"rare": True}, {"n": {"gte": 1990, "lt": 2000}}], ids=str)
def test_rare_items_are_all_found_and_the_nearest_of_them(filled, where, k):
    """An engine comes across too few of them by itself."""
    index, oracle = filled
    expected = [oracle.ranked(query, where)[:k] for query in QUERIES[:5]]
    assert min(map(len, expected)) == min(k, len(oracle.ranked(QUERIES[0], where))) >= min(k, 10)
    # The second time, the filter is known to be narrow.
    for _ in range(2):
        assert keys(index.search(QUERIES[:5], k, where=where)) == expected
    assert keys(index.search(QUERIES[:5], k, where=where, exact=True)) == expected
    assert keys(index.search(QUERIES, k, where=where))[:5] == expected


@pytest.mark.parametrize("k", [1, 10, 5000])
@pytest.mark.parametrize("where", [{"half": 1}, {"n": {"gte": 300}}, {"label": "common", "half": 0}], ids=str)
def test_wide_filters_return_as_many_as_there_are(guest, filled, where, k):
    index, oracle = filled
    met = [oracle.ranked(query, where) for query in QUERIES[:5]]
    for options in ({}, {"effort": 1}, {"effort": 100_000}):
        found = keys(index.search(QUERIES[:5], k, where=where, **options))
        for row, all_met in zip(found, met, strict=True):
            assert len(row) == len(set(row)) == min(k, len(all_met))
            assert set(row) <= set(all_met)
    assert keys(index.search(QUERIES[:5], k, where=where, effort=guest.exhaustive)) == [row[:k] for row in met]
    assert keys(index.search(QUERIES[:5], k, where=where, exact=True)) == [row[:k] for row in met]


def test_recall_under_a_wide_filter(filled):
    index, oracle = filled
    queries = ROWS[np.random.default_rng(74).integers(COUNT, size=60)] + np.float32(0.05)
    truth = [set(oracle.ranked(query, {"half": 1})[:10]) for query in queries]
    found = keys(index.search(queries, 10, where={"half": 1}))
    assert np.mean([len(set(row) & true) / 10 for row, true in zip(found, truth, strict=True)]) >= 0.85


def test_the_same_filter_sees_later_changes(filled):
    """Filters are kept between searches, but not beyond a change."""
    index, oracle = filled
    where = {"label": "far"}
    for round_ in range(3):
        expected = oracle.ranked(QUERIES[0], where)
        assert keys(index.search(QUERIES[0], 100, where=where)) == [expected]
        for change, arguments in (
            ("remove", {"keys": expected[:2]}),
            ("update", {"keys": expected[2:4], "labels": ["near", None]}),
            ("add", {"latents": QUERIES[1:2], "keys": [f"again-{round_}"], "labels": ["far"]}),
        ):
            getattr(index, change)(**arguments)
            getattr(oracle, change)(**arguments)
            assert keys(index.search(QUERIES[0], 100, where=where)) == [oracle.ranked(QUERIES[0], where)]
    index.compact()
    assert keys(index.search(QUERIES[0], 100, where=where)) == [oracle.ranked(QUERIES[0], where)]


def test_more_filters_than_are_kept(filled):
    index, oracle = filled
    for _ in range(2):
        for n in range(700, 720):
            where = {"n": {"gte": n, "lt": n + 3}}
            assert keys(index.search(QUERIES[0], 5, where=where)) == [oracle.ranked(QUERIES[0], where)]


def test_by_key_under_a_filter(filled):
    index, oracle = filled
    for where in ({"label": "far"}, {"rare": True}):
        expected = [key for key in oracle.ranked(oracle.items["key-2015"].latent, where) if key != "key-2015"][:9]
        assert [n.key for n in index.search_by_key("key-2015", 9, where=where)] == expected
