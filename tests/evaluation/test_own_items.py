"""A query is an item of the index when its content is, whatever either is called."""

import numpy as np
import pytest
from build_options import build_options
from pixel_encoder import PixelEncoder, at

from ae_search.data import ArraySource
from ae_search.data.digests import ItemDigest
from ae_search.evaluation.evaluate import evaluate
from ae_search.evaluation.measuring import MeasuringPlan
from ae_search.evaluation.own_items import by_content, by_latent
from ae_search.index import IndexBuilder, LatentIndex

PLAN = MeasuringPlan(reverse=0, baselines=False)
LABELS = ["left", "top"] * 20


def pixels(seed):
    return np.random.default_rng(seed).integers(1, 255, (40, 2, 2, 1), np.uint8)


@pytest.fixture(params=["with digests", "of an older release", "half of each"])
def index(tmp_path, request):
    """Forty pictures under the keys same/0 to same/39."""
    kept = {"with digests": 40, "of an older release": 0, "half of each": 20}[request.param]
    encoder, source = PixelEncoder(at(2)), ArraySource("same", pixels(0), LABELS)
    with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        known = [str(ItemDigest.of(source.images[place], None, "tag")) for place in range(kept)]
        keys = [source.key(place) for place in range(40)]
        builder.add(encoder.encode(source.images), keys, source.labels, digests=known + [None] * (40 - kept))
    with LatentIndex.open(tmp_path / "index") as opened:
        yield opened


def figures(index, source):
    result = evaluate(index, PixelEncoder(at(2)), source, plan=PLAN)
    return result.retrieval[0], result.recall, result.notes


def test_another_picture_under_the_same_key_counts(index):
    same_names = figures(index, ArraySource("same", pixels(1), LABELS))
    other_names = figures(index, ArraySource("other", pixels(1), LABELS))
    assert same_names[0] == other_names[0]
    assert same_names[1].recall_at_10 == other_names[1].recall_at_10 == 1.0
    assert not any("are items of the index" in note for note in same_names[2])


def test_the_same_picture_under_another_key_does_not(index):
    same_names = figures(index, ArraySource("same", pixels(0), LABELS))
    other_names = figures(index, ArraySource("other", pixels(0), LABELS))
    assert same_names[0] == other_names[0]
    for _, recall, notes in (same_names, other_names):
        assert recall.recall_at_10 == 1.0
        assert "40 of 40 queries are items of the index" in notes[0]


def test_each_query_is_told_by_itself(index):
    mixed = np.concatenate([pixels(0)[:7], pixels(1)[7:]])
    _, _, notes = figures(index, ArraySource("same", mixed, LABELS))
    assert "7 of 40 queries are items of the index" in notes[0]


def test_of_several_copies_it_is_the_one_with_the_querys_key():
    items = np.ones((6, 1, 3), np.float32)
    items[0] = 2
    found = by_latent(np.ones((2, 3), np.float32), items, np.array([4, -1]))
    assert found[0] == 4
    assert found[1] in range(1, 6)


def test_rounding_is_no_difference_and_a_near_copy_is_one():
    items = np.random.default_rng(0).normal(size=(50, 2, 8)).astype(np.float32)
    queries = items[:3, 1].copy()
    queries[1] *= 1 + 1e-6
    queries[2, 0] += 0.3
    assert by_latent(queries, items, np.full(3, -1)).tolist() == [0, 1, -1]


def test_a_namesake_that_is_another_picture_does_not_hide_the_item_itself():
    items = np.random.default_rng(0).normal(size=(5, 1, 8)).astype(np.float32)
    assert by_latent(items[3], items, np.array([1])).tolist() == [3]


def test_by_content_the_namesake_comes_first_and_what_is_not_known_is_nobody():
    items = ["a", "b", "a", None]
    namesakes = np.array([2, 1, -1, 0, 3, -1])
    assert by_content(["a", "a", "a", "c", None, "b"], items, namesakes).tolist() == [2, 0, 0, -1, -1, 1]
