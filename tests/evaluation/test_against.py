"""Another encoder beside the index's: the neighbours in common and both precisions, against brute force."""

import json

import numpy as np
import pytest
from build_options import build_options
from pixel_encoder import OTHER, PixelEncoder, at
from report_page import sections, written

from ae_search.data import ArraySource
from ae_search.evaluation.evaluate import evaluate
from ae_search.evaluation.measures.against import overlap
from ae_search.evaluation.measuring import MeasuringPlan
from ae_search.index import IndexBuilder, LatentIndex

PLAN = MeasuringPlan(reverse=0, baselines=False)


class Halves(PixelEncoder):
    """Sees the first two pixels only."""

    def encode(self, images):
        return super().encode(images) * np.array([1, 1, 0, 0], np.float32)


def source(name, count, seed, *, labelled=True):
    pixels = np.random.default_rng(seed).integers(1, 256, (count, 2, 2, 1), np.uint8)
    labels = ["left" if row[0, 0, 0] > row[0, 1, 0] else "right" for row in pixels] if labelled else [None] * count
    return ArraySource(name, pixels, labels)


@pytest.fixture(scope="module")
def items():
    return source("made/train", 60, 0)


@pytest.fixture
def index(tmp_path, items):
    encoder = PixelEncoder(at(2))
    with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        keys = [items.key(place) for place in range(len(items))]
        builder.add(encoder.encode(items.images), keys, items.labels)
    with LatentIndex.open(tmp_path / "index") as opened:
        yield opened


def compared(index, queries, items, other):
    return evaluate(index, PixelEncoder(at(2)), queries, [items], plan=PLAN, against=other)


def nearest(queries, items, floats):
    """Return the ten nearest by cosine, by brute force."""
    a, b = (one.images.reshape(len(one), -1)[:, :floats].astype(float) for one in (queries, items))
    return np.argsort(-(a @ b.T) / np.linalg.norm(b, axis=1), axis=1)[:, :10]


def test_the_figures_are_those_of_brute_force(index, items):
    queries = source("made/test", 25, 1)
    found = compared(index, queries, items, Halves(at(7, OTHER[::-1]))).against
    ours, theirs = nearest(queries, items, 4), nearest(queries, items, 2)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(ours, theirs, strict=True)]
    assert found.overlap == pytest.approx(np.mean(shared))
    assert 0.05 < found.overlap < 0.95
    labels, wanted = np.array(items.labels), np.array(queries.labels)[:, None]
    for told, ids in ((found.ours, ours), (found.precision, theirs)):
        right = labels[ids] == wanted
        assert told == pytest.approx({1: right[:, 0].mean(), 10: right.mean()})
    assert (found.model, found.version, found.floats, found.items, found.queries) == ("pixels", 7, 4, 60, 25)


def test_the_same_latents_in_another_order_find_the_same(index, items):
    result = compared(index, source("made/test", 25, 1), items, PixelEncoder(at(3, OTHER)))
    assert result.against.overlap == 1.0
    assert result.against.precision == result.against.ours
    assert result.against.precision[10] == pytest.approx(result.retrieval[0].precision[10])


def test_a_query_that_is_an_item_is_not_its_own_neighbour(index, items):
    result = compared(index, items, items, PixelEncoder(at(3, OTHER)))
    assert result.against.ours[1] == pytest.approx(result.retrieval[0].precision[1])


def test_items_without_an_image_are_left_out_of_both(index, items):
    some = ArraySource("made/train", items.images[:30], items.labels[:30])
    found = compared(index, source("made/test", 25, 1), some, PixelEncoder(at(3, OTHER))).against
    assert (found.items, found.overlap) == (30, 1.0)


def test_without_labels_there_is_an_overlap_and_no_precision(index, items, tmp_path):
    queries = source("made/test", 25, 1, labelled=False)
    result = compared(index, queries, items, PixelEncoder(at(3, OTHER)))
    assert (result.against.overlap, result.against.precision, result.against.ours) == (1.0, None, None)
    assert "against" in sections(written(result, tmp_path))


def test_without_images_it_is_said_that_nothing_was_compared(index):
    other = PixelEncoder(at(3, OTHER))
    result = evaluate(index, PixelEncoder(at(2)), source("made/test", 25, 1), plan=PLAN, against=other)
    assert result.against is None
    assert "pixels version 3 was not compared: no item or no query has an image that can be read." in result.notes


def test_json_and_report_tell_it(index, items, tmp_path):
    result = compared(index, source("made/test", 25, 1), items, Halves(at(7, OTHER[::-1])))
    told = json.loads(result.to_json())["against"]
    assert told["overlap"] == result.against.overlap
    assert told["precision"]["10"] == result.against.precision[10]
    page = written(result, tmp_path)
    assert "against" in sections(page)
    assert f"pixels version 7 finds {result.against.overlap:.1%} as well." in page.text
    assert "Beside another encoder" not in written(compared(index, items, items, None), tmp_path).text


def test_places_that_are_empty_are_shared_by_nobody():
    assert overlap(np.array([[1, 2, -1, -1]]), np.array([[2, 3, -1, -1]])) == 0.5
    assert overlap(np.array([[-1, -1]]), np.array([[-1, -1]])) == 0.0
