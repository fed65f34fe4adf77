import threading
from dataclasses import replace

import numpy as np
import pytest
from index_fixtures import *  # noqa: F403

from ae_search.index import IndexBuilder, LatentIndex, ModelRef


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


@pytest.fixture
def index(ready, metric):
    with LatentIndex.open(ready(metric)) as opened:
        yield opened


def ids(answers):
    return [[neighbour.id for neighbour in row] for row in answers]


def test_exact_search_equals_numpy(index, latents, metric):
    queries = latents[:40] + 0.1
    order, distances, cosine = brute_force(queries, latents, metric)
    answers = index.search(queries, 12, exact=True)
    assert ids(answers) == order[:, :12].tolist()
    np.testing.assert_allclose([[n.distance for n in row] for row in answers], distances[:, :12], atol=1e-6)
    np.testing.assert_allclose([[n.similarity for n in row] for row in answers], cosine[:, :12], atol=1e-6)


def test_exhaustive_forest_search_equals_exact_search(index, latents):
    queries = latents[:20] * 1.1 - 0.05
    assert index.search(queries, 15, effort=10**9) == index.search(queries, 15, exact=True)


def test_exact_search_over_many_blocks(index, latents, monkeypatch, metric):
    monkeypatch.setattr("ae_search.index.search.exact._ITEMS_PER_BLOCK", 37)
    monkeypatch.setattr("ae_search.index.search.exact._QUERIES_PER_BLOCK", 7)
    order, _, _ = brute_force(latents[:30] + 0.1, latents, metric)
    assert ids(index.search(latents[:30] + 0.1, 50, exact=True)) == order[:, :50].tolist()


def test_tuned_recall_holds_for_other_queries(build, card, metric):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3000, 8)).astype(np.float32)
    queries = rng.normal(size=(100, 8)).astype(np.float32)
    with LatentIndex.open(build(rows=rows, model=replace(card, metric=metric), n_trees=10)) as index:
        truth = brute_force(queries, rows, metric)[0][:, :10].tolist()
        found = ids(index.search(queries, 10))
        low = ids(index.search(queries, 10, effort=1))
        assert index.manifest.recall >= 0.98
        assert index.manifest.effort < 3000
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)])
    assert recall >= 0.95
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(low, truth, strict=True)]) < recall
    assert all(len(row) == 10 for row in low)


def test_neighbours_are_ranked_and_named(index, latents):
    (answers,) = index.search(latents[17], 5)
    assert [n.rank for n in answers] == [1, 2, 3, 4, 5]
    first = answers[0]
    assert (first.key, first.label, first.id) == ("key-17", "label-2", 17)
    assert first.distance == pytest.approx(0.0, abs=1e-7)
    assert first.similarity == pytest.approx(1.0)
    assert all(n.key == f"key-{n.id}" and n.label == f"label-{n.id % 5}" for n in answers)


def test_index_describes_itself(index, tmp_path, metric):
    assert len(index) == 600
    assert index.model == ModelRef("tiny", 1, "ab" * 32)
    assert index.path == tmp_path / "index"
    assert (index.manifest.metric, index.manifest.image_shape) == (metric, (28, 28, 1))
    assert index.labels() == [f"label-{i % 5}" for i in range(600)]
    assert index.keys() == [f"key-{i}" for i in range(600)]


@pytest.mark.parametrize("exact", [False, True])
def test_k_beyond_the_count_returns_all(index, latents, exact):
    (answers,) = index.search(latents[0], 10_000, exact=exact)
    assert sorted(n.id for n in answers) == list(range(600))


@pytest.mark.parametrize("exact", [False, True])
def test_no_queries_no_answers(index, exact):
    assert index.search(np.empty((0, 8), np.float32), exact=exact) == []


def test_more_ids_than_one_query_of_the_catalogue_takes(index, latents):
    answers = index.search(latents[:4], 600)
    assert [n.key for row in answers for n in row] == [f"key-{n.id}" for row in answers for n in row]


