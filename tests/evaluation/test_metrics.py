"""Exact neighbours against a plain sort, and figures counted by hand."""

import numpy as np
import pytest

import ae_search.nearest.in_bulk as nearest_room
from ae_search.evaluation.measures.metrics import Judged, NumberedLabels, average_precision
from ae_search.nearest import NONE, top_k
from ae_search.nearest.comparing import queries as as_queries
from ae_search.nearest.exact import nearest


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that 700 items need several, and so do the queries."""
    monkeypatch.setattr(nearest_room, "_BLOCK_FLOATS", 3000)


def vectors(count, dim=7, seed=0):
    return np.random.default_rng(seed).normal(3.0, 1.0, (count, dim)).astype(np.float32)


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_the_neighbours_are_those_of_a_plain_sort(small_blocks, metric, k):
    queries, items = vectors(40, seed=1).astype(float), vectors(700).astype(float)
    if metric == "angular":
        units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, items)]
        distances = -units[0] @ units[1].T
    else:
        distances = ((queries[:, np.newaxis] - items) ** 2).sum(axis=2)
    found = top_k(queries, items, k, metric)
    assert all(len(set(row)) == k for row in found.tolist())
    # Float32 may swap two whose distances differ in the seventh digit.
    assert np.take_along_axis(distances, found, 1) == pytest.approx(np.sort(distances, axis=1)[:, :k], abs=2e-6)


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_they_are_those_of_the_indexs_own_exact_search(small_blocks, metric):
    queries, items = vectors(20, seed=1), vectors(600)
    theirs = [[item for _, item, _ in row] for row in nearest(as_queries(queries), items, 10, metric)]
    assert top_k(queries, items, 10, metric).tolist() == theirs


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
@pytest.mark.parametrize("k", [1, 10])
def test_an_item_of_several_vectors_counts_by_its_nearest(small_blocks, metric, k):
    queries, rows = vectors(40, seed=1), vectors(2100).reshape(700, 3, 7)
    every = np.argsort([top_k(queries, rows.reshape(-1, 7), 2100, metric)], axis=2)[0]
    # The rank of an item is that of its best vector.
    expected = np.argsort(every.reshape(40, 700, 3).min(axis=2), axis=1)[:, :k]
    assert top_k(queries, rows, k, metric).tolist() == expected.tolist()
    own = expected[:, 0]
    assert not (top_k(queries, rows, k, metric, skip=own) == own[:, np.newaxis]).any()


def test_equal_items_come_by_id_and_far_offsets_do_not_blur_distances(small_blocks):
    items = np.zeros((600, 3), np.float32)
    items[:, 0] = 1.0
    items[5:] = -1.0
    assert top_k(items[:2], items, 5, "angular").tolist() == [[0, 1, 2, 3, 4]] * 2
    far = np.arange(50, dtype=np.float32)[:, np.newaxis] / 100 + 3000
    assert top_k(far[[20]], far, 3, "euclidean")[0, 0] == 20


def test_a_query_does_not_find_itself_and_places_stay_empty_where_items_are_few():
    items = vectors(3)
    found = top_k(items, items, 4, "euclidean", skip=np.array([0, NONE, 2]))
    assert [set(row) for row in found[:, :2].tolist()][0] == {1, 2}
    assert found[0, 2:].tolist() == [NONE, NONE]
    assert found[1, 0] == 1
    assert found[1, 3] == NONE
    assert 2 not in found[2]


def test_a_query_does_not_find_itself_in_whatever_block_it_is(small_blocks):
    items = vectors(700)
    own = np.array([5, 300, 699, NONE])
    found = top_k(items[own], items, 3, "angular", skip=own)
    every = top_k(items[own], items, 4, "angular")
    assert every[:3, 0].tolist() == own[:3].tolist()
    assert found[:3].tolist() == every[:3, 1:].tolist()
    assert found[3].tolist() == every[3, :3].tolist()


def test_bytes_are_compared_as_numbers():
    items = np.array([[200, 0], [0, 200], [100, 100]], np.uint8)
    assert top_k(np.array([[255, 250]], np.uint8), items, 3, "angular")[0, 0] == 2
    assert top_k(np.array([[190, 5]], np.uint8), items, 3, "euclidean").tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(
    ("relevant", "total", "expected"),
    [
        ([1, 0, 1, 0], 2, (1 / 1 + 2 / 3) / 2),
        ([1, 0, 1, 0], 3, (1 / 1 + 2 / 3) / 3),
        # More relevant items than ranks: a perfect list is still 1.
        ([1, 1, 1, 1], 9, 1.0),
        ([0, 0, 0, 1], 9, (1 / 4) / 4),
        ([0, 0, 0, 0], 0, 0.0),
    ],
)
def test_average_precision_by_hand(relevant, total, expected):
    found = average_precision(np.array([relevant], bool), np.array([total]))
    assert found == pytest.approx([expected])


@pytest.fixture
def judged():
    labels = NumberedLabels.of(["b", "a", "b"], ["a", "b", None, "b", "c"])
    # The second query is item 0 itself.
    return Judged.of(np.array([[1, 0, 3, 2], [2, 4, 1, NONE], [3, 1, 0, 4]]), labels, np.array([NONE, 0, NONE]))


def test_what_is_relevant_and_how_precise(judged):
    assert judged.relevant.tolist() == [
        [True, False, True, False],
        [False, False, False, False],
        [True, True, False, False],
    ]
    assert judged.precision(1).tolist() == [1.0, 0.0, 1.0]
    assert judged.precision(10).tolist() == [0.5, 0.0, 0.5]
    # Its only fellow is itself.
    assert judged.average_precision == pytest.approx([(1 + 2 / 3) / 2, 0.0, 1.0])


def test_means_worst_label_and_confusion(judged):
    row = judged.retrieval("ours", 8)
    assert (row.name, row.floats) == ("ours", 8)
    assert row.precision == pytest.approx({1: 2 / 3, 10: 1 / 3, 100: 1 / 3})
    assert row.mean_average_precision == pytest.approx((5 / 6 + 0 + 1) / 3)
    assert row.precision_by_label == {"a": 0.0, "b": 0.5}
    assert row.worst_label == "a"
    confusion = judged.confusion()
    assert confusion.labels == ("a", "b", "c")
    # Of a's three neighbours one has no label; of b's eight, two are a, four b, one c and one none.
    assert confusion.shares == pytest.approx(np.array([[0, 1 / 3, 1 / 3], [2 / 8, 4 / 8, 1 / 8], [0, 0, 0]]))


def test_a_query_that_is_an_item_is_not_counted_among_what_could_be_found():
    labels = NumberedLabels.of(["a"], ["a", "a", "b"])
    neighbours = top_k(vectors(3)[:1], vectors(3), 1000, "angular", skip=np.array([0]))
    judged = Judged.of(neighbours, labels, np.array([0]))
    place = neighbours[0].tolist().index(1)
    assert judged.average_precision == pytest.approx([1 / (place + 1)])
