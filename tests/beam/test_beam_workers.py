"""Jobs with two worker processes on the direct runner, and what becomes of them when something fails midway."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import apache_beam
import milvus_server
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image as Picture
from pixel_server import CARD, CODES, OTHER, PixelServer
from postgres_server import shared_server

from ae_search.beam import EncodedImage, LoadIndex, embed_on_runner, options_of
from ae_search.client import LatentClient
from ae_search.data import open_source
from ae_search.errors import (
    AccessDeniedError,
    ConfigurationError,
    ModelMismatchError,
    ModelNotServedError,
    PipelineError,
)
from ae_search.exchange.parquet_file import about_parquet
from ae_search.index import LatentIndex
from ae_search.indexing.shards import embed_source
from ae_search.open_index import build_index, open_index
from ae_search.testing import When, serving, write_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TWO_WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
TOOL = Path(sys.executable).with_name("ae-search")
IMAGES = 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """2,000 pictures, three of them damaged."""
    root = tmp_path_factory.mktemp("many") / "pictures"
    for position in range(IMAGES):
        path = root / str(position % 7) / f"{position:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(np.full((4, 4), position % 256, np.uint8)).save(path)
    for position in (0, 700, 1999):
        (root / str(position % 7) / f"{position:04}.png").write_text("text")
    return root


def rows(out):
    tables = [pyarrow.parquet.read_table(path) for path in sorted(out.glob("*.parquet"))]
    found = {}
    for table in tables:
        for key, latent in zip(table["key"].to_pylist(), table["latent"].to_pylist(), strict=True):
            assert key not in found
            found[key] = latent
    return found


def fingerprints(out):
    return {about_parquet(path)["model"]["fingerprint"] for path in out.glob("*.parquet")}


def workers():
    """Return the process numbers of the workers of Beam's that this process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1]) if folder.name.isdigit() else 0
        except OSError:
            continue
        if b"apache_beam.runners.worker.sdk_worker_main" in words and _is_ours(parent):
            found.append(int(folder.name))
    return found


def _is_ours(parent):
    """Tell whether a process is this one, or the shell that this one has started a worker by."""
    if parent == os.getpid():
        return True
    try:
        return int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
    except (OSError, ValueError):
        return False


def run(folder, server, out, *options, name="pixels", **more):
    with LatentClient(server.address, name, timeout_s=30, max_in_flight=2) as client:
        return embed_on_runner(
            str(folder), client, str(out), options_of("DirectRunner", [*TWO_WORKERS, *options]), shard_items=300, **more
        )


class Midway(threading.Thread):
    """Does something once when the server has been asked for some batches; each is slow from then on."""

    def __init__(self, act, after=4):
        super().__init__(daemon=True)
        self.act, self.after, self.asked, self.now = act, after, 0, threading.Event()
        self.start()

    def before(self, signature, context):
        if signature == "encode_bytes":
            self.asked += 1
            if self.asked >= self.after:
                self.now.set()
                time.sleep(0.3)

    def run(self):
        self.now.wait()
        self.act()


def check_whole(folder, server, out):
    """Check that shards hold what the embed of one process makes, each key once."""
    with LatentClient(server.address, "pixels") as client:
        told = embed_source(open_source(str(folder)), client, out.with_name(f"{out.name}-oracle"))
    found = rows(out)
    assert len(found) == IMAGES - 3
    assert found == rows(out.with_name(f"{out.name}-oracle"))
    assert sorted(told.left_out) == ["0/0000.png", "0/0700.png", "4/1999.png"]
    listed = [json.loads(line)["key"] for line in (out / "_left-out.jsonl").read_text().splitlines()]
    assert sorted(listed) == sorted(told.left_out)
    assert len(fingerprints(out)) == 1
    assert not list(out.glob(".tmp-*"))


def test_two_workers_and_bundles_that_are_done_again(folder, tmp_path):
    with PixelServer() as server:
        report = run(folder, server, tmp_path / "out", "--direct_runner_bundle_repeat=1")
        check_whole(folder, server, tmp_path / "out")
    assert (report.images, report.shards) == (IMAGES - 3, 7)
    assert server.most_running <= 2 * 2


