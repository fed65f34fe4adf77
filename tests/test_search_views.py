"""Searching with altered views of the query: copies are found, and the answers are those of brute force."""

import numpy as np
import pytest
from build_options import build_options
from pictures import coloured_picture, encoded
from PIL import Image
from pixel_encoder import OTHER, PixelEncoder, at

from ae_search.errors import ImageError, ModelMismatchError, ModelNotServedError
from ae_search.image_file import image_pixels
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.search import ImageSearch
from ae_search.views import MOST_VIEWS, query_views

SHAPE = (32, 32, 3)
COUNT = 12


def moved(image, turn=0.0, right=0):
    """Turn anticlockwise, then move to the right: by Pillow alone, not by the code that is tested."""
    return np.asarray(Image.fromarray(image).rotate(turn, Image.Resampling.BILINEAR, translate=(right, 0)))


COPIES = {
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: moved(image, 8),
    "turned the other way": lambda image: moved(image, -7),
    "shifted": lambda image: moved(image, right=2),
    "enlarged": lambda image: np.asarray(Image.fromarray(image).crop((2, 2, 30, 30)).resize((32, 32))),
    "mirrored and turned": lambda image: moved(np.ascontiguousarray(image[:, ::-1]), 8),
    "mirrored and shifted": lambda image: moved(np.ascontiguousarray(image[:, ::-1]), right=-2),
}


@pytest.fixture(scope="module")
def photographs():
    """Things before a black wall: where one moves, black comes in."""
    things = [np.asarray(coloured_picture(seed, (20, 20))) for seed in range(COUNT)]
    return np.stack([np.pad(thing, ((6, 6), (6, 6), (0, 0))) for thing in things])


