"""Figures over queries, by hand."""

import numpy as np
import pytest

from ae_search.evaluation import evaluate_queries, precision
from ae_search.index import Neighbour


def neighbours(labels):
    return [Neighbour(at + 1, f"key {at}", label, 1.0, 0.0, at) for at, label in enumerate(labels)]


def test_precision_and_latency_by_label():
    answers = {0: ["a", "a", "b", "a"], 1: ["b", "a", "a", "a"], 2: ["a", "b", "a", "b"]}
    images = np.arange(3).reshape(3, 1, 1, 1)
    result = evaluate_queries(
        lambda image, k: neighbours(answers[int(image[0, 0, 0])][:k]), images, ["a", "b", "a"], k=4
    )
    assert result.precision_by_label == {"a": (0.75 + 0.5) / 2, "b": 0.25}
    assert result.precision_at_k == pytest.approx(0.5)
    assert (result.queries, result.k) == (3, 4)
    assert 0 < result.median_ms <= result.p99_ms
    assert [n.label for n in result.neighbours[1]] == answers[1]


def test_no_neighbour_is_no_precision_and_no_query_no_figure():
    assert precision([], "a") == 0.0
    assert precision([one._replace(label=None) for one in neighbours(["a", "b"])], None) == 0.0
    with pytest.raises(ValueError, match="at least one query"):
        evaluate_queries(lambda image, k: [], np.zeros((0, 1, 1, 1)), [])
