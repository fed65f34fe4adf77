"""Building an index from a source, bringing it up to date, and rebuilding it with another model."""

import json

import numpy as np
import pytest
from build_options import build_options
from pictures import coloured_picture
from pixel_encoder import OTHER, PixelEncoder, at

from ae_search.data import ArraySource, open_source
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.index import LatentIndex
from ae_search.indexing import add_source, index_source, rebuild, update_source


@pytest.fixture
def pictures(tmp_path):
    """A folder of six pictures in two classes."""
    root = tmp_path / "pictures"
    for seed in range(6):
        path = root / ("cats" if seed % 2 else "dogs") / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coloured_picture(seed).save(path)
    return root


@pytest.fixture
def encoder():
    return PixelEncoder(at(2))


@pytest.fixture
def path(tmp_path, pictures, encoder):
    index_source(open_source(str(pictures)), encoder, tmp_path / "index", build_options(n_trees=3))
    return tmp_path / "index"


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def state(index):
    return {key: (label, metadata) for key, label, metadata in index.items()}


def test_the_manifest_names_the_source(path, pictures):
    with LatentIndex.open(path) as index:
        assert index.manifest.sources == (str(pictures.resolve()),)


def test_labels_and_metadata_come_from_a_file(tmp_path, pictures, encoder, caplog):
    details = lines(
        tmp_path / "details.jsonl",
        {"key": "cats/1.png", "label": "tom", "metadata": {"price": 3}},
        {"key": "cats/3.png", "metadata": {"price": 4}},
        {"key": "dogs/0.png", "label": None},
        {"key": "cats/9.png"},
    )
    index_source(open_source(str(pictures)), encoder, tmp_path / "index", build_options(n_trees=3), metadata=details)
    with LatentIndex.open(tmp_path / "index") as index:
        found = state(index)
    assert found["cats/1.png"] == ("tom", {"price": 3})
    assert found["cats/3.png"] == ("cats", {"price": 4})
    assert found["dogs/0.png"] == (None, {})
    assert found["dogs/2.png"] == ("dogs", {})
    assert "1 of the keys" in caplog.text and "cats/9.png" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1"),
        ("[]\n", "line 1: expected an object"),
        ('{"key": 3}\n', "line 1: expected an object"),
        ('{"key": "a", "price": 3}\n', "line 1: expected an object"),
        ('{"key": "a", "label": 3}\n', "line 1: a label is a text"),
        ('{"key": "a", "metadata": []}\n', "line 1: .*metadata are an object"),
        ('{"key": "a"}\n\n{"key": "a"}\n', "line 3: its key occurs twice"),
        ('{"key": "\\ud800"}\n', "line 1"),
        ('{"key": "' + "a" * (3 << 20) + '"}\n', "line 1: longer than"),
        ("[" * 200_000, "line 1"),
        ('{"key": "a", "metadata": {"a": NaN}}\n', "line 1"),
        ('{"key": "a", "metadata": {"a": "\\u0000"}}\n', "line 1: .*NUL"),
        ('{"key": "a", "metadata": {"a": "\\ud800"}}\n', "line 1"),
        ('{"key": "a", "metadata": {"a": ' + "[" * 150 + "]" * 150 + "}}\n", "line 1: .*100 levels"),
    ],
)
def test_a_malformed_file_of_details_is_refused_by_line(tmp_path, pictures, encoder, text, told):
    (tmp_path / "details.jsonl").write_text(text)
    with pytest.raises(ConfigurationError, match=f"details.jsonl, {told}"):
        index_source(open_source(str(pictures)), encoder, tmp_path / "index", metadata=tmp_path / "details.jsonl")
    assert not (tmp_path / "index").exists()


def test_a_missing_file_of_details_is_told(tmp_path, pictures, encoder):
    with pytest.raises(ConfigurationError, match="none.jsonl: No such file"):
        index_source(open_source(str(pictures)), encoder, tmp_path / "index", metadata=tmp_path / "none.jsonl")


