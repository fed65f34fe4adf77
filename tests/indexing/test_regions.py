"""An index with regions: what each item then has, and that whatever comes later has it too."""

import numpy as np
import pytest
from pictures import coloured_picture, encoded
from PIL import Image

from ae_search import ImageSearch
from ae_search.data import open_source
from ae_search.errors import ConfigurationError
from ae_search.image_file import image_pixels
from ae_search.image_file.regions import region_pixels
from ae_search.index import LatentIndex
from ae_search.indexing import add_source, index_source, rebuild, sync_source, update_source
from ae_search.model_server import LocalEncoder

KEYS = [f"{seed}.png" for seed in range(4)]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for seed, key in enumerate(KEYS):
        coloured_picture(seed, (90, 70)).save(root / key)
    return root


@pytest.fixture
def encoder(tiny_export):
    return LocalEncoder(tiny_export)


@pytest.fixture
def index(folder, encoder, tmp_path):
    index_source(open_source(str(folder)), encoder, tmp_path / "index", regions=True)
    with LatentIndex.open(tmp_path / "index") as opened:
        yield opened


def expected(encoder, path):
    """The latents of the whole and of its regions, cut from a larger picture without the code that is tested."""
    data = path.read_bytes()
    parts = []
    for side, (middle, last) in {27: (5, 11), 23: (3, 7)}.items():
        boxes = [(left, top) for top in (0, middle, last) for left in (0, middle, last)]
        larger = Image.fromarray(image_pixels(data, "photo", (side, side, 3)))
        parts += [np.asarray(larger.crop((left, top, left + 16, top + 16))) for left, top in boxes]
    return np.concatenate([encoder.encode_files([data]), encoder.encode(np.stack(parts))])


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def check(index, folder, encoder, keys=KEYS):
    for key, latents in zip(keys, index.all_latents(keys), strict=True):
        assert latents == pytest.approx(expected(encoder, folder / key), abs=1e-5)


def test_each_item_has_latents_of_the_whole_and_of_its_parts(index, folder, encoder):
    assert (index.info().items, index.info().latents) == (4, 76)
    check(index, folder, encoder)
    assert index.latents(KEYS) == pytest.approx(encoder.encode_files([folder / key for key in KEYS]), abs=1e-5)


def test_what_is_added_updated_and_synced_later_has_them_too(index, folder, encoder):
    coloured_picture(20, (60, 60)).save(folder / "new.png")
    assert add_source(open_source(str(folder)), encoder, index).changed == 1
    check(index, folder, encoder, [*KEYS, "new.png"])
    coloured_picture(21, (50, 80)).save(folder / "0.png")
    update_source(open_source(str(folder)), encoder, index, among={"0.png"})
    check(index, folder, encoder, [*KEYS, "new.png"])
    coloured_picture(22, (50, 80)).save(folder / "1.png")
    coloured_picture(23, (50, 80)).save(folder / "newer.png")
    report = sync_source(open_source(str(folder)), encoder, index)
    assert (report.added, report.updated) == (["newer.png"], ["1.png"])
    check(index, folder, encoder, [*KEYS, "new.png", "newer.png"])
    index.compact()
    check(index, folder, encoder, [*KEYS, "new.png", "newer.png"])
    coloured_picture(24).save(folder / "last.png")
    add_source(open_source(str(folder)), encoder, index)
    check(index, folder, encoder, ["last.png"])


def test_a_search_looks_at_wholes_and_the_search_for_originals_at_regions_too(index, folder, encoder):
    (folder / "part.png").write_bytes(encoded(Image.open(folder / "2.png").crop((0, 0, 54, 42))))
    query, search = folder / "part.png", ImageSearch(encoder, index)
    latent = encoder.encode_files([query])[0]

    def nearest(every):
        return sorted(max(float(cosine(latent, one)) for one in rows) for rows in every)[::-1]

    whole = nearest(latents[:1] for latents in index.all_latents(KEYS))
    part = nearest(index.all_latents(KEYS))
    assert part[0] > whole[0] + 0.001
    for found in (
        search.search(query),
        search.search_with_trust(query).neighbours,
        search.search_batch([query, query])[1],
    ):
        assert [one.similarity for one in found] == pytest.approx(whole, abs=1e-5)
    assert [one.neighbour.similarity for one in search.originals(query, 1, views=False)] == pytest.approx(part[:1])
    assert search.search(query, views=True)[0].similarity >= part[0] - 1e-5
    by_key = search.search(like=["2.png"])
    own = index.latents(["2.png"])[0]
    expected = sorted((float(cosine(own, index.latents([key])[0])) for key in KEYS if key != "2.png"), reverse=True)
    assert [one.similarity for one in by_key] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_rebuilt_index_has_them_too_and_is_calibrated(index, folder, tmp_path):
    import keras

    from ae_search.export import export_encoder
    from ae_search.model import build_encoder

    keras.utils.set_random_seed(5)
    export_encoder(build_encoder((16, 16, 3), latent_dim=4), tmp_path / "other")
    other = LocalEncoder(tmp_path / "other")
    rebuild(index, other, [open_source(str(folder))])
    with LatentIndex.open(index.path) as rebuilt:
        check(rebuilt, folder, other)
        assert set(rebuilt.calibration()) == {"originals", "regions"}
        coloured_picture(20).save(folder / "new.png")
        add_source(open_source(str(folder)), other, rebuilt)
        check(rebuilt, folder, other, ["new.png"])


