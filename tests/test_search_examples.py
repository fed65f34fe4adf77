"""Search by example: near to some items, far from others; the oracle is NumPy over all latents."""

import asyncio
import dataclasses

import numpy as np
import pytest
from pixel_encoder import CARD, OTHER, AsyncPixelEncoder, PixelEncoder, at

from ae_search import AsyncImageSearch, ImageSearch
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.search.examples import combined

COUNT = 200


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(1, 256, (COUNT, 2, 2, 1), np.uint8)


@pytest.fixture(scope="module", params=["angular", "euclidean"])
def index(request, pixels, tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "index"
    with IndexBuilder(path, dataclasses.replace(CARD, metric=request.param)) as builder:
        builder.add(latents_of(pixels), [f"{at}" for at in range(COUNT)], ["even", "odd"] * (COUNT // 2))
    with LatentIndex.open(path) as opened:
        yield opened


def latents_of(pixels):
    return PixelEncoder(at(2)).encode(pixels)


def nearest(index, pixels, near, far, k):
    """Return what NumPy finds: keys and distances."""
    latents = latents_of(pixels).astype(np.float64)
    if index.metric == "angular":
        latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    query = latents[near].mean(axis=0)
    if far:
        query = query + (query - latents[far].mean(axis=0))
    if index.metric == "angular":
        distances = -(latents @ query) / np.linalg.norm(query)
    else:
        distances = np.linalg.norm(latents - query, axis=1)
    order = [one for one in np.argsort(distances, kind="stable") if one not in {*near, *far}]
    return [f"{one}" for one in order[:k]]


CASES = [([3], []), ([3, 9, 20], []), ([3], [40]), ([3, 9], [40, 41, 42]), ([3, 3, 9], [3])]


@pytest.mark.parametrize(("near", "far"), CASES, ids=range(len(CASES)))
def test_items_to_be_like_and_unlike(index, pixels, near, far):
    search = ImageSearch(PixelEncoder(at(2)), index)
    like, unlike = [f"{one}" for one in near], [f"{one}" for one in far]
    found = search.search(k=12, like=like, unlike=unlike, exact=True)
    assert [one.key for one in found] == nearest(index, pixels, near, far, 12)
    assert [one.rank for one in found] == list(range(1, 13))


def test_an_image_is_one_more_to_be_like(index, pixels):
    search = ImageSearch(PixelEncoder(at(2)), index)
    found = search.search(pixels[5], 10, like=["3", "9"], unlike=["40"], exact=True)
    expected = nearest(index, pixels, [5, 3, 9], [40], COUNT)
    assert [one.key for one in found if one.key != "5"] == expected[: 10 - ("5" in {one.key for one in found})]
    assert {"3", "9", "40"}.isdisjoint(one.key for one in found)


def test_filters_and_counts_hold(index, pixels):
    search = ImageSearch(PixelEncoder(at(2)), index)
    found = search.search(k=COUNT, like=["3"], unlike=["9"], where={"label": "odd"})
    assert len(found) == COUNT // 2 - 2  # both are odd
    assert all(int(one.key) % 2 for one in found)


def test_asyncio_finds_the_same(index, pixels):
    blocking = ImageSearch(PixelEncoder(at(2)), index)
    questions = [
        {"like": ["3"], "unlike": ["9"], "exact": True},
        {"image": pixels[7], "like": ["3"], "k": 4, "exact": True},
    ]

    async def run():
        async with AsyncImageSearch(AsyncPixelEncoder(PixelEncoder(at(2))), index) as search:
            return [await search.search(**one) for one in questions]

    assert asyncio.run(run()) == [blocking.search(**one) for one in questions]


def test_without_an_image_no_encoder_is_asked(index):
    async def run():
        encoder = AsyncPixelEncoder(PixelEncoder(at(2)))
        search = AsyncImageSearch(encoder, index)
        found = await search.search(like=["3"])
        await search.close()
        return found, encoder.asked[0]

    found, asked = asyncio.run(run())
    assert len(found) == 10 and asked == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ValueError),
        ({"unlike": ["3"]}, ValueError),
        ({"like": "3"}, TypeError),
        ({"like": ["3"], "views": True}, ValueError),
        ({"like": ["none"]}, ConfigurationError),
        ({"like": ["3"], "unlike": ["none"]}, ConfigurationError),
        ({"like": ["3"], "k": 0}, ValueError),
    ],
)
def test_what_is_no_question(index, pixels, arguments, error):
    search = ImageSearch(PixelEncoder(at(2)), index)
    with pytest.raises(error):
        search.search(**arguments)


def test_examples_that_cancel_each_other_out():
    near, far = np.array([[1, 0], [-1, 0]], np.float32), np.zeros((0, 2), np.float32)
    with pytest.raises(ConfigurationError, match="cancel"):
        combined(near, far, "angular")
    assert combined(near, far, "euclidean").tolist() == [[0, 0]]


def test_lengths_count_only_where_the_metric_counts_them():
    near = np.array([[10, 0], [0, 1]], np.float32)
    assert np.allclose(combined(near, near[:0], "angular"), [[0.5, 0.5]])
    assert np.allclose(combined(near, near[:0], "euclidean"), [[5, 0.5]])
    assert np.allclose(combined(near[:1], near[1:], "angular"), [[2, -1]])


def test_an_index_that_moves_on_to_another_model(pixels, tmp_path):
    with IndexBuilder(tmp_path / "index", CARD) as builder:
        builder.add(latents_of(pixels), [f"{at}" for at in range(COUNT)])
    with LatentIndex.open(tmp_path / "index") as index:
        search = ImageSearch(PixelEncoder(at(2) | at(3, OTHER)), index)
        before = search.search(pixels[0], 3, like=["5"], exact=True)
        other = PixelEncoder(at(3, OTHER))
        with LatentIndex.open(tmp_path / "index") as writer:
            writer.rebuild(other.describe(), lambda keys: other.encode(pixels[[int(key) for key in keys]]))
        # The pixels in reverse are as near to each other as they were.
        assert [one.key for one in search.search(pixels[0], 3, like=["5"], exact=True)] == [one.key for one in before]
        assert [one.key for one in search.search(like=["5"], unlike=["9"], k=3)]
        lost = ImageSearch(PixelEncoder(at(3, OTHER)), index)
        with LatentIndex.open(tmp_path / "index") as writer:
            old = PixelEncoder(at(2))
            writer.rebuild(old.describe(), lambda keys: old.encode(pixels[[int(key) for key in keys]]))
        with pytest.raises(ModelMismatchError):
            lost.search(pixels[0], like=["5"])