@pytest.mark.parametrize("options", [{"k": 0}, {"k": -1}, {"k": 5, "effort": 0}])
def test_counts_below_one_are_refused(index, latents, options):
    with pytest.raises(ValueError, match="at least 1"):
        index.search(latents[:1], **options)


@pytest.mark.parametrize("wrong", [np.zeros(7), np.zeros((2, 9)), np.zeros((1, 2, 8)), np.float32(1), []])
def test_latents_of_another_size_are_refused(index, wrong):
    with pytest.raises(ValueError, match=r"\[n, 8\].*Received: shape="):
        index.search(wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 1e8])
@pytest.mark.parametrize("exact", [False, True])
def test_latents_that_are_not_finite_are_refused(index, value, exact):
    queries = np.zeros((3, 8))
    queries[1, 4] = value
    with pytest.raises(ValueError, match=r"finite.*row 1"):
        index.search(queries, exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_zero_latents_are_similar_to_nothing(build, card, latents, metric, exact):
    rows = latents[:50].copy()
    rows[10] = 0.0
    with LatentIndex.open(build(rows=rows, model=replace(card, metric=metric))) as index:
        (answers,) = index.search(np.zeros(8), 50, exact=exact)
        assert [n.similarity for n in answers] == [0.0] * 50
        assert np.isfinite([n.distance for n in answers]).all()
        (others,) = index.search(rows[0], 50, exact=exact)
        assert [n.similarity for n in others if n.id == 10] == [0.0]


@pytest.mark.parametrize("exact", [False, True])
def test_equal_distances_come_by_id(build, card, latents, metric, exact):
    rows = np.repeat(latents[:3], 40, axis=0)
    with LatentIndex.open(build(rows=rows, model=replace(card, metric=metric), recall=1.0)) as index:
        assert index.manifest.recall == 1.0
        (answers,) = index.search(latents[1], 45, effort=10**6, exact=exact)
    assert [n.id for n in answers[:40]] == list(range(40, 80))
    assert len({n.distance for n in answers[:40]}) == 1


@pytest.mark.parametrize("exact", [False, True])
def test_index_of_one_item(build, card, latents, metric, exact):
    path = build(rows=latents[:1], model=replace(card, metric=metric))
    with LatentIndex.open(path) as index:
        assert (len(index), index.manifest.recall) == (1, 1.0)
        (answers,) = index.search(latents[5], exact=exact)
    assert [n.key for n in answers] == ["key-0"]


def test_large_k_widens_the_search(build, latents):
    with LatentIndex.open(build(n_trees=1, recall=0.05)) as index:
        (answers,) = index.search(latents[0], 300)
    assert len({n.id for n in answers}) == 300


def test_thumbnails_and_unicode_keys(tmp_path, card, latents):
    with IndexBuilder(tmp_path / "ü ?#%", card) as builder:
        builder.add(
            latents[:3], ["猫/ñ 1.jpg", 'it\'s "quoted"', ""], [None, "été", ""], thumbnails=[b"\xff\xd8one", None, b""]
        )
        builder.add(latents[3:4], ["plain"])
    with LatentIndex.open(str(tmp_path / "ü ?#%")) as index:
        (answers,) = index.search(latents[0], 4)
        by_id = {n.id: n for n in answers}
        assert [by_id[i].key for i in range(4)] == ["猫/ñ 1.jpg", 'it\'s "quoted"', "", "plain"]
        assert [by_id[i].label for i in range(4)] == [None, "été", "", None] == index.labels()
        assert [index.thumbnail(by_id[i]) for i in range(4)] == [b"\xff\xd8one", None, b"", None]
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


def test_closed_index_says_so(index, latents):
    index.close()
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.search(latents[0])
    with pytest.raises(ValueError, match="closed"):
        index.labels()
