"""JPEG files that are cut short are encoded and named; strict calls leave them out as damaged."""

import numpy as np
import pytest
from build_options import build_options
from pictures import coloured_picture, encoded
from pixel_encoder import PixelEncoder, at

from ae_search.data import open_source
from ae_search.index import LatentIndex
from ae_search.indexing import add_source, index_source, rebuild, update_source
from ae_search.indexing.encoding import SourceEncoder
from ae_search.indexing.shards import embed_source


class TolerantEncoder(PixelEncoder):
    """Takes a JPEG without its last bytes, as a model's graph does."""

    def at_version(self, version):
        return TolerantEncoder(self.cards, version)

    def encode_files(self, files, *, on_bad=None):
        whole = [file + b"\xff\xd9" if isinstance(file, bytes) else file for file in files]
        return super().encode_files(whole, on_bad=on_bad)


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for seed in range(5):
        data = encoded(coloured_picture(seed), "JPEG")
        (root / f"{seed}.jpg").write_bytes(data[:-2] if seed in (1, 3) else data)
    (root / "text.jpg").write_text("no image")
    return open_source(str(root))


CUT = ["1.jpg", "3.jpg"]


def test_they_are_counted_and_named_by_indexing(source, tmp_path):
    encoder = TolerantEncoder(at(2))
    report = index_source(source, encoder, tmp_path / "i", build_options(n_trees=2))
    assert (report.truncated, list(report.damaged), report.info.items) == (CUT, ["text.jpg"], 5)
    with LatentIndex.open(tmp_path / "i") as index:
        assert update_source(source, encoder, index).truncated == CUT
        index.remove(CUT)
        strict = add_source(source, encoder, index, strict=True)
        assert (strict.changed, strict.truncated) == (0, [])
        assert list(strict.damaged) == [*CUT, "text.jpg"]
        assert "truncated: the file ends too early" in strict.damaged["1.jpg"]
        assert add_source(source, encoder, index).truncated == CUT
        assert rebuild(index, encoder, [source]).truncated == CUT


def test_strict_indexing_leaves_them_out(source, tmp_path):
    report = index_source(source, TolerantEncoder(at(2)), tmp_path / "i", build_options(n_trees=2), strict=True)
    assert (report.truncated, list(report.damaged), report.info.items) == ([], [*CUT, "text.jpg"], 3)


def test_they_are_named_by_embedding_and_again_where_a_file_is_finished(source, tmp_path):
    encoder = TolerantEncoder(at(2))
    first = embed_source(source, encoder, tmp_path / "out", shard_items=4)
    again = embed_source(source, encoder, tmp_path / "out", shard_items=4)
    assert first.truncated == again.truncated == CUT
    assert (again.found, list(again.left_out)) == (2, ["text.jpg"])
    strict = embed_source(source, encoder, tmp_path / "strict", shard_items=4, strict=True)
    assert (strict.truncated, list(strict.left_out), strict.images) == ([], [*CUT, "text.jpg"], 3)


def test_batches_are_of_bounded_size(source, monkeypatch):
    monkeypatch.setattr("ae_search.indexing.encoding.BLOCK_BYTES", 1)
    images, done = SourceEncoder(source, TolerantEncoder(at(2)), (2, 2, 1), thumbnails=False), []
    blocks = list(images.blocks(range(len(source)), done.append))
    assert [block.keys for block in blocks] == [[f"{seed}.jpg"] for seed in range(5)]
    assert sum(done) == len(source)
    whole = SourceEncoder(source, TolerantEncoder(at(2)), (2, 2, 1), thumbnails=False)
    monkeypatch.undo()
    (block,) = whole.blocks(range(len(source)), done.append)
    assert np.array_equal(block.latents, np.concatenate([one.latents for one in blocks]))
