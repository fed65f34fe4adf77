"""What is nearest, against NumPy; which questions are refused."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from index_items import CARD

from ae_search.contract import ModelRef
from ae_search.errors import ModelMismatchError


def brute_force(queries, items, metric):
    """Return ids by distance, the distances, and the cosine similarities, all `[q, n]`."""
    queries, items = queries.astype(np.float64), items.astype(np.float64)
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(items, axis=1)
    cosine = queries @ items.T / norms
    squares = 2 - 2 * cosine if metric == "angular" else ((queries[:, None] - items) ** 2).sum(axis=-1)
    order = np.argsort(squares, axis=1, kind="stable")
    return (
        order,
        np.sqrt(np.maximum(np.take_along_axis(squares, order, 1), 0)),
        np.take_along_axis(cosine, order, 1),
    )


def numbers(answers):
    return [[int(neighbour.key.removeprefix("key-")) for neighbour in row] for row in answers]


def test_exact_search_equals_numpy(index, latents, metric):
    queries = latents[:40] + 0.1
    order, distances, cosine = brute_force(queries, latents, metric)
    answers = index.search(queries, 12, exact=True)
    assert numbers(answers) == order[:, :12].tolist()
    np.testing.assert_allclose([[n.distance for n in row] for row in answers], distances[:, :12], atol=1e-6)
    np.testing.assert_allclose([[n.similarity for n in row] for row in answers], cosine[:, :12], atol=1e-6)


def test_exhaustive_search_equals_exact_search(guest, index, latents):
    queries = latents[:20] * 1.1 - 0.05
    assert index.search(queries, 15, effort=guest.exhaustive) == index.search(queries, 15, exact=True)


def test_tuned_recall_holds_for_other_queries(guest, make, metric):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3000, 8)).astype(np.float32)
    queries = rng.normal(size=(100, 8)).astype(np.float32)
    with guest.open(make(rows, metric=metric)) as index:
        truth = brute_force(queries, rows, metric)[0][:, :10].tolist()
        found = numbers(index.search(queries, 10))
        low = numbers(index.search(queries, 10, effort=1))
        info = index.info()
    assert (info.target_recall, info.recall) >= (0.98, 0.98)
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)]
    (point,) = [point for point in info.recall_curve if point.effort == info.effort]
    noise = 3 * np.hypot(point.error, np.std(shares) / 10)
    assert np.mean(shares) >= info.recall - noise
    assert noise < 0.05
    assert all(len(row) == 10 for row in low)


def test_neighbours_are_ranked_and_named(index, latents):
    (answers,) = index.search(latents[17], 5)
    assert [n.rank for n in answers] == [1, 2, 3, 4, 5]
    first = answers[0]
    assert (first.key, first.label) == ("key-17", "label-2")
    assert first.distance == pytest.approx(0.0, abs=1e-7)
    assert first.similarity == pytest.approx(1.0)
    assert all(n.label == f"label-{int(n.key.removeprefix('key-')) % 5}" for n in answers)


def test_index_describes_itself(index, _ready_places, metric):
    assert len(index) == 600
    assert index.model == ModelRef("tiny", 1, "ab" * 32)
    assert index.place == index.info().place == _ready_places[metric]
    assert (index.metric, index.latent_dim, index.info().image_shape) == (metric, 8, (28, 28, 1))
    assert index.labels() == [f"label-{i % 5}" for i in range(600)]
    assert index.keys() == [f"key-{i}" for i in range(600)]


@pytest.mark.parametrize("exact", [False, True])
def test_k_beyond_the_count_returns_all(index, latents, exact):
    (answers,) = index.search(latents[0], 10_000, exact=exact)
    assert sorted(numbers([answers])[0]) == list(range(600))


@pytest.mark.parametrize("exact", [False, True])
def test_no_queries_no_answers(index, exact):
    assert index.search(np.empty((0, 8), np.float32), exact=exact) == []


@pytest.mark.parametrize("options", [{"k": 0}, {"k": -1}, {"k": 5, "effort": 0}])
def test_counts_below_one_are_refused(index, latents, options):
    with pytest.raises(ValueError, match="at least 1"):
        index.search(latents[:1], **options)


@pytest.mark.parametrize("wrong", [np.zeros(7), np.zeros((2, 9)), np.zeros((1, 2, 8)), np.float32(1), []])
def test_latents_of_another_size_are_refused(index, wrong):
    with pytest.raises(ValueError, match=r"\[n, 8\].*Received: shape="):
        index.search(wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 1e25, 1e8, 1.001e7])
@pytest.mark.parametrize("exact", [False, True])
def test_latents_that_are_not_finite_are_refused(index, value, exact):
    queries = np.zeros((3, 8))
    queries[1, 4] = value
    with pytest.raises(ValueError, match=r"finite.*row 1"):
        index.search(queries, exact=exact)
    with pytest.raises(ValueError, match=r"finite.*row 0"):
        index.search(queries[1], exact=exact)
    # The largest that is allowed, in every place.
    assert len(index.search(np.full(8, 1e7), exact=exact)[0]) == 10


@pytest.mark.parametrize("exact", [False, True])
def test_zero_latents_are_similar_to_nothing(guest, make, latents, metric, exact):
    rows = latents[:50].copy()
    rows[10] = 0.0
    with guest.open(make(rows, metric=metric)) as index:
        (answers,) = index.search(np.zeros(8), 50, exact=exact)
        assert [n.similarity for n in answers] == [0.0] * 50
        assert np.isfinite([n.distance for n in answers]).all()
        (others,) = index.search(rows[0], 50, exact=exact)
        assert [n.similarity for n in others if n.key == "key-10"] == [0.0]


@pytest.mark.parametrize("exact", [False, True])
def test_equal_distances_come_by_id(guest, make, latents, metric, exact):
    rows = np.repeat(latents[:3], 40, axis=0)
    with guest.open(make(rows, metric=metric, recall=1.0)) as index:
        assert index.info().recall == 1.0
        (answers,) = index.search(latents[1], 45, effort=guest.exhaustive, exact=exact)
    assert numbers([answers[:40]]) == [list(range(40, 80))]
    assert [n.id for n in answers[:40]] == sorted(n.id for n in answers[:40])
    assert len({n.distance for n in answers[:40]}) == 1


@pytest.mark.parametrize("exact", [False, True])
def test_index_of_one_item(guest, make, latents, metric, exact):
    with guest.open(make(latents[:1], metric=metric)) as index:
        assert (len(index), index.info().recall) == (1, 1.0)
        (answers,) = index.search(latents[5], exact=exact)
    assert [n.key for n in answers] == ["key-0"]


def test_large_k_widens_the_search(guest, make, latents):
    with guest.open(make(recall=0.05)) as index:
        (answers,) = index.search(latents[0], 300)
    assert len({n.key for n in answers}) == 300


def test_thumbnails_and_unicode_keys(guest, latents):
    place = guest.place()
    with guest.build(place) as builder:
        builder.add(
            latents[:3], ["猫/ñ 1.jpg", 'it\'s "quoted"', ""], [None, "été", ""], thumbnails=[b"\xff\xd8one", None, b""]
        )
        builder.add(latents[3:4], ["plain"])
    with guest.open(place) as index:
        (answers,) = index.search(latents[0], 4)
        by_id = sorted(answers, key=lambda neighbour: neighbour.id)
        assert [n.key for n in by_id] == ["猫/ñ 1.jpg", 'it\'s "quoted"', "", "plain"] == index.keys()
        assert [n.label for n in by_id] == [None, "été", "", None] == index.labels()
        assert [index.thumbnail(n) for n in by_id] == [b"\xff\xd8one", None, b"", None]
        assert index.thumbnail("猫/ñ 1.jpg") == b"\xff\xd8one"
        assert index.thumbnail("unknown") is None


def test_threads_share_an_index(index, latents):
    expected = [index.search(row, 10)[0] for row in latents[:50]]
    received = []

    def ask():
        received.append([index.search(row, 10)[0] for row in latents[:50]])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert received == [expected] * 4


def test_another_model_is_not_searched_unless_the_caller_says_so(guest, make, latents, metric):
    place = make(latents[:50], metric=metric)
    with guest.open(place) as reader:
        other = replace(CARD, fingerprint="cd" * 32, version=2)
        make(latents[50:90], metric=metric, place=place, card=other, replace=True)
        for queries in (latents[50], latents[50:90]):
            with pytest.raises(ModelMismatchError, match="version 2"):
                reader.search(queries)
        with pytest.raises(ModelMismatchError):
            reader.search(latents[50], fingerprint=CARD.fingerprint)
        assert reader.search(latents[53], 1, fingerprint=other.fingerprint)[0][0].key == "key-3"
        # An item's own latent belongs to whatever the index holds.
        assert len(reader.search_by_key("key-3", 2, exact=True)) == 2
        assert reader.model == ModelRef("tiny", 2, "cd" * 32)
        with guest.open(place) as fresh:
            assert fresh.search(latents[53], 1)[0][0].key == "key-3"
            with pytest.raises(ModelMismatchError):
                fresh.search(latents[53], fingerprint="ab" * 32)
        # And back again.
        make(latents[:50], metric=metric, place=place, replace=True)
        assert reader.search(latents[5], 1)[0][0].key == "key-5"