@pytest.fixture(scope="module")
def decoys(photographs):
    """For each copy, an image that resembles it more than the original does: a quarter of it is another image."""
    others = np.roll(photographs, 1, axis=0)
    pairs = list(zip(photographs, others, strict=True))
    return {
        name: np.stack([(0.75 * copied(one) + 0.25 * other).astype(np.uint8) for one, other in pairs])
        for name, copied in COPIES.items()
    }


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A real export, whose latents are the image at half its size."""
    import keras

    from ae_search.export import export_encoder
    from ae_search.model_server import LocalEncoder

    layers = [keras.Input(SHAPE), keras.layers.AveragePooling2D(2), keras.layers.Flatten()]
    base = tmp_path_factory.mktemp("export") / "small"
    export_encoder(keras.Sequential(layers), base)
    return LocalEncoder(base)


@pytest.fixture(scope="module")
def search(tmp_path_factory, encoder, photographs, decoys):
    path = tmp_path_factory.mktemp("views") / "index"
    with IndexBuilder(path, encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        builder.add(encoder.encode(photographs), [f"photo {i}" for i in range(COUNT)], ["photo"] * COUNT)
        for name, images in decoys.items():
            builder.add(encoder.encode(images), [f"{name} {i}" for i in range(COUNT)], ["decoy"] * COUNT)
    with LatentIndex.open(path) as index:
        yield ImageSearch(encoder, index)


def brute_force(search, latents, k, label=None):
    """Return key and distance of the k items that are nearest to any of the latents `[34, d]` of one query."""
    index = search.index
    keys = [key for key, found, _ in index.items() if label in (None, found)]
    items, latents = index.latents(keys).astype(float), latents.astype(float)
    norms = np.linalg.norm(latents, axis=1)[:, np.newaxis] * np.linalg.norm(items, axis=1)
    distances = np.sqrt(np.maximum(0.0, 2 - 2 * latents @ items.T / norms)).min(axis=0)
    return [(keys[i], distances[i]) for i in np.argsort(distances)[:k]]


def check(found, expected):
    assert [n.key for n in found] == [key for key, _ in expected]
    assert [n.rank for n in found] == list(range(1, len(expected) + 1))
    assert [n.distance for n in found] == pytest.approx([distance for _, distance in expected], abs=1e-5)
    assert [n.similarity for n in found] == pytest.approx([1 - d * d / 2 for _, d in expected], abs=1e-5)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("exact", [False, True])
def test_a_copy_is_found_first_with_views_and_not_without(search, photographs, name, exact):
    copies = [COPIES[name](image) for image in photographs]
    originals = [f"photo {i}" for i in range(COUNT)]
    with_views, without = (
        [row[0].key for row in search.search_batch(copies, 1, exact=exact, views=views)] for views in (True, False)
    )
    assert with_views == originals
    assert not set(without) & set(originals)


@pytest.mark.parametrize("k", [1, 10, 500])
@pytest.mark.parametrize("label", [None, "photo"])
def test_the_answers_are_those_of_brute_force_over_the_views(search, encoder, photographs, k, label):
    for image in photographs[:3]:
        query = COPIES["turned"](image)
        found = search.search(query, k, where=label and {"label": label}, exact=True, views=True)
        expected = brute_force(search, encoder.encode(query_views(query)), k, label)
        assert len(expected) == min(k, 12 if label else 96)
        check(found, expected)
        # Looking at so many candidates, the forest finds all of them.
        assert search.search(query, k, where=label and {"label": label}, effort=5000, views=True) == found


def test_a_file_is_decoded_by_the_model_and_its_views_by_pillow(search, encoder, tmp_path):
    data = encoded(coloured_picture(3, (90, 60)), "JPEG", quality=80)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    views = encoder.encode(query_views(image_pixels(data, "photo", SHAPE)))
    latents = np.concatenate([encoder.encode_files([data]), views[1:]])
    expected = brute_force(search, latents, 10)
    for file in (data, path, str(path)):
        check(search.search(file, exact=True, views=True), expected)


def test_an_indexed_image_still_finds_itself_first_whatever_it_is_given_as(search, photographs, tmp_path):
    files = []
    for i, image in enumerate(photographs):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(files[-1])
    floats = [image / np.float32(255) for image in photographs]
    for queries in (files, list(photographs), floats):
        plain, viewed = (search.search_batch(queries, 1, views=views) for views in (False, True))
        assert [row[0] for row in viewed] == [row[0] for row in plain]
        assert [row[0].key for row in viewed] == [f"photo {i}" for i in range(COUNT)]


def test_answers_do_not_depend_on_what_is_in_memory_together(search, photographs, monkeypatch):
    queries = [COPIES["shifted"](image) for image in photographs]
    whole = search.search_batch(queries, views=True)
    assert [row[0].key for row in whole] == [f"photo {i}" for i in range(COUNT)]
    for name, few in (("_VIEWED_QUERIES", 5), ("_VIEWED_BYTES", 1)):
        monkeypatch.setattr(f"ae_search.search.query.{name}", few)
        parts = search.search_batch(queries, views=True)
        assert [[n.key for n in row] for row in parts] == [[n.key for n in row] for row in whole]
    assert [[n.key for n in search.search(one, views=True)] for one in queries[:2]] == [
        [n.key for n in row] for row in whole[:2]
    ]
    assert search.search_batch([], views=True) == []


def test_what_is_wrong_is_told(search, photographs, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(encoded(coloured_picture(9, (300, 200)), "JPEG")[:900])
    for file, told in ((tmp_path / "none.jpg", "no such"), (tmp_path / "text.jpg", "text.jpg"), (b"text", "image 0")):
        with pytest.raises(ImageError, match=told):
            search.search(file, views=True)
    with pytest.raises(ImageError, match="cut.jpg"):
        search.search(tmp_path / "cut.jpg", views=True)
    with pytest.raises(ImageError, match=r"shape=\(12, 32, 32, 3\)"):
        search.search(photographs, views=True)
    with pytest.raises(ImageError, match="lie in"):
        search.search(photographs[0] * 1.0, views=True)
    for wrong in ({"k": 0}, {"effort": 0}, {"where": {}}):
        with pytest.raises(ValueError):
            search.search(photographs[0], views=True, **wrong)


@pytest.fixture
def tiny(tmp_path):
    """2 x 2 px grey images, and a function that builds the index of them anew with another model."""
    pixels = np.random.default_rng(0).integers(1, 256, (50, 2, 2, 1), np.uint8)

    def build(cards):
        encoder = PixelEncoder(cards)
        with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=5, replace=True)) as builder:
            builder.add(encoder.encode(pixels), [f"item {i}" for i in range(50)])

    build(at(2))
    with LatentIndex.open(tmp_path / "index") as index:
        yield index, pixels, build


def test_grey_images_with_and_without_a_channel(tiny):
    index, pixels, _ = tiny
    search = ImageSearch(PixelEncoder(at(2)), index)
    expected = brute_force(search, PixelEncoder(at(2)).encode(query_views(pixels[7])), 10)
    for image in (pixels[7], pixels[7, ..., 0], pixels[7] / 255):
        check(search.search(image, exact=True, views=True), expected)
    assert search.search(pixels[7, :, ::-1], 1, views=True)[0].key == "item 7"


def test_the_handshake_is_that_of_every_search(tiny):
    index, pixels, build = tiny
    cards = at(2) | at(3, OTHER)
    search, cannot_follow = ImageSearch(PixelEncoder(cards), index), ImageSearch(PixelEncoder(at(2)), index)
    assert search.search(pixels[7], 1, views=True)[0].key == "item 7"
    build(at(3, OTHER))
    found = search.search(pixels[7], 1, views=True)[0]
    assert (found.key, search.encoder.describe().version) == ("item 7", 3)
    assert found.similarity == pytest.approx(1.0)
    with pytest.raises(ModelMismatchError, match="index rebuild"):
        cannot_follow.search(pixels[7], 1, views=True)
    cards.clear()
    with pytest.raises(ModelNotServedError):
        search.search(pixels[7], 1, views=True)


def test_an_item_counts_once_by_its_nearest_view(tiny):
    index, pixels, _ = tiny
    found = ImageSearch(PixelEncoder(at(2)), index).search(pixels[7], 50, views=True)
    assert len({n.id for n in found}) == len(found) == 50 > MOST_VIEWS
    assert [n.distance for n in found] == sorted(n.distance for n in found)
