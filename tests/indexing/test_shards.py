"""Latents of a source as Parquet files: whole, resumed after a kill, never mixed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from pixel_encoder import OTHER, PixelEncoder, at

from ae_search.data import open_source
from ae_search.data.sources import ArraySource
from ae_search.errors import ConfigurationError, ModelMismatchError, ModelNotServedError
from ae_search.index import LatentIndex
from ae_search.indexing.shards import embed_source


def source_of(count=25):
    pixels = np.random.default_rng(7).integers(1, 256, (count, 2, 2, 1), np.uint8)
    return ArraySource("tiny/train", pixels, [str(position % 3) for position in range(count)])


def rows(out):
    tables = [pyarrow.parquet.read_table(path) for path in sorted(out.glob("*.parquet"))]
    keys = [key for table in tables for key in table["key"].to_pylist()]
    labels = [label for table in tables for label in table["label"].to_pylist()]
    latents = [latent for table in tables for latent in table["latent"].to_pylist()]
    return keys, labels, np.array(latents, np.float32)


@pytest.fixture
def folder(tmp_path):
    """40 pictures, two of which are none."""
    root = tmp_path / "pictures"
    (root / "a").mkdir(parents=True)
    for position in range(40):
        Image.fromarray(np.full((2, 2), position + 1, np.uint8)).save(root / "a" / f"{position:02}.png")
    (root / "a" / "07.png").write_text("text")
    (root / "a" / "39.png").write_bytes(b"")
    return root


def test_shards_hold_every_image_in_order(tmp_path):
    source, out = source_of(), tmp_path / "out"
    report = embed_source(source, PixelEncoder(at(2)), out, shard_items=10)
    assert (report.images, report.shards, report.found, report.left_out) == (25, 3, 0, {})
    keys, labels, latents = rows(out)
    assert keys == [source.key(position) for position in range(25)]
    assert labels == source.labels
    np.testing.assert_array_equal(latents, source.images.reshape(25, 4) / np.float32(255))
    assert pyarrow.parquet.read_table(out).num_rows == 25
    assert (out / "_left-out.jsonl").read_text() == ""


def test_bad_images_are_listed_whichever_shard_they_are_in(folder, tmp_path):
    out = tmp_path / "out"
    report = embed_source(open_source(str(folder)), PixelEncoder(at(2)), out, shard_items=16)
    assert list(report.left_out) == ["a/07.png", "a/39.png"]
    assert report.images == 38
    listed = [json.loads(line) for line in (out / "_left-out.jsonl").read_text().splitlines()]
    assert [line["key"] for line in listed] == ["a/07.png", "a/39.png"]
    assert all(line["reason"] for line in listed)
    keys, labels, latents = rows(out)
    assert len(keys) == 38 and set(labels) == {"a"}
    np.testing.assert_allclose(latents[:, 0] * 255, [p + 1 for p in range(40) if p not in (7, 39)], atol=1e-4)


class Counting(PixelEncoder):
    encoded = 0

    def at_version(self, version):
        return Counting(self.cards, version)

    def encode(self, images):
        Counting.encoded += len(images)
        return super().encode(images)


def test_what_is_finished_is_not_done_again(tmp_path):
    source, out = source_of(), tmp_path / "out"
    embed_source(source, PixelEncoder(at(2)), out, shard_items=10)
    before = {path: path.read_bytes() for path in out.glob("*.parquet")}
    (out / "latents-00001.parquet").unlink()
    (out / ".tmp-abcdef12").write_text("of a process that was killed")
    (out / "latents-00002.parquet").write_bytes(b"damaged")
    Counting.encoded = 0
    done = []
    report = embed_source(source, Counting(at(2)), out, shard_items=10, on_progress=done.append)
    assert Counting.encoded == 15
    assert (report.images, report.found, sum(done)) == (25, 1, 25)
    assert {path: path.read_bytes() for path in out.glob("*.parquet")} == before
    (out / "latents-00001.parquet").write_bytes(before[out / "latents-00000.parquet"])
    assert embed_source(source, Counting(at(2)), out, shard_items=10).found == 2
    assert {path: path.read_bytes() for path in out.glob("*.parquet")} == before
    assert not list(out.glob(".tmp-*"))


def test_shards_of_two_models_are_never_mixed(tmp_path):
    source, out = source_of(), tmp_path / "out"
    embed_source(source, PixelEncoder(at(2)), out, shard_items=10)
    (out / "latents-00002.parquet").unlink()
    with pytest.raises(ModelMismatchError, match=r"begun with pixels version 2 .* version 3 answered"):
        embed_source(source, PixelEncoder(at(3, OTHER)), out, shard_items=10)
    report = embed_source(source, PixelEncoder(at(2) | at(3, OTHER)), out, shard_items=10)
    assert report.model.version == 2
    np.testing.assert_array_equal(rows(out)[2], source.images.reshape(25, 4) / np.float32(255))
    report = embed_source(source, PixelEncoder(at(5)), out, shard_items=10)
    assert report.found == 3


def test_what_was_begun_with_a_version_that_is_gone_can_be_begun_anew(folder, tmp_path):
    source, out = open_source(str(folder)), tmp_path / "out"
    embed_source(source, PixelEncoder(at(2)), out, shard_items=10)
    (out / "latents-00003.parquet").unlink()
    (out / "latents-mine.parquet").write_text("mine")
    with pytest.raises(ModelMismatchError, match="--restart"):
        embed_source(source, PixelEncoder(at(3, OTHER)), out, shard_items=10)
    (out / "latents-mine.parquet").rename(tmp_path / "mine")
    (out / "notes.txt").write_text("mine")
    report = embed_source(source, PixelEncoder(at(3, OTHER)), out, shard_items=20, restart=True)
    assert (report.model.version, report.found, report.images) == (3, 0, 38)
    assert len(list(out.glob("*.parquet"))) == 2 and (out / "notes.txt").read_text() == "mine"
    assert embed_source(source, PixelEncoder(at(3, OTHER)), out, shard_items=20).found == 2


def test_beginning_anew_removes_nothing_that_is_not_its_own(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "latents-00000.parquet").write_text("mine")
    with pytest.raises(ConfigurationError, match="something else"):
        embed_source(source_of(), PixelEncoder(at(2)), out, restart=True)
    assert (out / "latents-00000.parquet").read_text() == "mine"
    (out / "_embed.json").write_text("{")
    (out / "other.parquet").write_text("mine")
    with pytest.raises(ConfigurationError, match="something else"):
        embed_source(source_of(), PixelEncoder(at(2)), out, restart=True)
    assert (out / "other.parquet").read_text() == "mine"


def test_nothing_is_removed_for_a_server_that_is_not_there(tmp_path):
    out = tmp_path / "out"
    embed_source(source_of(), PixelEncoder(at(2)), out, shard_items=10)
    with pytest.raises(ModelNotServedError):
        embed_source(source_of(), PixelEncoder({}), out, shard_items=10, restart=True)
    assert len(list(out.glob("*.parquet"))) == 3


def test_a_shard_keeps_the_first_version_number_of_its_model(tmp_path):
    source, out = source_of(), tmp_path / "out"
    embed_source(source, PixelEncoder(at(2)), out, shard_items=10)
    (out / "latents-00002.parquet").unlink()
    report = embed_source(source, PixelEncoder(at(5)), out, shard_items=10)
    assert (report.model.version, report.found) == (2, 2)
    assert len(LatentIndex.import_(out, tmp_path / "index")) == 25


def test_left_out_images_can_be_tried_again(folder, tmp_path):
    source, out = open_source(str(folder)), tmp_path / "out"
    embed_source(source, PixelEncoder(at(2)), out, shard_items=16)
    Image.fromarray(np.full((2, 2), 8, np.uint8)).save(folder / "a" / "07.png")
    assert embed_source(source, PixelEncoder(at(2)), out, shard_items=16).images == 38
    report = embed_source(source, PixelEncoder(at(2)), out, shard_items=16, retry_left_out=True)
    assert (report.images, report.found, list(report.left_out)) == (39, 1, ["a/39.png"])


def test_a_first_shard_of_bad_images_only_is_an_error_and_not_finished(folder, tmp_path):
    out = tmp_path / "out"
    for position in range(3):
        (folder / "a" / f"{position:02}.png").write_text("text")
    with pytest.raises(ConfigurationError, match=r"None of the first 3 images can be encoded; a/00\.png"):
        embed_source(open_source(str(folder)), PixelEncoder(at(2)), out, shard_items=3)
    assert not list(out.glob("*.parquet"))
    Image.fromarray(np.full((2, 2), 8, np.uint8)).save(folder / "a" / "01.png")
    report = embed_source(open_source(str(folder)), PixelEncoder(at(2)), out, shard_items=3)
    assert list(report.left_out) == ["a/00.png", "a/02.png", "a/07.png", "a/39.png"]


def test_more_shards_than_a_process_may_open_files(tmp_path):
    source, out = source_of(300), tmp_path / "out"
    embed_source(source, PixelEncoder(at(2)), out, shard_items=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, hard))
    try:
        assert len(LatentIndex.import_(out, tmp_path / "index")) == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_cannot_be_written_is_told(tmp_path):
    out = tmp_path / "out"
    (out / "_left-out.jsonl").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"Cannot write .*_left-out\.jsonl"):
        embed_source(source_of(), PixelEncoder(at(2)), out)


def test_a_folder_of_something_else_is_refused(folder, tmp_path):
    out = tmp_path / "out"
    embed_source(source_of(), PixelEncoder(at(2)), out, shard_items=10)
    with pytest.raises(ConfigurationError, match="images = 25, now it is 24"):
        embed_source(source_of(24), PixelEncoder(at(2)), out, shard_items=10)
    with pytest.raises(ConfigurationError, match="shard_items = 10, now it is 11"):
        embed_source(source_of(), PixelEncoder(at(2)), out, shard_items=11)
    (out / "_embed.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        embed_source(source_of(), PixelEncoder(at(2)), out, shard_items=10)
    (out / "_embed.json").unlink()
    with pytest.raises(ConfigurationError, match="something else"):
        embed_source(source_of(), PixelEncoder(at(2)), out, shard_items=10)
    with pytest.raises(ConfigurationError, match="lies among the images"):
        embed_source(open_source(str(folder)), PixelEncoder(at(2)), folder / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="Cannot make"):
        embed_source(source_of(), PixelEncoder(at(2)), tmp_path / "file", shard_items=10)


def test_one_process_writes_at_a_time(tmp_path):
    out = tmp_path / "out"

    def again(images):
        with pytest.raises(ConfigurationError, match="Another process writes"):
            embed_source(source_of(), PixelEncoder(at(2)), out)

    embed_source(source_of(), PixelEncoder(at(2)), out, on_progress=again)


def test_the_shards_make_an_index(tmp_path):
    source, out = source_of(), tmp_path / "out"
    embed_source(source, PixelEncoder(at(2)), out, shard_items=10)
    with LatentIndex.import_(out, tmp_path / "index") as index:
        assert (len(index), index.model.fingerprint) == (25, at(2)[2].fingerprint)
        assert index.search_by_key(source.key(3), k=1)[0].label in {"0", "1", "2"}
    embed_source(source, PixelEncoder(at(3, OTHER)), tmp_path / "other", shard_items=30)
    (tmp_path / "other" / "latents-00000.parquet").rename(out / "latents-00009.parquet")
    with pytest.raises(ConfigurationError, match="another model"):
        LatentIndex.import_(out, tmp_path / "mixed")
    (out / "latents-00009.parquet").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match=r"latents-00009\.parquet cannot be read"):
        LatentIndex.import_(out, tmp_path / "mixed")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="holds no"):
        LatentIndex.import_(tmp_path / "empty", tmp_path / "none")


JOB = """
import sys, time
from pathlib import Path
import numpy as np
from pixel_encoder import PixelEncoder, at
from ae_search.data.sources import ArraySource
from ae_search.indexing.shards import embed_source

class Slow(PixelEncoder):
    def at_version(self, version):
        return Slow(self.cards, version)
    def encode(self, images):
        time.sleep(0.02)
        return super().encode(images)

pixels = np.random.default_rng(7).integers(1, 256, (400, 2, 2, 1), np.uint8)
source = ArraySource("tiny/train", pixels, [None] * 400)
report = embed_source(source, Slow(at(2)), Path(sys.argv[1]), shard_items=10)
print(report.found)
"""


def test_a_killed_job_goes_on(tmp_path):
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    command = [sys.executable, "-c", JOB, str(out)]
    with subprocess.Popen(command, env=environment) as job:
        deadline = time.monotonic() + 60
        while len(list(out.glob("latents-*.parquet"))) < 3:
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)
    kept = len(list(out.glob("latents-*.parquet")))
    assert 3 <= kept < 40
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(finished.stdout) == kept
    pixels = np.random.default_rng(7).integers(1, 256, (400, 2, 2, 1), np.uint8)
    np.testing.assert_array_equal(rows(out)[2], pixels.reshape(400, 4) / np.float32(255))
