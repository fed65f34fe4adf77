"""Why two images are similar: contributions, the walk, the heat map, and where parts of a latent show."""

import asyncio
import shutil
from dataclasses import replace

import numpy as np
import pytest
from build_options import build_options
from shapes_encoder import BASIS, SHAPE, AsyncShapes, Shapes, gratings

from ae_search import AsyncImageSearch, ImageSearch
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.explaining import Pair, agreement
from ae_search.image_file import pixels_to_png
from ae_search.index import IndexBuilder, LatentIndex

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(2, 12)).astype(np.float32)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def pair(metric="angular", **options):
    return Pair(FIRST, SECOND, metric, **options)


def test_contributions_add_up_to_the_similarity():
    found = pair().contributions()
    assert found.sum() == pytest.approx(cosine(FIRST, SECOND), abs=1e-6)
    assert pair(parts=3).largest().tolist() == np.argsort(-found)[:3].tolist()
    assert Pair(np.zeros(12, np.float32), SECOND, "angular").contributions().tolist() == [0] * 12


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_a_walk_goes_from_one_to_the_other_in_equal_steps(metric):
    walk = pair(metric, steps=7, parts=0).latents()
    np.testing.assert_array_equal(walk[[0, -1]], [FIRST, SECOND])
    if metric == "euclidean":
        np.testing.assert_allclose(np.diff(walk, axis=0), np.repeat([(SECOND - FIRST) / 6], 6, axis=0), atol=1e-6)
        return
    lengths = np.linalg.norm(walk, axis=1)
    np.testing.assert_allclose(lengths, np.linspace(lengths[0], lengths[-1], 7), rtol=1e-5)
    angles = [np.arccos(cosine(a, b)) for a, b in zip(walk, walk[1:], strict=False)]
    np.testing.assert_allclose(angles, np.arccos(cosine(FIRST, SECOND)) / 6, rtol=1e-3)


@pytest.mark.parametrize("other", [FIRST, -FIRST, 3 * FIRST, 0 * FIRST], ids=["same", "opposite", "longer", "none"])
def test_a_walk_between_latents_of_one_line_is_finite(other):
    walk = Pair(FIRST, other, "angular", steps=5, parts=0).latents()
    assert np.isfinite(walk).all()
    np.testing.assert_allclose(walk, np.linspace(FIRST, other, 5), atol=1e-6)


@pytest.mark.parametrize(("steps", "parts"), [(1, 8), (65, 8), (9, -1), (9, 33)])
def test_numbers_out_of_range_are_refused(steps, parts):
    with pytest.raises(ValueError, match="Received"):
        pair(steps=steps, parts=parts)


def slow_agreement(a, b, side):
    half, (height, width) = side // 2, a.shape[:2]
    a, b = (np.pad(one.astype(float), ((half, half), (half, half), (0, 0)), mode="edge") for one in (a, b))
    found = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            one, other = (image[y : y + side, x : x + side].reshape(side * side, -1) for image in (a, b))
            light = (2 * one.mean(0) * other.mean(0) + 1e-4) / (one.mean(0) ** 2 + other.mean(0) ** 2 + 1e-4)
            shared = ((one - one.mean(0)) * (other - other.mean(0))).mean(0)
            found[y, x] = (light * (2 * shared + 9e-4) / (one.var(0) + other.var(0) + 9e-4)).mean()
    return found


@pytest.mark.parametrize("shape", [(16, 20, 3), (5, 4, 1)])
def test_the_heat_map_is_structural_similarity(shape):
    a, b = np.random.default_rng(1).random((2, *shape), np.float32)
    side = max(3, round(min(shape[:2]) / 4)) | 1
    found = agreement(a, b)
    assert found.dtype == np.float32 and found.shape == shape[:2]
    np.testing.assert_allclose(found, slow_agreement(a, b, side), atol=1e-5)


