"""Bringing an index to what a source holds, by content and not by name."""

import json
import os
import shutil

import numpy as np
import pytest
from build_options import build_options
from pictures import coloured_picture, encoded
from pixel_encoder import OTHER, PixelEncoder, at

from ae_search.data import ArraySource, open_source
from ae_search.data.digests import ItemDigest, source_tag
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.index import LatentIndex
from ae_search.indexing import add_source, index_source, rebuild, sync_source, update_source
from ae_search.web import changing as sent_images
from ae_search.web.parameters import NewItem


@pytest.fixture
def encoder():
    return PixelEncoder(at(2))


@pytest.fixture
def pictures(tmp_path):
    """A folder of six pictures in two classes."""
    root = tmp_path / "pictures"
    for seed in range(6):
        save(root / ("cats" if seed % 2 else "dogs") / f"{seed}.bmp", seed)
    return root


@pytest.fixture
def path(tmp_path, pictures, encoder):
    index_source(open_source(str(pictures)), encoder, tmp_path / "index", build_options(n_trees=3))
    return tmp_path / "index"


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    coloured_picture(seed).save(path)


def sync(path, folder, encoder, **options):
    with LatentIndex.open(path) as index:
        return sync_source(open_source(str(folder)), encoder, index, **options)


def state(path):
    with LatentIndex.open(path) as index:
        keys = sorted(index.keys())
        return dict(zip(keys, map(bytes, index.latents(keys)), strict=True))


def as_if_new(tmp_path, folder, encoder):
    """Return what an index would hold that is built now."""
    fresh = tmp_path / f"fresh-{len(list(tmp_path.glob('fresh-*')))}"
    index_source(open_source(str(folder)), encoder, fresh, build_options(n_trees=3))
    return state(fresh)


def change_keeping_size_and_time(file, seed):
    """Put another picture in a file's place, of the same size in bytes, and set its time back."""
    before = file.stat()
    save(file, seed)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_digests_are_stored_and_say_what_they_are_of(path, pictures):
    with LatentIndex.open(path) as index:
        (text,) = index.digests(["cats/1.bmp"])
    assert len(text) <= 128
    digest = ItemDigest.parse(text)
    file = pictures / "cats/1.bmp"
    assert digest == ItemDigest.of(file.read_bytes(), open_source(str(pictures)).stamp(0), source_tag(str(pictures)))
    assert (digest.stamp.size, digest.stamp.time_ns) == (file.stat().st_size, file.stat().st_mtime_ns)


@pytest.mark.parametrize("text", [None, "", "x", "sha256:a:b:c:d", "md5:a:1:2:c", "sha256:a:1:2", "sha256:a:1:²:c"])
def test_digests_of_others_are_none_of_ours(text):
    assert ItemDigest.parse(text) is None


def test_a_sync_makes_the_index_what_the_source_is(tmp_path, path, pictures, encoder):
    save(pictures / "birds/new.bmp", 50)
    save(pictures / "cats/1.bmp", 51)
    change_keeping_size_and_time(pictures / "dogs/2.bmp", 52)
    (pictures / "cats/3.bmp").unlink()
    os.utime(pictures / "dogs/0.bmp")  # touched only
    done = []
    report = sync(path, pictures, encoder, on_progress=done.append)
    assert report.added == ["birds/new.bmp"]
    assert report.updated == ["cats/1.bmp", "dogs/2.bmp"]
    assert report.removed == ["cats/3.bmp"]
    assert (report.unchanged, report.kept, report.others, report.damaged) == (3, [], 0, {})
    assert sum(done) == 8  # two of six are encoded as well
    assert state(path) == as_if_new(tmp_path, pictures, encoder)
    again = sync(path, pictures, encoder)
    assert (again.added, again.updated, again.removed, again.unchanged) == ([], [], [], 6)


def test_a_dry_run_changes_nothing_and_needs_no_encoder(path, pictures):
    before = state(path)
    save(pictures / "new.bmp", 50)
    save(pictures / "cats/1.bmp", 51)
    (pictures / "cats/3.bmp").unlink()
    report = sync(path, pictures, None, dry_run=True)
    assert (report.added, report.updated, report.removed) == (["new.bmp"], ["cats/1.bmp"], ["cats/3.bmp"])
    assert state(path) == before
    with pytest.raises(ConfigurationError, match="needs an encoder"):
        sync(path, pictures, None)


