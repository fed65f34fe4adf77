"""Whether a query is like the items of an index: what is measured, what is stored, and what a search says of it."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from build_options import build_options
from pixel_encoder import CARD
from shapes_encoder import COUNT, SHAPE, AsyncShapes, Shapes, gratings, noise

from ae_search import AsyncImageSearch, ImageSearch
from ae_search.errors import IndexBusyError
from ae_search.image_file import pixels_to_png
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.trust import BEYOND, NAME, Trust, Usual, measure, reconstruction_errors, remember, stored

DIM = 6


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


@pytest.fixture
def build(tmp_path):
    def built(latents, name="index"):
        card = replace(CARD, latent_dim=latents.shape[1], metric="euclidean")
        with IndexBuilder(tmp_path / name, card, build_options(n_trees=10, recall=1.0)) as builder:
            builder.add(latents, [f"key {at}" for at in range(len(latents))])
        return LatentIndex.open(tmp_path / name)

    return built


def test_each_item_is_held_out_in_turn(build):
    latents = rows(150)
    with build(latents) as index:
        usual = measure(index)
    apart = np.sqrt(np.square(latents[:, None] - latents[None]).sum(axis=-1))
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(usual.distances, np.sort(np.sort(apart, axis=1)[:, 9]), rtol=1e-4)
    units = latents / np.linalg.norm(latents, axis=1, keepdims=True)
    nearest = apart.argmin(axis=1)
    np.testing.assert_allclose(usual.similarities, np.sort((units * units[nearest]).sum(axis=1)), atol=1e-4)
    assert not len(usual.errors)


def test_of_few_items_nothing_is_usual(build):
    with build(rows(99)) as index:
        assert remember(index) is None
        assert index.calibration() == {} and stored(index) is None


def test_a_share_is_that_of_held_out_items_with_less():
    usual = Usual(np.zeros(0, np.float32), np.arange(200, dtype=np.float32), np.arange(1000, dtype=np.float32))
    assert usual.of(-1.0) == Trust(-1.0, 0.0)
    assert usual.of(100.0).distance_share == 0.5
    assert usual.of(197.5).familiar and usual.of(198.0).familiar
    assert usual.of(198.5).distance_share > BEYOND and usual.of(198.5).familiar is False
    both = usual.of(3.0, 999.5)
    assert (both.distance_share, both.error_share, both.familiar) == (0.015, 1.0, False)
    assert usual.of(3.0, 990.0).familiar and usual.of(3.0, 991.0).familiar is False
    assert usual.of(None).familiar is None
    assert both.to_json() == {
        "familiar": False, "distance": 3.0, "distance_share": 0.015, "error": 999.5, "error_share": 1.0,
    }  # fmt: skip


def test_errors_are_mean_squared_differences_of_values_up_to_one():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    pixels = images / np.float32(255)
    assert reconstruction_errors(images, pixels).tolist() == [0, 0, 0]
    assert reconstruction_errors(pixels, 1 - pixels) == pytest.approx(np.square(2 * pixels - 1).mean(axis=(1, 2, 3)))
    assert reconstruction_errors(0 * images, np.full(images.shape, 0.1, np.float32)) == pytest.approx([0.01] * 3)


def test_it_is_stored_with_the_index_and_errors_stay_when_it_is_measured_anew(build):
    errors = np.random.default_rng(1).random(120).astype(np.float32)
    with build(rows(150)) as index:
        made = remember(index, errors)
        index.add(rows(50, seed=2), [f"new {at}" for at in range(50)])
        again = remember(index)
        found = stored(index)
        np.testing.assert_array_equal(found.errors, np.sort(errors))
        np.testing.assert_array_equal(found.distances, again.distances)
        assert len(made.distances) == 150 and len(again.distances) == 200
        index.compact()
        np.testing.assert_array_equal(stored(index).errors, np.sort(errors))
        assert len(json.dumps(index.calibration())) < 20_000


GOOD = Usual(*(np.linspace(0, 1, 5, dtype=np.float32) for _ in range(3))).to_json()
BAD = {
    "format": {"format": 2},
    "no object": {"distances": None},
    "no base64": {"distances": {"count": 5, "values": "€"}},
    "too short": {"distances": {"count": 5, "values": "AAAA"}},
    "too many": {"distances": {"count": 10**12, "values": ""}},
    "not finite": {"distances": {"count": 1, "values": "AADAfw=="}},
    "not ascending": {"distances": {"count": 2, "values": "AACAPwAAAAA="}},
}


@pytest.mark.parametrize("changed", BAD.values(), ids=list(BAD))
def test_what_strangers_wrote_is_checked_and_left_alone(build, changed, caplog):
    with pytest.raises(ValueError):
        Usual.from_json(GOOD | changed)
    with build(rows(5)) as index:
        index.calibrate(NAME, GOOD | changed)
        assert stored(index) is None
        assert "index tune" in caplog.text
        index.calibrate(NAME, GOOD)
        assert len(stored(index).distances) == 5


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An index of gratings, which knows what is usual."""
    encoder, place = Shapes(), tmp_path_factory.mktemp("trust") / "index"
    images = gratings(COUNT)
    with IndexBuilder(place, encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        labels = ["even" if at % 2 else "odd" for at in range(COUNT)]
        builder.add(encoder.encode(images), [f"grating {at}" for at in range(COUNT)], labels)
    with LatentIndex.open(place) as index:
        remember(index, reconstruction_errors(images, encoder.decode(encoder.encode(images))))
    return place


@pytest.fixture
def index(place):
    with LatentIndex.open(place) as opened:
        yield opened


class Awaited:
    """`AsyncImageSearch` behind the verbs of the blocking one."""

    def __init__(self, index):
        self.index = index

    def search_with_trust_batch(self, *args, **options):
        async def ask():
            async with AsyncImageSearch(AsyncShapes(Shapes()), self.index) as search:
                (first,) = [await search.search_with_trust(args[0][0], *args[1:], **options)]
                found = await search.search_with_trust_batch(*args, **options)
                assert found[0].neighbours == first.neighbours and found[0].trust == first.trust
                return found

        return asyncio.run(ask())


@pytest.fixture(params=["blocking", "asyncio"])
def search(request, index):
    return ImageSearch(Shapes(), index) if request.param == "blocking" else Awaited(index)


def test_strangers_are_marked_and_others_are_not(search):
    new, strange = gratings(60, first=COUNT), noise(60)
    for options in ({}, {"check_reconstruction": True}):
        known = search.search_with_trust_batch(list(new), **options)
        others = search.search_with_trust_batch(list(strange), **options)
        assert sum(one.trust.familiar for one in known) >= 57
        assert not any(one.trust.familiar for one in others)
        assert all((one.trust.error is None) == (not options) for one in known + others)


@pytest.mark.parametrize("options", [{}, {"where": {"label": "odd"}}, {"exact": True}, {"views": True}], ids=str)
@pytest.mark.parametrize("k", [1, 10, 25])
def test_neighbours_are_those_of_a_search_and_distances_are_over_the_whole_index(search, index, k, options):
    images = list(gratings(3, first=COUNT))
    plain = ImageSearch(Shapes(), index)
    found = search.search_with_trust_batch(images, k, **options)
    tenth = [row[9].distance for row in plain.search_batch(images, 10)]
    assert [one.neighbours for one in found] == plain.search_batch(images, k, **options)
    assert [one.trust.distance for one in found] == pytest.approx(tenth, abs=1e-6)
    np.testing.assert_allclose([one.latent for one in found], Shapes().encode(np.stack(images)), rtol=1e-6)


def test_errors_are_those_of_pixels_and_of_files(search):
    images = gratings(4, first=COUNT)
    expected = reconstruction_errors(images, Shapes().decode(Shapes().encode(images)))
    for queries in (list(images), [pixels_to_png(image) for image in images]):
        found = search.search_with_trust_batch(queries, check_reconstruction=True)
        assert [one.trust.error for one in found] == pytest.approx(expected, rel=1e-4)


def test_without_a_decoder_distances_are_all(index):
    found = ImageSearch(Shapes(decodes=False), index).search_with_trust(noise(1)[0], check_reconstruction=True)
    assert found.trust.error is None and found.trust.familiar is False


def test_an_index_that_keeps_nothing_says_nothing(tmp_path):
    encoder = Shapes()
    with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=10)) as builder:
        builder.add(encoder.encode(gratings(5)), list("abcde"))
    with LatentIndex.open(tmp_path / "index") as index:
        found = ImageSearch(encoder, index).search_with_trust(noise(1)[0], check_reconstruction=True)
        assert found.trust.distance is None and found.trust.error > 0
        assert found.trust.familiar is None
        assert ImageSearch(encoder, index).search_with_trust_batch([]) == []


def test_what_is_measured_later_counts_from_then_on(tmp_path):
    encoder = Shapes()
    with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=10)) as builder:
        builder.add(encoder.encode(gratings(120)), [f"grating {at}" for at in range(120)])
    with LatentIndex.open(tmp_path / "index") as index:
        search = ImageSearch(encoder, index)
        assert search.search_with_trust(noise(1)[0]).trust.familiar is None
        remember(index)
        assert search.search_with_trust(noise(1)[0]).trust.familiar is False


def test_a_busy_index_is_left_as_it_is(build):
    with build(rows(150)) as index, index.rebuilding(replace(CARD, latent_dim=DIM)):
        with LatentIndex.open(index.place) as other, pytest.raises(IndexBusyError):
            remember(other)


def test_shapes_are_what_the_tests_take_them_for():
    assert gratings(2).shape == (2, *SHAPE) and noise(1).dtype == np.uint8
