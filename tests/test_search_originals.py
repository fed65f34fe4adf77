"""Whether the original of a query is in the index: with verdicts of `ImageSearch` and its twin."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from build_options import build_options
from pictures import coloured_picture
from PIL import Image

from ae_search import AsyncImageSearch, ImageSearch
from ae_search.calibration import ViewsCalibration, calibrate, store, stored
from ae_search.contract import ModelCard
from ae_search.data import ArraySource
from ae_search.errors import ConfigurationError, ServerUnavailableError
from ae_search.image_file import image_pixels
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.indexing import index_source, views_calibration
from ae_search.search import query

SHAPE = (32, 32, 3)
COUNT = 80


class SmallPixels:
    """An encoder without a model: pixels of 8 x 8 px less their mean."""

    def __init__(self, version=None):
        self.version = version

    def describe(self):
        return ModelCard(name="small", version=2, fingerprint="ab" * 32, image_shape=SHAPE, latent_dim=192)

    def at_version(self, version):
        return SmallPixels(version)

    def encode(self, images):
        small = np.asarray(images, np.float32).reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(-1, 192)
        return small - small.mean(axis=1, keepdims=True)

    def encode_files(self, files, *, on_bad=None):
        return self.encode(np.stack([image_pixels(file, "image", SHAPE) for file in files]))


class AsyncTwin:
    """An encoder for asyncio that asks a blocking one."""

    def __init__(self, encoder):
        self.encoder = encoder

    def at_version(self, version):
        return AsyncTwin(self.encoder.at_version(version))

    async def describe(self):
        return self.encoder.describe()

    async def encode(self, images):
        return self.encoder.encode(images)

    async def encode_files(self, files, *, on_bad=None):
        return self.encoder.encode_files(files, on_bad=on_bad)


def photographs(first=0):
    return np.stack([np.asarray(coloured_picture(seed, (32, 32))) for seed in range(first, first + COUNT)])


def blurred(image):
    small = Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((32, 32), Image.Resampling.BILINEAR))


@pytest.fixture
def encoder():
    return SmallPixels()


@pytest.fixture
def index(tmp_path, encoder):
    with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        builder.add(encoder.encode(photographs()), [f"photo {at}" for at in range(COUNT)])
    with LatentIndex.open(tmp_path / "index") as opened:
        measured = calibrate(opened)
        missing = ImageSearch(encoder, opened).originals_batch(list(photographs(first=2 * COUNT)), 1)
        views = ViewsCalibration.of([row[0].score for row in missing])
        store(opened, replace(measured, views=views))
        yield opened


@pytest.fixture
def search(encoder, index):
    return ImageSearch(encoder, index)


@pytest.mark.parametrize(
    "copied",
    [blurred, lambda image: image[:, ::-1], lambda image: np.ascontiguousarray(np.rot90(image)), lambda image: image],
    ids=["blurred", "mirrored", "turned", "as it is"],
)
def test_copies_are_found_and_others_are_not(search, copied):
    copies = [copied(image) for image in photographs()]
    others = [copied(image) for image in photographs(first=COUNT)]
    found = search.originals_batch(copies, 2)
    assert [row[0].neighbour.key for row in found] == [f"photo {at}" for at in range(COUNT)]
    verdicts = [row[0].verdict for row in found]
    assert verdicts.count("this is it") > 0.9 * COUNT
    # 15 % of the items themselves reach what is probable with another one.
    missing = [row[0].verdict for row in search.originals_batch(others, 1, views=False)]
    assert missing.count("not here") > 0.6 * COUNT
    assert missing.count("this is it") < 0.2 * COUNT


def test_nothing_is_certain_by_views_that_were_never_measured(search, index):
    """Each view is another chance for a wrong item, of which a search without views knows nothing."""
    store(index, replace(stored(index), views=None))
    unmeasured = ImageSearch(search.encoder, index)
    for images in (photographs(), photographs(first=COUNT)):
        verdicts = {row[0].verdict for row in unmeasured.originals_batch(list(images), 1)}
        assert "this is it" not in verdicts and "probably" in verdicts
    assert unmeasured.originals(photographs()[3], 1, views=False)[0].verdict == "this is it"


def test_what_is_known_of_the_index_is_asked_for_again_after_a_while(search, index, monkeypatch):
    def verdict():
        return search.originals(photographs()[3], 1, views=False)[0].verdict

    assert verdict() == "this is it"
    store(index, replace(stored(index), probable=2.0, certain=2.0))
    assert verdict() == "this is it"
    monkeypatch.setattr(query, "_HOLDS_S", -1.0)
    assert verdict() == "not here"


def test_candidates_come_best_first_with_scores_up_to_one(search):
    image = photographs()[7]
    found = search.originals(image)
    assert len(found) == 3
    scores = [candidate.score for candidate in found]
    assert scores == sorted(scores, reverse=True)
    assert found[0].score == pytest.approx(1.0, abs=1e-5)
    assert found[0].neighbour.rank == 1
    plain = search.originals(image, 5, views=False)
    assert [candidate.neighbour for candidate in plain] == search.search(image, 5)
    level = stored(search.index).levels(search.encoder.encode(image))[0]
    for candidate in plain:
        assert candidate.score == pytest.approx((candidate.neighbour.similarity - level) / (1 - level), abs=1e-6)
    assert search.originals_batch([]) == []


def test_the_twin_for_asyncio_says_the_same(encoder, index, search):
    images = [blurred(image) for image in photographs()[:3]]

    async def ask():
        async with AsyncImageSearch(AsyncTwin(encoder), index) as twin:
            return await twin.originals_batch(images), await twin.originals(images[1], 1, views=False)

    batch, one = asyncio.run(ask())
    assert batch == search.originals_batch(images)
    assert one == search.originals(images[1], 1, views=False)


def test_an_index_without_calibration_says_what_to_do_and_is_believed_once_it_has_one(encoder, tmp_path):
    with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=5)) as builder:
        builder.add(encoder.encode(photographs()), [f"photo {at}" for at in range(COUNT)])
    with LatentIndex.open(tmp_path / "index") as index:
        search = ImageSearch(encoder, index)
        with pytest.raises(ConfigurationError, match="index tune"):
            search.originals(photographs()[0])
        calibrate(index)
        assert search.originals(photographs()[0])[0].verdict == "probably"
        assert search.originals(photographs()[0], views=False)[0].verdict == "this is it"


def test_with_views_a_calibrated_index_still_finds_an_image_itself_first(search):
    found = search.search_batch(list(photographs()), 3, views=True)
    assert [row[0].key for row in found] == [f"photo {at}" for at in range(COUNT)]
    assert all([n.rank for n in row] == [1, 2, 3] for row in found)


def test_duplicates_are_found_by_the_calibration(encoder, index):
    copies = encoder.encode(np.stack([blurred(image) for image in photographs()[:4]]))
    index.add(copies, [f"copy {at}" for at in range(4)])
    groups = index.duplicates()
    assert {frozenset(group.keys) for group in groups} >= {frozenset({f"photo {at}", f"copy {at}"}) for at in range(4)}
    assert len(groups) < 10
    strict = index.duplicates(0.9999)
    assert strict == []


def test_a_build_remembers_which_part_of_the_latents_tells_copies(tmp_path, encoder):
    class InTwoParts(SmallPixels):
        def describe(self):
            return replace(super().describe(), training={"copies_from": 100})

        def at_version(self, version):
            return self

    source = ArraySource("photographs", photographs(), [None] * COUNT)
    for name, one, first in (("one", encoder, None), ("two", InTwoParts(), 100)):
        index_source(source, one, tmp_path / name)
        with LatentIndex.open(tmp_path / name) as index:
            assert stored(index).copies_from == first


def test_a_server_that_went_away_after_the_last_image_fails_no_build(tmp_path, caplog):
    class Away(SmallPixels):
        def describe(self):
            if (tmp_path / "index" / "CURRENT").exists():
                raise ServerUnavailableError("The server went away.")
            return super().describe()

        def at_version(self, version):
            return self

    source = ArraySource("photographs", photographs(), [None] * COUNT)
    assert index_source(source, Away(), tmp_path / "index").info.items == COUNT
    assert "The server went away." in caplog.text
    with LatentIndex.open(tmp_path / "index") as index:
        assert stored(index) is not None


def test_an_index_is_there_when_its_images_can_no_longer_be_asked_for(tmp_path, encoder, monkeypatch, caplog):
    def away(*_, **__):
        raise ServerUnavailableError("The server went away.")

    monkeypatch.setattr(views_calibration, "ImageSearch", away)
    source = ArraySource("photographs", photographs(), [None] * COUNT)
    assert index_source(source, encoder, tmp_path / "index").info.items == COUNT
    assert "The server went away." in caplog.text
    with LatentIndex.open(tmp_path / "index") as index:
        assert stored(index).views is None
        assert ImageSearch(encoder, index).originals(photographs()[3], 1, views=False)[0].verdict == "this is it"


def test_a_build_measures_what_views_find_where_the_original_is_not_there(tmp_path, encoder):
    pixels = photographs()
    source = ArraySource("photographs", pixels, [None] * COUNT)
    index_source(source, encoder, tmp_path / "index")
    with LatentIndex.open(tmp_path / "index") as index:
        chosen = np.random.default_rng(0).permutation(COUNT)[:16]
        search = ImageSearch(encoder, index)
        found = search.originals_batch(list(pixels[chosen]), COUNT)
        best = [
            max(one.score for one in row if one.neighbour.key != source.key(at))
            for at, row in zip(chosen, found, strict=True)
        ]
        deviation = 1.4826 * np.median(np.abs(best - np.median(best)))
        assert stored(index).views.probable == pytest.approx(np.median(best) + 1.04 * deviation, abs=1e-6)
        assert stored(index).views.probable > stored(index).probable
        others = search.originals_batch(list(photographs(first=500)), 1)
        assert np.mean([row[0].verdict != "not here" for row in others]) < 0.3
        assert np.mean([row[0].verdict == "this is it" for row in others]) < 0.1