def test_labels_and_metadata_of_changed_images_stay(path, pictures, encoder):
    with LatentIndex.open(path) as index:
        index.update(["cats/1.bmp"], labels=["tom"], metadata=[{"price": 3}])
    save(pictures / "cats/1.bmp", 51)
    sync(path, pictures, encoder)
    with LatentIndex.open(path) as index:
        assert index.details(["cats/1.bmp"]) == [("tom", {"price": 3})]


def test_items_of_other_sources_stay(tmp_path, path, pictures, encoder):
    other = tmp_path / "other"
    save(other / "mine.bmp", 60)
    save(other / "cats/1.bmp", 61)  # a key that the first source has
    with LatentIndex.open(path) as index:
        add_source(open_source(str(other)), encoder, index)
    (pictures / "cats/5.bmp").unlink()
    report = sync(path, pictures, encoder)
    assert (report.removed, report.kept, report.unchanged) == (["cats/5.bmp"], [], 5)
    assert "mine.bmp" in state(path)
    report = sync(path, other, encoder)
    assert (report.updated, report.removed, report.unchanged, report.others) == ([], [], 1, 1)
    (other / "mine.bmp").unlink()
    assert sync(path, other, encoder).removed == ["mine.bmp"]
    assert sorted(state(path)) == ["cats/1.bmp", "cats/3.bmp", "dogs/0.bmp", "dogs/2.bmp", "dogs/4.bmp"]


def without_digests(path):
    with LatentIndex.open(path) as index:
        index.update(index.keys(), digests=[None] * len(index))


def test_items_without_digests_are_encoded_once_and_then_known(tmp_path, path, pictures, encoder):
    without_digests(path)
    (pictures / "cats/5.bmp").unlink()
    report = sync(path, pictures, encoder)
    assert (len(report.updated), report.removed, report.kept) == (5, [], ["cats/5.bmp"])
    (pictures / "cats/3.bmp").unlink()
    report = sync(path, pictures, encoder)
    assert (report.unchanged, report.removed, report.kept) == (4, ["cats/3.bmp"], ["cats/5.bmp"])


def test_items_that_came_from_no_source_stay(path, pictures, encoder):
    with LatentIndex.open(path) as index:
        index.add(index.latents(["cats/1.bmp"]), ["a copy"])
    report = sync(path, pictures, encoder)
    assert (report.removed, report.kept, report.unchanged) == ([], ["a copy"], 6)


def test_items_of_unknown_origin_are_kept(tmp_path, path, pictures, encoder):
    other = tmp_path / "other"
    save(other / "mine.bmp", 60)
    with LatentIndex.open(path) as index:
        add_source(open_source(str(other)), encoder, index)
    without_digests(path)
    (pictures / "cats/5.bmp").unlink()
    report = sync(path, pictures, encoder)
    assert (report.removed, sorted(report.kept)) == ([], ["cats/5.bmp", "mine.bmp"])
    assert "mine.bmp" in state(path)


def test_items_of_a_source_that_the_index_no_longer_names_are_adopted(path, pictures, encoder):
    with LatentIndex.open(path) as index:
        keys = index.keys()
        told = [ItemDigest.parse(text)._replace(source=source_tag("/before/it/moved")) for text in index.digests(keys)]
        index.update(keys, digests=[str(digest) for digest in told])
    assert sync(path, pictures, encoder).unchanged == 6
    (pictures / "cats/3.bmp").unlink()
    assert sync(path, pictures, encoder).removed == ["cats/3.bmp"]


def test_a_folder_that_has_moved_counts_as_another_source(tmp_path, path, pictures, encoder):
    before = state(path)
    shutil.move(pictures, tmp_path / "moved")
    save(tmp_path / "moved" / "new.bmp", 70)
    report = sync(path, tmp_path / "moved", encoder)
    assert (report.added, report.updated, report.removed, report.others) == (["new.bmp"], [], [], 6)
    assert {key: state(path)[key] for key in before} == before


def test_a_moved_source_that_was_told_is_synced_as_before(tmp_path, path, pictures, encoder):
    (pictures / "cats/5.bmp").unlink()
    with LatentIndex.open(path) as index:
        (old,) = index.info().sources
        shutil.move(pictures, tmp_path / "moved")
        index.rename_source(old, str(tmp_path / "moved"))
    report = sync(path, tmp_path / "moved", encoder)
    assert (report.added, report.removed, report.kept, report.unchanged) == ([], ["cats/5.bmp"], [], 5)


