"""The handshake between encoder and index, and searches through both."""

import dataclasses

import numpy as np
import pytest

from ae_search.contract import ModelCard
from ae_search.errors import ModelMismatchError, ModelNotServedError
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.search import ImageSearch

CARD = ModelCard(name="pixels", version=2, fingerprint="ab" * 32, image_shape=(2, 2, 1), latent_dim=4)


class PixelEncoder:
    """A real encoder without a model: the latents are the pixels. It has several versions."""

    def __init__(self, cards, version=None):
        self.cards, self.version = cards, version

    def describe(self):
        version = self.version or max(self.cards)
        if version not in self.cards:
            raise ModelNotServedError(f"no version {version}")
        return self.cards[version]

    def at_version(self, version):
        return PixelEncoder(self.cards, version)

    def encode(self, images):
        self.describe()
        return np.asarray(images, np.float32).reshape(-1, 4) / 255.0

    def encode_files(self, files, *, on_bad=None):
        return np.array([list(file) for file in files], np.float32) / 255.0


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(1, 256, (50, 2, 2, 1), np.uint8)


@pytest.fixture
def index(tmp_path, pixels):
    with IndexBuilder(tmp_path / "index", CARD) as builder:
        builder.add(PixelEncoder({2: CARD}).encode(pixels), [f"item {at}" for at in range(50)], ["x"] * 50)
    with LatentIndex.open(tmp_path / "index") as index:
        yield index


def at(version, fingerprint=CARD.fingerprint):
    return {version: dataclasses.replace(CARD, version=version, fingerprint=fingerprint)}


def test_an_image_finds_itself_first(index, pixels):
    search = ImageSearch(PixelEncoder(at(2)), index)
    for exact in (False, True):
        found = search.search(pixels[7], k=3, exact=exact)
        assert [n.rank for n in found] == [1, 2, 3]
        assert found[0].key == "item 7"
        assert found[0].similarity == pytest.approx(1.0)
    rows = search.search_batch(list(pixels[:5]), k=1)
    assert [row[0].key for row in rows] == [f"item {i}" for i in range(5)]
    assert search.search(pixels[3].tobytes(), k=1)[0].key == "item 3"
    assert search.search_batch([]) == []


def test_it_pins_the_version_that_the_index_was_built_with(index):
    cards = at(2) | at(3, "ef" * 32)
    assert ImageSearch(PixelEncoder(cards), index).encoder.describe().version == 2


def test_the_same_model_under_another_number_will_do(index):
    search = ImageSearch(PixelEncoder(at(5)), index)
    assert search.encoder.describe().version == 5
    assert search.encoder.version == 5


@pytest.mark.parametrize("cards", [at(2, "ef" * 32), at(3, "ef" * 32)])
def test_another_model_is_refused_by_name(index, cards):
    with pytest.raises(ModelMismatchError, match=r"pixels version 2 \(fingerprint abababababab\).*efefefefefef"):
        ImageSearch(PixelEncoder(cards), index)
