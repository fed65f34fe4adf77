"""The handshake between encoder and index, and searches through both."""

import threading

import numpy as np
import pytest
from build_options import build_options
from pixel_encoder import CARD, OTHER, PixelEncoder, at

from ae_search.errors import ModelMismatchError, ModelNotServedError
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.search import ImageSearch


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(1, 256, (50, 2, 2, 1), np.uint8)


@pytest.fixture
def build(tmp_path, pixels):
    def build_index(cards, **options):
        encoder = PixelEncoder(cards)
        with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=5, **options)) as builder:
            builder.add(encoder.encode(pixels), [f"item {at}" for at in range(50)], ["even", "odd"] * 25)
        return tmp_path / "index"

    return build_index


@pytest.fixture
def index(build):
    with LatentIndex.open(build(at(2))) as index:
        yield index


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


def test_options_go_on_to_the_index(index, pixels):
    search = ImageSearch(PixelEncoder(at(2)), index)
    found = search.search(pixels[7], k=25, where={"label": "even"}, effort=1000)
    assert sorted(n.key for n in found) == sorted(f"item {at}" for at in range(0, 50, 2))
    assert [n.key for n in found] == [n.key for n in search.search(pixels[7], k=50, exact=True) if n.label == "even"]


def test_it_pins_the_version_that_the_index_was_built_with(index):
    cards = at(2) | at(3, OTHER)
    assert ImageSearch(PixelEncoder(cards), index).encoder.describe().version == 2


def test_the_same_model_under_another_number_will_do(index):
    search = ImageSearch(PixelEncoder(at(5)), index)
    assert search.encoder.describe().version == 5
    assert search.encoder.version == 5


@pytest.mark.parametrize("cards", [at(2, OTHER), at(3, OTHER)])
def test_another_model_is_refused_by_name(index, cards):
    with pytest.raises(ModelMismatchError, match=r"pixels version 2 \(fingerprint abababababab\).*efefefefefef"):
        ImageSearch(PixelEncoder(cards), index)


def test_a_search_follows_the_index_to_another_model(build, index, pixels):
    search = ImageSearch(PixelEncoder(at(2) | at(3, OTHER)), index)
    assert search.search(pixels[7], k=1)[0].key == "item 7"
    build(at(3, OTHER), replace=True)
    assert search.search(pixels[7], k=1)[0].key == "item 7"
    assert search.encoder.describe().version == 3


def test_a_search_says_so_when_it_cannot_follow(build, index, pixels):
    search = ImageSearch(PixelEncoder(at(2)), index)
    build(at(3, OTHER), replace=True)
    with pytest.raises(ModelMismatchError, match=r"version 3 \(fingerprint efefefefefef\).*index rebuild"):
        search.search(pixels[7], k=1)


@pytest.mark.parametrize("fingerprint", [CARD.fingerprint, OTHER])
def test_a_search_follows_when_the_old_version_is_gone(build, index, pixels, fingerprint):
    cards = at(2)
    search = ImageSearch(PixelEncoder(cards), index)
    build(at(3, fingerprint), replace=True)
    cards.clear()
    cards.update(at(3, fingerprint))
    assert search.search(pixels[7], k=1)[0].key == "item 7"
    assert search.encoder.describe().version == 3


def test_the_newest_version_will_do_where_the_number_is_another_models(index):
    search = ImageSearch(PixelEncoder(at(2, OTHER) | at(5)), index)
    assert search.encoder.describe().version == 5


def test_a_version_that_is_gone_is_told(index, pixels):
    cards = at(2)
    search = ImageSearch(PixelEncoder(cards), index)
    cards.clear()
    with pytest.raises(ModelNotServedError):
        search.search(pixels[7], k=1)


def test_no_answer_is_wrong_while_models_roll_over(build, index, pixels):
    """Latents of the two models are each other's reverse: compared across, an item does not find itself."""
    search = ImageSearch(PixelEncoder(at(2) | at(3, OTHER)), index)
    wrong, searched, stop = [], [], threading.Event()

    def ask():
        turn = 0
        while not stop.is_set():
            turn = (turn + 1) % 50
            found = search.search(pixels[turn], k=1, exact=True)[0]
            searched.append(turn)
            if found.similarity < 0.999999:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(4):
        build(at(3, OTHER) if version % 2 == 0 else at(2), replace=True)
        before = len(searched)
        while len(searched) < before + 50:
            stop.wait(0.01)
            assert any(thread.is_alive() for thread in threads)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert CARD.fingerprint == search.encoder.describe().fingerprint


def test_imported_latents_of_no_known_model_are_not_searched_by_image(tmp_path, pixels):

    np.save(tmp_path / "latents.npy", pixels.reshape(-1, 4).astype(np.float32))
    LatentIndex.import_(tmp_path / "latents.npy", tmp_path / "imported")
    with LatentIndex.open(tmp_path / "imported") as index:
        with pytest.raises(ModelMismatchError, match="unknown"):
            ImageSearch(PixelEncoder(at(2)), index)