def test_nothing_is_removed_while_a_part_cannot_be_read(path, pictures, encoder, caplog):
    shutil.rmtree(pictures / "cats")
    (pictures / "cats").symlink_to(pictures / "not mounted")
    report = sync(path, pictures, encoder)
    assert (report.removed, report.unread) == ([], ["cats"])
    assert len(state(path)) == 6
    assert "nothing is removed" in caplog.text


def test_an_empty_folder_empties_no_index(path, pictures, encoder):
    for file in pictures.rglob("*.bmp"):
        file.unlink()
    with pytest.raises(ConfigurationError, match="holds no image"):
        sync(path, pictures, encoder)
    assert len(state(path)) == 6


def test_a_damaged_picture_leaves_its_item_as_it_was(path, pictures, encoder):
    before = state(path)
    (pictures / "cats/1.bmp").write_bytes(b"BM no more")
    report = sync(path, pictures, encoder)
    assert (list(report.damaged), report.updated, report.removed) == (["cats/1.bmp"], [], [])
    assert state(path) == before


def test_pixels_are_compared_by_content(tmp_path, encoder):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 1), np.uint8)
    index_source(ArraySource("a", pixels, [None] * 5), encoder, tmp_path / "i", build_options(n_trees=3))
    changed = np.delete(pixels, 4, axis=0)
    changed[1] ^= 1
    with LatentIndex.open(tmp_path / "i") as index:
        report = sync_source(ArraySource("a", changed, [None] * 4), encoder, index)
    assert (report.updated, report.removed, report.unchanged) == (["a/1"], ["a/4"], 3)


def test_a_table_brings_labels_and_metadata(tmp_path, pictures, encoder):
    (tmp_path / "t.csv").write_text("path,key,label,metadata_price\npictures/cats/1.bmp,one,tom,3\n")
    index_source(open_source(str(tmp_path / "t.csv")), encoder, tmp_path / "i", build_options(n_trees=3))
    (tmp_path / "t.csv").write_text(
        "path,key,label,metadata_price\npictures/cats/1.bmp,one,x,9\npictures/dogs/0.bmp,two,rex,4\n"
    )
    details = tmp_path / "details.jsonl"
    details.write_text(json.dumps({"key": "two", "label": "max"}) + "\n")
    with LatentIndex.open(tmp_path / "i") as index:
        add_source(open_source(str(tmp_path / "t.csv")), encoder, index, metadata=details)
        assert index.details(["one", "two"]) == [("tom", {"price": 3}), ("max", {"price": 4})]
        assert index.keys(where={"price": {"gt": 3}}) == ["two"]


def test_adding_tells_of_changed_files(path, pictures, encoder):
    save(pictures / "new.bmp", 50)
    save(pictures / "cats/1.bmp", 51)
    coloured_picture(52, (9, 9)).save(pictures / "cats/3.bmp")
    os.utime(pictures / "dogs/0.bmp")
    before = state(path)
    with LatentIndex.open(path) as index:
        report = add_source(open_source(str(pictures)), encoder, index)
        assert (report.changed, report.passed_over) == (1, 6)
        assert report.outdated == ["cats/1.bmp", "cats/3.bmp"]
    after = state(path)
    assert {key: after[key] for key in before} == before


def test_update_and_rebuild_keep_digests_right(path, pictures, encoder):
    save(pictures / "cats/1.bmp", 51)
    with LatentIndex.open(path) as index:
        update_source(open_source(str(pictures)), encoder, index, among={"cats/1.bmp", "no such"})
    assert sync(path, pictures, encoder).unchanged == 6
    save(pictures / "cats/3.bmp", 53)
    newer = PixelEncoder(at(3, OTHER))
    with LatentIndex.open(path) as index:
        rebuild(index, newer, [open_source(str(pictures))])
    assert sync(path, pictures, newer).unchanged == 6


def test_another_model_does_not_come_in(path, pictures):
    with pytest.raises(ModelMismatchError):
        sync(path, pictures, PixelEncoder(at(3, OTHER)))


def test_what_was_sent_to_the_service_is_no_source_s_to_remove(path, pictures, encoder):
    with LatentIndex.open(path) as index:
        sent_images.add(index, encoder, [NewItem(key="uploads/cat.png")], [encoded(coloured_picture(40))])
    (pictures / "cats" / "1.bmp").unlink()
    report = sync(path, pictures, encoder)
    assert (report.removed, report.kept) == (["cats/1.bmp"], ["uploads/cat.png"])
    assert "uploads/cat.png" in state(path)
