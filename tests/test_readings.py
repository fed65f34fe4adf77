"""Latents of two parts, read by what an image shows and by which image it is."""

import numpy as np
import pytest
from build_options import build_options

from ae_search import ImageSearch
from ae_search.calibration import calibrate
from ae_search.contract import ModelCard
from ae_search.image_file import image_pixels
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.search.query import Match, QueryOptions
from ae_search.search.readings import readings
from ae_search.views import query_views, unmoved

FIRST, DIM, COUNT = 10, 16, 200
LENGTH = 0.3
SHAPE = (8, 8, 3)


def card(**changed):
    told = {"copies_from": FIRST} | changed.pop("training", {})
    return ModelCard(
        **{"name": "two", "version": 1, "fingerprint": "ab" * 32, "image_shape": SHAPE, "latent_dim": DIM}
        | {"training": told}
        | changed
    )


def units(count, dim, seed):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def latents(count, seed=0):
    both = [units(count, FIRST, seed), LENGTH * units(count, DIM - FIRST, seed + 1)]
    return (4 * np.concatenate(both, axis=1)).astype(np.float32)


@pytest.fixture
def index(tmp_path):
    with IndexBuilder(tmp_path / "index", card(), build_options(n_trees=10, recall=1.0)) as builder:
        builder.add(latents(COUNT), [str(at) for at in range(COUNT)])
    with LatentIndex.open(tmp_path / "index") as opened:
        yield opened


def test_similarities_are_those_of_parts_of_other_lengths(index):
    queries, items = latents(34, seed=7), latents(COUNT)
    by_kind, by_copy = readings(queries, [34], card())
    for reading, length in ((by_kind, 0.15), (by_copy, 3.0)):
        asked = queries[reading.rows]
        parts = [
            asked[:, of]
            / np.linalg.norm(asked[:, of], axis=1, keepdims=True)
            @ (items[:, of] / np.linalg.norm(items[:, of], axis=1, keepdims=True)).T
            for of in (slice(FIRST), slice(FIRST, None))
        ]
        expected = (parts[0] + length**2 * parts[1]) / (1 + length**2)
        found = QueryOptions(k=5).search_reading(index, reading, Match(None, index.model, card()))
        for row, truth in zip(found, expected, strict=True):
            best = np.argsort(-truth)[:5]
            assert [one.key for one in row] == [str(at) for at in best]
            assert [one.similarity for one in row] == pytest.approx(truth[best].tolist(), abs=1e-5)
            assert [one.distance for one in row] == pytest.approx(np.sqrt(2 - 2 * truth[best]).tolist(), abs=1e-4)


def test_each_item_is_as_near_to_itself_as_can_be(index):
    own = latents(COUNT)[:34]
    for reading in readings(own, [34], card()):
        found = QueryOptions(k=1).search_reading(index, reading, Match(None, index.model, card()))
        assert [row[0].key for row in found] == [str(at) for at in reading.rows]
        assert [row[0].similarity for row in found] == pytest.approx([1.0] * len(found), abs=1e-6)


def test_what_it_shows_is_read_from_straight_views_of_each_image():
    by_kind, by_copy = readings(latents(66), [32, 34], card())
    assert by_copy.rows.tolist() == list(range(66))
    straight = [0, 1, 26, 27, 28, 29, 30, 31]
    assert unmoved(32).tolist() == straight
    assert by_kind.rows.tolist() == [*straight, *(32 + at for at in [*straight, 32, 33])]
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    views = query_views(pixels)[unmoved(32)]
    turned = [np.rot90(pixels, turns) for turns in (0, 1, 2, 3)]
    assert all(np.array_equal(views[2 * at], one) for at, one in enumerate(turned))
    assert all(np.array_equal(views[2 * at + 1], one[:, ::-1]) for at, one in enumerate(turned))


@pytest.mark.parametrize("zeros", [slice(FIRST), slice(FIRST, None), slice(None)], ids=["kinds", "copies", "both"])
def test_a_part_of_zeros_has_no_say(zeros):
    queries = latents(34)
    queries[:, zeros] = 0
    for reading in readings(queries, [34], card()):
        assert np.isfinite(reading.latents).all() and np.isfinite(reading.factors).all()
        assert reading.latents == pytest.approx(queries[reading.rows])


@pytest.mark.parametrize(
    "other",
    [{"training": {"copies_from": None}}, {"training": {"copies_from": DIM}}, {"training": {"copies_from": "10"}},
     {"training": {"copies_from": True}}, {"training": {"copies_from": -1}}, {"metric": "euclidean"}],
    ids=["none", "all", "text", "flag", "negative", "euclidean"],
)  # fmt: skip
def test_others_are_read_as_they_are(other):
    queries = latents(34)
    (only,) = readings(queries, [34], card(**other))
    assert only.latents is queries and only.factors is None and only.rows.tolist() == list(range(34))


class TwoParts:
    """An encoder without a model: what an image shows is its colour, and which image it is the rest."""

    def __init__(self, version=None):
        self.version = version

    def describe(self):
        return card()

    def at_version(self, version):
        return TwoParts(version)

    def encode(self, images):
        images = np.asarray(images, np.float32).reshape(-1, *SHAPE)
        means = images.mean(axis=(1, 2))
        kinds = np.concatenate([means, np.full((len(images), FIRST - 3), 40.0)], axis=1)
        copies = (images.mean(axis=3) - images.mean(axis=(1, 2, 3))[:, None, None]).reshape(-1, 64)
        copies = copies @ np.random.default_rng(5).normal(size=(64, DIM - FIRST))
        unit = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9) for part in (kinds, copies)]
        return np.concatenate([unit[0], LENGTH * unit[1]], axis=1).astype(np.float32)

    def encode_files(self, files, *, on_bad=None):
        return self.encode(np.stack([image_pixels(file, "image", SHAPE) for file in files]))


def test_a_copy_in_another_colour_is_found_with_views_only(tmp_path):
    encoder, rng = TwoParts(), np.random.default_rng(1)
    colours = rng.uniform(0.3, 1.0, (COUNT, 1, 1, 3))
    pixels = np.uint8(rng.uniform(0, 255, (COUNT, 8, 8, 1)) * colours)
    with IndexBuilder(tmp_path / "index", card(), build_options(n_trees=10, recall=1.0)) as builder:
        builder.add(encoder.encode(pixels), [str(at) for at in range(COUNT)])
    with LatentIndex.open(tmp_path / "index") as index:
        calibrate(index)
        search = ImageSearch(encoder, index)
        grey = [np.repeat(np.uint8(one.mean(axis=2, keepdims=True)), 3, axis=2) for one in pixels[:20]]
        plain = [row[0].key for row in search.search_batch(grey, 1)]
        viewed = search.search_batch(grey, 3, views=True)
        assert [row[0].key for row in viewed] == [str(at) for at in range(20)]
        assert plain != [row[0].key for row in viewed]
        assert all([one.rank for one in row] == [1, 2, 3] for row in viewed)
        assert all(len({one.key for one in row}) == 3 for row in viewed)
        assert search.originals(pixels[3])[0].neighbour.similarity == pytest.approx(1.0, abs=1e-5)