def test_without_them_an_item_has_one_latent(folder, encoder, tmp_path):
    index_source(open_source(str(folder)), encoder, tmp_path / "index")
    with LatentIndex.open(tmp_path / "index") as index:
        assert index.info().latents == 4
        add = coloured_picture(20)
        add.save(folder / "new.png")
        add_source(open_source(str(folder)), encoder, index)
        assert [len(latents) for latents in index.all_latents([*KEYS, "new.png"])] == [1] * 5
        assert "regions" not in index.calibration()


def test_arrays_of_the_models_shape_and_of_another_have_them(encoder, tmp_path):
    from ae_search.data import ArraySource

    for side in (16, 40):
        pixels = np.stack([np.asarray(coloured_picture(seed, (side, side))) for seed in range(4)])
        source = ArraySource("made/train", pixels, [None] * 4)
        index_source(source, encoder, tmp_path / f"index {side}", regions=True)
        with LatentIndex.open(tmp_path / f"index {side}") as index:
            latents = index.all_latents([source.key(0)])[0]
        assert latents[1:] == pytest.approx(encoder.encode(region_pixels(pixels[0], "photo", (16, 16, 3))), abs=1e-5)


def test_images_that_cannot_be_read_are_left_out_and_the_others_keep_their_own_regions(folder, encoder, tmp_path):
    (folder / "2.png").write_bytes(b"no image")
    (folder / "3a.jpg").write_bytes(encoded(coloured_picture(9, (300, 200)), "JPEG")[:900])
    report = index_source(open_source(str(folder)), encoder, tmp_path / "index", regions=True)
    assert set(report.damaged) == {"2.png", "3a.jpg"}
    with LatentIndex.open(tmp_path / "index") as index:
        check(index, folder, encoder, ["0.png", "1.png", "3.png"])


def test_a_corner_finds_the_image_that_it_was_cut_from(index, folder, encoder):
    search = ImageSearch(encoder, index)
    with Image.open(folder / "2.png") as picture:
        wide, high = picture.size
        side = round(0.6 * min(wide, high))
        # The model sees the middle square.
        left = (wide - high) // 2
        corner = picture.crop((left, 0, left + side, side))
    found = search.originals(corner, 1, views=False)[0].neighbour
    assert found.key == "2.png"
    assert found.similarity > 0.99


def test_regions_of_a_later_release_are_refused(index, folder, encoder):
    index.calibrate("regions", {"format": 4})
    coloured_picture(20).save(folder / "new.png")
    with pytest.raises(ConfigurationError, match="upgrade"):
        add_source(open_source(str(folder)), encoder, index)


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize(("shape", "larger"), [((16, 16, 3), (27, 27)), ((28, 20, 1), (47, 33))])
def test_regions_are_cut_out_of_one_larger_picture(shape, larger, fit):
    data = encoded(coloured_picture(3, (90, 60)), "PNG")
    whole = image_pixels(data, "photo", (*larger, shape[2]), fit=fit)
    parts = region_pixels(data, "photo", shape, fit=fit)
    assert parts.shape == (18, *shape)
    again = np.zeros_like(whole)
    again[: shape[0], : shape[1]], again[: shape[0], -shape[1] :] = parts[0], parts[2]
    again[-shape[0] :, : shape[1]], again[-shape[0] :, -shape[1] :] = parts[6], parts[8]
    assert np.array_equal(again, whole)
    top, left = (larger[0] - shape[0]) // 2, (larger[1] - shape[1]) // 2
    assert np.array_equal(parts[4], whole[top : top + shape[0], left : left + shape[1]])