def test_a_worker_that_is_killed_ends_the_job_and_the_same_command_begins_it_anew(folder, tmp_path):
    out = tmp_path / "out"
    killed = []

    def kill():
        killed.extend(workers()[-1:])
        os.kill(killed[0], signal.SIGKILL)

    with PixelServer() as server:
        server.before = Midway(kill).before
        with pytest.raises(PipelineError, match="one of its worker processes has died"):
            run(folder, server, out)
        assert killed and not (out / "_finished.json").exists()
        server.before = lambda *_: None
        assert run(folder, server, out).images == IMAGES - 3
        check_whole(folder, server, out)
    assert not workers()


def test_a_server_that_goes_away_and_comes_back(folder, tmp_path):
    model = write_tiny_model(tmp_path / "pixels", image_shape=(4, 4, 1)).parent
    with serving(model, workers=2) as server:
        server.faults.delay(0.5, when=When(times=20))
        back = []

        def restart():
            while server.faults.requests() < 12:
                time.sleep(0.01)
            server.restart(down_s=3.0)
            back.append(1)

        thread = threading.Thread(target=restart, daemon=True)
        thread.start()
        run(folder, server, tmp_path / "out", name="pixels")
        thread.join()
        assert back
        assert len(rows(tmp_path / "out")) == IMAGES - 3 and len(fingerprints(tmp_path / "out")) == 1


def test_a_version_that_vanishes_ends_the_job_by_name(folder, tmp_path):
    write_tiny_model(tmp_path / "pixels", image_shape=(4, 4, 1))
    newest = write_tiny_model(tmp_path / "pixels", image_shape=(4, 4, 1), seed=2)
    with serving(newest.parent, version_policy="all") as server:
        server.faults.delay(1.0)

        def take_away():
            while server.faults.requests() < 8:
                time.sleep(0.01)
            newest.rename(tmp_path / "gone")
            while server.version != 1:
                time.sleep(0.01)
            server.faults.clear()

        thread = threading.Thread(target=take_away, daemon=True)
        thread.start()
        with pytest.raises((ModelNotServedError, ModelMismatchError), match="pixels version 2"):
            run(folder, server, tmp_path / "out")
        thread.join()
    assert not (tmp_path / "out" / "_finished.json").exists()


def test_another_model_under_the_same_number_ends_the_job_by_name(folder, tmp_path):
    with PixelServer() as server:
        server.before = Midway(lambda: server.cards.update({1: OTHER})).before
        with pytest.raises(ModelMismatchError, match="begun with pixels version 1 .*abab.* efef"):
            run(folder, server, tmp_path / "out")


