"""The index's recall against NumPy brute force."""

import dataclasses

import numpy as np
import pytest
from build_options import build_options
from pixel_encoder import CARD

from ae_search.evaluation.measures.recall import measure_recall
from ae_search.index import IndexBuilder, LatentIndex

DIM = 16


@pytest.fixture(scope="module")
def latents():
    return np.random.default_rng(0).normal(size=(3000, DIM)).astype(np.float32)


@pytest.fixture(scope="module", params=["angular", "euclidean"])
def index(request, latents, tmp_path_factory):
    path = tmp_path_factory.mktemp("recall") / "index"
    card = dataclasses.replace(CARD, latent_dim=DIM, metric=request.param)
    with IndexBuilder(path, card, build_options(n_trees=3, recall=0.6, jobs=1)) as builder:
        builder.add(latents, [f"item {at}" for at in range(len(latents))])
    with LatentIndex.open(path) as opened:
        yield opened


def distances(queries, items, metric):
    if metric == "angular":
        queries, items = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, items))
    return np.linalg.norm(queries[:, np.newaxis].astype(float) - items, axis=2)


def test_recall_is_the_share_of_true_neighbours(index, latents):
    queries = np.random.default_rng(1).normal(size=(60, DIM)).astype(np.float32)
    result = measure_recall(index, queries, [f"query {at}" for at in range(60)])
    true = np.argsort(distances(queries, latents, index.metric), axis=1)[:, :10]
    for point in result.curve:
        rows = index.search(queries, 10, effort=point.effort)
        shares = [len({n.id for n in row} & set(ids)) / 10 for row, ids in zip(rows, true.tolist(), strict=True)]
        assert point.recall == pytest.approx(np.mean(shares))
        assert point.error == pytest.approx(np.std(shares) / np.sqrt(60), abs=1e-5)
    assert result.queries == 60
    assert result.effort == index.info().effort
    assert 0.3 < result.recall_at_10 < 1.0
    assert result.recall_at_10 == next(p.recall for p in result.curve if p.effort == result.effort)
    assert 0 < result.median_ms <= result.p99_ms
    tuned = result.effort
    assert [p.effort for p in result.curve] == sorted(
        {max(1, round(tuned * f)) for f in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)}
    )
    assert result.curve[0].recall <= result.curve[-1].recall


def test_an_item_that_is_the_query_is_no_neighbour(index, latents):
    chosen = list(range(40))
    keys = [f"item {at}" for at in chosen]
    result = measure_recall(index, latents[chosen], keys)
    between = distances(latents[chosen], latents, index.metric)
    between[chosen, chosen] = np.inf
    true = np.argsort(between, axis=1)[:, :10]
    rows = index.search(latents[chosen], 11, effort=result.effort)
    shares = [len({n.id for n in row} & set(ids)) / 10 for row, ids in zip(rows, true.tolist(), strict=True)]
    assert result.recall_at_10 == pytest.approx(np.mean(shares))


def test_an_index_of_one_item_has_found_all_there_is(tmp_path):
    card = dataclasses.replace(CARD, latent_dim=DIM)
    with IndexBuilder(tmp_path / "one", card, build_options(n_trees=1)) as builder:
        builder.add(np.ones((1, DIM), np.float32), ["alone"])
    with LatentIndex.open(tmp_path / "one") as opened:
        assert measure_recall(opened, np.ones((1, DIM), np.float32), ["alone"]).recall_at_10 == 1.0
        assert measure_recall(opened, np.ones((2, DIM), np.float32), ["a", "b"]).recall_at_10 == 1.0