def test_only_new_images_are_added(path, pictures, encoder):
    for seed, name in enumerate(("cats/new.png", "birds/new.png"), start=100):
        (pictures / name).parent.mkdir(exist_ok=True)
        coloured_picture(seed).save(pictures / name)
    (pictures / "cats/broken.png").write_bytes(b"\x89PNG no more")
    done = []
    with LatentIndex.open(path) as index:
        report = add_source(open_source(str(pictures)), encoder, index, on_progress=done.append)
        assert (report.changed, report.passed_over, list(report.damaged)) == (2, 6, ["cats/broken.png"])
        assert sum(done) == 9
        assert state(index)["birds/new.png"] == ("birds", {})
        assert index.thumbnail("birds/new.png").startswith(b"\xff\xd8")
        latent = encoder.encode_files([pictures / "birds/new.png"])
        assert index.search(latent, 1)[0][0].key == "birds/new.png"
        again = add_source(open_source(str(pictures)), encoder, index)
        assert (again.changed, again.passed_over) == (0, 8)
        assert len(index) == 8


def test_changed_images_are_updated(path, pictures, encoder, tmp_path):
    with LatentIndex.open(path) as index:
        index.update(["cats/1.png", "cats/3.png"], labels=["tom", "kitty"], metadata=[{"price": 3}, {"price": 4}])
        before = dict(zip(index.keys(), index.latents(index.keys()), strict=True))
        coloured_picture(77).save(pictures / "cats/1.png")
        coloured_picture(78).save(pictures / "cats/new.png")
        (pictures / "cats/3.png").write_bytes(b"\x89PNG no more")
        report = update_source(open_source(str(pictures)), encoder, index)
        assert (report.changed, report.passed_over, list(report.damaged)) == (5, 1, ["cats/3.png"])
        assert state(index)["cats/1.png"] == ("tom", {"price": 3})
        (latent,) = encoder.encode_files([pictures / "cats/1.png"])
        np.testing.assert_array_equal(index.latents(["cats/1.png"])[0], latent)
        assert not np.array_equal(latent, before["cats/1.png"])
        for key in ("cats/3.png", "cats/5.png", "dogs/0.png"):
            np.testing.assert_array_equal(index.latents([key])[0], before[key])
        details = lines(tmp_path / "details.jsonl", {"key": "cats/1.png", "label": "mog", "metadata": {"price": 9}})
        update_source(open_source(str(pictures)), encoder, index, metadata=details)
        assert state(index)["cats/1.png"] == ("mog", {"price": 9})
        assert state(index)["dogs/0.png"] == ("dogs", {})


def test_what_a_file_of_details_does_not_name_stays(path, pictures, encoder, tmp_path):
    with LatentIndex.open(path) as index:
        index.update(["cats/1.png", "cats/3.png"], labels=["tom", "kitty"], metadata=[{"price": 3}, {"price": 4}])
        details = lines(tmp_path / "details.jsonl", {"key": "cats/3.png", "metadata": {"price": 9}})
        update_source(open_source(str(pictures)), encoder, index, metadata=details)
        assert state(index)["cats/1.png"] == ("tom", {"price": 3})
        assert state(index)["cats/3.png"] == ("kitty", {"price": 9})


def test_two_who_add_the_same_images_do_not_collide(path, pictures, encoder):
    coloured_picture(70).save(pictures / "cats/new.png")
    coloured_picture(71).save(pictures / "cats/other.png")

    class Slow(PixelEncoder):
        def encode_files(self, files, *, on_bad=None):
            if len(files) == 2:
                with LatentIndex.open(path) as other:
                    other.add(np.ones((1, 4)), ["cats/new.png"])
            return super().encode_files(files, on_bad=on_bad)

        def at_version(self, version):
            return Slow(self.cards, version)

    with LatentIndex.open(path) as index:
        report = add_source(open_source(str(pictures)), Slow(at(2)), index)
        assert (report.changed, report.passed_over) == (1, 7)
        assert len(index) == 8