def test_a_server_that_has_no_room_most_of_the_time(folder, tmp_path):
    asked = []

    def busy(signature, context):
        asked.append(1)
        if signature == "encode_bytes" and len(asked) % 3:
            context.abort(CODES.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")

    with PixelServer() as server:
        server.before = busy
        run(folder, server, tmp_path / "out")
        server.before = lambda *_: None
        check_whole(folder, server, tmp_path / "out")


def test_sixty_thousand_images_by_the_command(tmp_path):
    model = write_tiny_model(tmp_path / "tiny", image_shape=(28, 28, 1)).parent
    out = tmp_path / "out"
    with serving(model) as server:
        command = [TOOL, "embed", "fashion_mnist", "--out", out, "--server", server.address, "--model-name", "tiny"]
        done = subprocess.run(
            [*map(str, command), "--runner", "DirectRunner", *TWO_WORKERS], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"{out}: 60000 latents of tiny version 1 in 8 files" in done.stdout
        with LatentClient(server.address, "tiny") as client:
            embed_source(open_source("fashion_mnist"), client, tmp_path / "oracle")
    found, wanted = rows(out), rows(tmp_path / "oracle")
    assert found.keys() == wanted.keys() == {f"fashion_mnist/train/{position}" for position in range(60_000)}
    keys = sorted(found)
    np.testing.assert_allclose(
        np.array([found[key] for key in keys]), np.array([wanted[key] for key in keys]), atol=1e-5
    )
    assert len(fingerprints(out)) == 1
    with LatentIndex.import_(out, tmp_path / "index") as index:
        assert len(index) == 60_000


def test_what_a_command_refuses(folder, tmp_path):
    def refused(*words, code=1, **environment):
        command = [TOOL, "embed", folder, "--out", tmp_path / "out", *words]
        variables = {**os.environ, **environment}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=variables)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        assert not (tmp_path / "out").exists()
        return done.stderr

    with PixelServer() as server:
        named = ("--server", server.address, "--model-name", "pixels")
        assert "No such option: --nonsense" in refused(*named, "--nonsense", code=2)
        assert "extra argument: more" in refused(*named, "more", code=2)
        assert "no option --nonsense" in refused(*named, "--runner", "DirectRunner", "--nonsense")
        assert "Valid values are" in refused(*named, "--runner", "NoRunner")
        assert "no --retry-left-out" in refused(*named, "--runner", "DirectRunner", "--retry-left-out")
        assert "give --server" in refused("--model", tmp_path, "--runner", "DirectRunner")
        told = refused(*named, "--runner", "FlinkRunner", AE_SEARCH_TOKEN="hush-hush")
        assert "--token-file" in told and "hush" not in told


def test_ctrl_c_ends_the_command_and_its_workers(folder, tmp_path):
    begun = threading.Event()

    def slow(signature, context):
        if signature == "encode_bytes":
            begun.set()
            time.sleep(1.0)

    with PixelServer() as server:
        server.before = slow
        command = [
            TOOL,
            "embed",
            folder,
            "--out",
            tmp_path / "out",
            "--server",
            server.address,
            "--model-name",
            "pixels",
        ]
        with subprocess.Popen(
            [*map(str, command), "--runner", "DirectRunner", *TWO_WORKERS],
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as child:  # fmt: skip
            assert begun.wait(120)
            os.killpg(child.pid, signal.SIGINT)
            _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted; the same command begins anew"
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
    assert not (tmp_path / "out" / "_finished.json").exists()


def _with_one_item(place):
    with build_index(place, CARD) as builder:
        builder.add(np.ones((1, 16), np.float32), ["old"], ["label"])
    return place


@pytest.fixture(scope="module")
def place():
    """An index of one item on PostgreSQL."""
    return _with_one_item(shared_server().database("beam") + "&index=a")


@pytest.fixture(scope="module")
def milvus_place():
    """An index of one item in milvus-lite."""
    return _with_one_item(f"{milvus_server.lite()}/beam")


@pytest.mark.parametrize("where", ["place", "milvus_place"])
def test_workers_write_to_an_index_and_a_second_time_adds_nothing(where, request):
    place = request.getfixturevalue(where)
    latents = np.random.default_rng(3).random((500, 16), np.float32)
    images = [EncodedImage(f"k{at}", f"p{at}", latents[at], str(at % 3), {"at": at}) for at in range(500)]
    images += [images[0], EncodedImage("bad", "bad", None, reason="text"), EncodedImage("old", "o", latents[0])]
    options = options_of("DirectRunner", [*TWO_WORKERS, "--direct_runner_bundle_repeat=1"])
    for _ in range(2):
        with apache_beam.Pipeline(options=options) as pipeline:
            pipeline | apache_beam.Create(images) | apache_beam.Reshuffle() | LoadIndex(place, CARD, source="s")  # noqa: B018
        with open_index(place) as index:
            assert sorted(index.keys()) == sorted(["old", *(f"k{at}" for at in range(500))])
            np.testing.assert_array_equal(index.latents(["k7"])[0], latents[7])
            assert index.details(["k7", "old"]) == [("1", {"at": 7}), ("label", {})]
            assert "s" in index.info().sources


def test_a_password_of_milvus_is_not_written_into_the_job(milvus_place):
    with pytest.raises(ConfigurationError, match="AE_SEARCH_MILVUS_TOKEN") as caught:
        LoadIndex(milvus_place.replace("//", "//root:hush@"), CARD)
    assert "hush" not in str(caught.value)


def test_an_index_that_workers_cannot_write_to(place, tmp_path):
    with pytest.raises(ConfigurationError, match="ae-search index import"):
        LoadIndex(str(tmp_path / "index"), CARD)
    with pytest.raises(ModelMismatchError, match="holds latents of pixels version 1"):
        LoadIndex(place, OTHER)
    with pytest.raises(ConfigurationError, match="PGPASSFILE") as caught:
        LoadIndex(place.replace("postgres@", "postgres:hush@"), CARD)
    assert "hush" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="PGPASSFILE"):
        LoadIndex(f"{place}&password=hush", CARD)
    with pytest.raises((ConfigurationError, AccessDeniedError)):
        LoadIndex(place.replace("index=a", "index=none"), CARD)
    with open_index(place) as index:
        index.calibrate("regions", {"format": 3})
    with pytest.raises(ConfigurationError, match="index without regions"):
        LoadIndex(place, CARD)