def test_equal_images_agree_everywhere_and_negatives_nowhere():
    image = RNG.random((16, 16, 3), np.float32)
    np.testing.assert_allclose(agreement(image, image), 1, atol=1e-5)
    assert agreement(image, 1 - image).max() < 0
    half = image.copy()
    half[:, 8:] = 1 - half[:, 8:]
    found = agreement(image, half)
    assert found[:, :5].min() > 0.99 and found[:, 11:].max() < 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("explaining") / "index"
    encoder, images = Shapes(), gratings(30)
    regions = np.stack([encoder.encode(images), encoder.encode(255 - images)], axis=1)
    with IndexBuilder(place, encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        builder.add(regions, [f"grating {at}" for at in range(30)])
    return place


@pytest.fixture
def index(place):
    with LatentIndex.open(place) as opened:
        yield opened


def test_an_explanation_shows_what_the_decoder_makes_of_both(index):
    encoder, query = Shapes(), gratings(1, first=900)[0]
    found = ImageSearch(encoder, index).explain(pixels_to_png(query), "grating 3", steps=4, parts=5)
    a, b = encoder.encode(np.stack([query, gratings(30)[3]]))
    np.testing.assert_allclose([found.query, found.item], encoder.decode([a, b]), atol=1e-6)
    np.testing.assert_array_equal(found.walk[[0, -1]], [found.query, found.item])
    np.testing.assert_allclose(found.walk[1], encoder.decode((2 * a + b) / 3)[0], atol=1e-5)
    np.testing.assert_array_equal(found.agreement, agreement(found.query, found.item))
    assert found.similarity == pytest.approx(cosine(a, b), abs=1e-6)
    assert sum(part.contribution for part in found.parts) + found.rest == pytest.approx(found.similarity)
    assert len(found.parts) == 5 and found.parts[0].dimension == 0


def test_a_part_shows_where_it_changes_the_image(index):
    found = ImageSearch(Shapes(), index).explain(gratings(1, first=900)[0], "grating 3", parts=8)
    for part in found.parts[1:]:
        wave = np.abs(BASIS[part.dimension]).reshape(SHAPE[:2])
        if part.where.any():
            assert part.where.max() == 1
            assert np.corrcoef(part.where.ravel(), wave.ravel())[0, 1] > 0.95


def test_the_nearest_latent_of_an_item_counts(index):
    encoder = Shapes()
    found = ImageSearch(encoder, index).explain(255 - gratings(30)[3], "grating 3")
    np.testing.assert_allclose(found.item, encoder.decode(encoder.encode(255 - gratings(30)[3]))[0], atol=1e-5)


def test_the_asynchronous_twin_says_the_same(index):
    query = gratings(1, first=900)[0]

    async def ask():
        async with AsyncImageSearch(AsyncShapes(Shapes()), index) as search:
            return (
                await search.explain(query, "grating 3", steps=3),
                await search.explain_latent(Shapes().encode(query)[0], "grating 3", steps=3),
            )

    expected = ImageSearch(Shapes(), index).explain(query, "grating 3", steps=3)
    for found in asyncio.run(ask()):
        np.testing.assert_allclose(found.walk, expected.walk, atol=1e-6)
        assert [part[:2] for part in found.parts] == [part[:2] for part in expected.parts]


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_what_was_searched_for_by_example_can_be_explained(metric, tmp_path):
    """An item by itself is decoded as it is, although directions alone are compared."""
    encoder = Shapes()
    encoder.card = replace(encoder.card, metric=metric)
    latents = encoder.encode(gratings(30))
    with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=10)) as builder:
        builder.add(latents, [f"grating {at}" for at in range(30)])
    with LatentIndex.open(tmp_path / "index") as index:
        search = ImageSearch(encoder, index)
        by_key = search.explain(None, "grating 3", like=["grating 5"])
        by_latent = search.explain_latent(latents[5], "grating 3")
        np.testing.assert_allclose(by_key.walk, by_latent.walk, atol=1e-5)
        like, unlike, query = ["grating 1", "grating 2"], ["grating 4"], gratings(1, first=900)[0]
        found = search.explain(query, "grating 3", like=like, unlike=unlike)
        near, far = np.stack([latents[1], latents[2], encoder.encode(query)[0]]), latents[4:5]
        lengths = np.linalg.norm(near, axis=1).mean()
        if metric == "angular":
            near, far = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (near, far))
        asked = 2 * near.mean(axis=0) - far[0]
        assert found.similarity == pytest.approx(cosine(asked, latents[3]), abs=1e-5)
        if metric == "angular":
            asked = asked * lengths / np.linalg.norm(asked)
        np.testing.assert_allclose(found.query, encoder.decode(asked.astype(np.float32))[0], atol=1e-4)
        with pytest.raises(ValueError, match="neither"):
            search.explain(None, "grating 3")


def test_latents_of_another_model_are_never_decoded(place, tmp_path):
    shutil.copytree(place, tmp_path / "index")
    encoder, query = Shapes(), gratings(1)[0]
    with LatentIndex.open(tmp_path / "index") as index, LatentIndex.open(tmp_path / "index") as writer:
        search = ImageSearch(encoder, index)
        with writer.rebuilding(replace(encoder.describe(), fingerprint="cd" * 32)) as again:
            for latents, items in writer.blocks():
                again.add_items(latents, items)
        with pytest.raises(ModelMismatchError):
            search.explain(query, "grating 3")


def test_what_cannot_be_explained(index):
    search, query = ImageSearch(Shapes(), index), gratings(1)[0]
    with pytest.raises(ConfigurationError, match="nothing here"):
        search.explain(query, "nothing here")
    with pytest.raises(ConfigurationError, match="without a decoder"):
        ImageSearch(Shapes(decodes=False), index).explain(query, "grating 3")
    for bad in (np.zeros(3), np.zeros((1, 16)), np.full(16, np.nan)):
        with pytest.raises(ValueError, match="Received"):
            search.explain_latent(bad, "grating 3")
    with pytest.raises(ValueError, match="steps"):
        search.explain(query, "grating 3", steps=1)