@pytest.mark.parametrize("change", [add_source, update_source])
def test_latents_of_another_model_do_not_come_in(path, pictures, change):
    with LatentIndex.open(path) as index:
        with pytest.raises(ModelMismatchError, match="efefefefefef"):
            change(open_source(str(pictures)), PixelEncoder(at(3, OTHER)), index)


def test_an_index_is_rebuilt_with_another_model(path, pictures, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    coloured_picture(50).save(other / "6.png")
    old = PixelEncoder(at(2) | at(3, OTHER))
    with LatentIndex.open(path) as index:
        add_source(open_source(str(other)), PixelEncoder(at(2)), index)
        index.remove(["dogs/0.png"])
        index.update(["cats/1.png"], labels=["tom"], metadata=[{"price": 3}])
        before = state(index)
        sources = [open_source(name) for name in index._snapshot().sources()]
        done = []
        report = rebuild(index, old, sources, on_progress=done.append)
        assert (report.info.model.version, report.info.model.fingerprint) == (3, OTHER)
        assert (report.damaged, sum(done)) == ({}, 6)
    with LatentIndex.open(path) as index:
        assert state(index) == before
        assert index.manifest.sources == (str(pictures.resolve()), str(other.resolve()))
        (latent,) = PixelEncoder(at(3, OTHER)).encode_files([pictures / "cats/1.png"])
        np.testing.assert_array_equal(index.latents(["cats/1.png"])[0], latent)
        assert index.thumbnail("6.png").startswith(b"\xff\xd8")


@pytest.mark.parametrize("loss", ["missing", "damaged"])
def test_an_item_without_its_image_stops_a_rebuild_unless_told(path, pictures, loss):
    (pictures / "cats/3.png").unlink() if loss == "missing" else (pictures / "cats/3.png").write_bytes(b"\x89PNG no")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}
    encoder, sources = PixelEncoder(at(3, OTHER)), [open_source(str(pictures))]
    index = LatentIndex.open(path)
    with pytest.raises(ConfigurationError, match="cats/3.png.*--drop-missing"):
        rebuild(index, encoder, sources)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"} == before
    report = rebuild(index, encoder, sources, drop_missing=True)
    assert list(report.damaged) == ["cats/3.png"]
    with LatentIndex.open(path) as index:
        assert sorted(index.keys()) == ["cats/1.png", "cats/5.png", "dogs/0.png", "dogs/2.png", "dogs/4.png"]


def test_a_rebuild_from_the_wrong_folder_does_not_empty_the_index(path, tmp_path):
    (tmp_path / "wrong").mkdir()
    coloured_picture(1).save(tmp_path / "wrong" / "one.png")
    with LatentIndex.open(path) as index, pytest.raises(ConfigurationError, match="None of the 6 items"):
        rebuild(index, PixelEncoder(at(3, OTHER)), [open_source(str(tmp_path / "wrong"))], drop_missing=True)
    with LatentIndex.open(path) as index:
        assert (len(index), index.model.version) == (6, 2)


def test_arrays_are_found_by_their_keys():
    source = ArraySource("digits/train", np.zeros((12, 2, 2, 1), np.uint8), [None] * 12)
    assert [source.position(source.key(at)) for at in range(12)] == list(range(12))
    for stranger in ("digits/train/12", "digits/test/3", "digits/train/03", "digits/train/", "digits/train/٣", "3", ""):
        assert source.position(stranger) is None


def test_files_are_found_by_their_keys(pictures):
    source = open_source(str(pictures))
    assert [source.position(source.key(at)) for at in range(6)] == list(range(6))
    for stranger in ("cats/9.png", "", "zebras/1.png", "cats"):
        assert source.position(stranger) is None
