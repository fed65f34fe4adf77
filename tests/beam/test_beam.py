"""Reading, encoding and writing on Apache Beam, with the embed of one process as the oracle."""

import gzip
import json
import logging
import os
import struct
import threading

import apache_beam
import google_crc32c
import numpy as np
import pyarrow.parquet
import pytest
from apache_beam.io.localfilesystem import LocalFileSystem
from PIL import Image as Picture
from pixel_server import CARD, CODES, OTHER, PixelServer

from ae_search.beam import (
    EncodedImage,
    EncodeImages,
    Image,
    ReadImages,
    TFServingModelHandler,
    WriteLatents,
    embed_on_runner,
    options_of,
)
from ae_search.beam.listing import list_files
from ae_search.beam.record_images import images_of, record_file
from ae_search.client import LatentClient
from ae_search.data import TFRecordSource, open_source
from ae_search.data.sources.features import Features
from ae_search.data.sources.tfrecord import Part
from ae_search.errors import (
    ConfigurationError,
    ModelMismatchError,
    ModelNotServedError,
    ServerUnavailableError,
)
from ae_search.index import LatentIndex
from ae_search.indexing.shards import embed_source

IN_MEMORY = ("--direct_running_mode=in_memory", "--direct_runner_bundle_repeat=1")


class Elsewhere(LocalFileSystem):
    """Files of this machine by URLs, as of another one; Beam finds it by its scheme."""

    @classmethod
    def scheme(cls):
        return "elsewhere"

    def match(self, patterns, limits=None):
        found = super().match([_path(one) for one in patterns], limits)
        for one in found:
            one.metadata_list = [
                type(each)(f"elsewhere://{each.path}", each.size_in_bytes, each.last_updated_in_seconds)
                for each in one.metadata_list
            ]
        return found

    def open(self, path, *args, **options):
        return super().open(_path(path), *args, **options)

    def create(self, path, *args, **options):
        return super().create(_path(path), *args, **options)

    def rename(self, sources, targets):
        super().rename([_path(one) for one in sources], [_path(one) for one in targets])

    def exists(self, path):
        return super().exists(_path(path))

    def delete(self, paths):
        for path in paths:
            os.remove(_path(path))

    def size(self, path):
        return super().size(_path(path))


def _path(url):
    return url.removeprefix("elsewhere://")


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("apache_beam").setLevel(logging.ERROR)


@pytest.fixture
def server():
    with PixelServer() as server:
        yield server


@pytest.fixture
def client(server):
    with LatentClient(server.address, "pixels", timeout_s=10) as client:
        yield client


def save(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(np.full((4, 4), grey, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """30 pictures, one of them damaged, in folders of odd names, and files that are none."""
    root = tmp_path / "pic [1]"
    for position in range(30):
        save(root / ("a" if position % 2 else "ä ö") / f"{position:02}.png", position + 1)
    (root / "a" / "07.png").write_text("text")
    (root / "top.txt").write_text("text")
    save(root / ".hidden" / "no.png", 1)
    save(root / "top.png", 99)
    return root


def rows(out):
    tables = [pyarrow.parquet.read_table(path) for path in sorted(out.glob("*.parquet"))]
    return sorted(
        (key, label, metadata, tuple(latent))
        for table in tables
        for key, label, metadata, latent in zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    )


def test_a_job_writes_what_embed_writes(folder, client, tmp_path):
    """Each bundle is run twice, as a runner does that has lost a worker."""
    out, other = tmp_path / "out [x]", tmp_path / "other"
    told = embed_source(open_source(str(folder)), client, other, shard_items=10)
    options = options_of("DirectRunner", IN_MEMORY)
    report = embed_on_runner(str(folder), client, str(out), options, shard_items=10)
    assert rows(out) == rows(other)
    assert len(rows(out)) == 30
    assert (report.images, report.shards, report.model) == (30, len(list(out.glob("*.parquet"))), told.model)
    assert report.shards == 4
    assert report.left_out == told.left_out and list(report.left_out) == ["a/07.png"]
    listed = [json.loads(line) for line in (out / "_left-out.jsonl").read_text().splitlines()]
    assert [line["key"] for line in listed] == ["a/07.png"]
    assert not list(out.glob(".tmp-*"))
    with LatentIndex.import_(out, tmp_path / "index") as index:
        assert (len(index), index.model.fingerprint) == (30, CARD.fingerprint)
    with pytest.raises(ConfigurationError, match="is finished; .*--restart"):
        embed_on_runner(str(folder), client, str(out), options, shard_items=10)
    with pytest.raises(ConfigurationError, match="begun with images = None"):
        embed_source(open_source(str(folder)), client, out, shard_items=10)
    with pytest.raises(ConfigurationError, match="begun with format = 1|begun with runner = None"):
        embed_on_runner(str(folder), client, str(other), options, shard_items=10)


def test_a_folder_and_shards_that_are_elsewhere(folder, client, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "latents-00077.parquet").write_text("of a job that failed")
    (out / "notes.parquet").write_text("mine")
    with pytest.raises(ConfigurationError, match="something else"):
        embed_on_runner(f"elsewhere://{folder}", client, f"elsewhere://{out}", options_of("DirectRunner", IN_MEMORY))
    (out / "notes.parquet").rename(tmp_path / "notes")
    (out / "latents-00077.parquet").rename(tmp_path / "rest")
    (tmp_path / "x").mkdir()
    root = str(folder).replace("pic [1]", "pic")
    folder.rename(root)
    report = embed_on_runner(f"elsewhere://{root}", client, f"elsewhere://{out}", options_of("DirectRunner", IN_MEMORY))
    assert (report.images, list(report.left_out)) == (30, ["a/07.png"])
    embed_source(open_source(root), client, tmp_path / "other")
    assert rows(out) == rows(tmp_path / "other")
    assert sorted(path.name for path in out.iterdir()) == [
        "_embed.json", "_finished.json", "_left-out.jsonl", "latents-00000.parquet",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match="no image"):
        list(list_files(f"elsewhere://{tmp_path}/x"))
    with pytest.raises(ConfigurationError, match="reaches no such place"):
        ReadImages("nowhere://x")
    # Known to Beam, but a package for it is missing.
    with pytest.raises(ConfigurationError, match="reaches no such place"):
        ReadImages("hdfs://host/x")
    with pytest.raises(ConfigurationError, match="reaches no such place"):
        embed_on_runner(root, client, "nowhere://x", options_of("DirectRunner", IN_MEMORY))


def test_two_images_of_one_key_and_one_that_comes_twice(client, tmp_path):
    latent = np.ones(16, np.float32)

    def write(*images):
        with apache_beam.Pipeline(options=options_of("DirectRunner", IN_MEMORY)) as pipeline:
            pipeline | apache_beam.Create(images) | WriteLatents(str(tmp_path / "out"), CARD)  # noqa: B018

    twice = EncodedImage("k", "here", latent)
    write(twice, twice, EncodedImage("l", "here too", latent, metadata={"a": 1}))
    assert [row[:3] for row in rows(tmp_path / "out")] == [("k", None, None), ("l", None, '{"a":1}')]
    with pytest.raises(ConfigurationError, match="Two images have the key 'k': (here|there) and (here|there)"):
        write(twice, EncodedImage("k", "there", latent))


def test_patterns_and_only(folder, tmp_path):
    root = folder.rename(tmp_path / "pic")
    source = open_source(str(root))
    assert [found.key for found in list_files(str(root))] == [source.key(at) for at in range(len(source))]
    assert [found.label for found in list_files(str(root))] == source.labels
    assert {found.key for found in list_files(f"{root}/**.png")} == {source.key(at) for at in range(len(source))}
    assert {found.key for found in list_files(f"{root}/a/*", only=["0*.png"])} == {f"0{n}.png" for n in (1, 3, 5, 7, 9)}
    with pytest.raises(ConfigurationError, match=r"no image with a name like \*\.gif"):
        list(list_files(str(root), only=["*.gif"]))
    with pytest.raises(ConfigurationError, match="neither a built-in name nor a folder"):
        ReadImages(str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="--only"):
        ReadImages("tfrecord:x*", only=["y"])
    with pytest.raises(ConfigurationError, match="Features are those of"):
        ReadImages("fashion_mnist/test", options=_options(image="x"))


def _options(**features):
    from ae_search.data import SourceOptions

    return SourceOptions(**{f"{name}_feature": value for name, value in features.items()})


def _field(number, data):
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def example(**features):
    entries = b""
    for name, value in features.items():
        values = _field(1, _field(1, value))  # bytes_list
        entries += _field(1, _field(1, name.encode()) + _field(2, values))
    return _field(1, entries)


def write_records(path, records, *, spoil=()):
    def masked(data):
        crc = google_crc32c.value(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    data = b""
    for number, record in enumerate(records):
        length = struct.pack("<Q", len(record))
        data += length + masked(length) + (b"x" + record[1:] if number in spoil else record) + masked(record)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["a.tfrecord", "a.gz"])
@pytest.mark.parametrize("scheme", ["", "elsewhere://"])
@pytest.mark.parametrize("key", [None, "id"])
def test_records_are_those_of_the_source(tmp_path, name, scheme, key):
    made = [example(image=b"png %d" % n, label=b"l%d" % (n % 2), id=b"key %d" % n) for n in range(5)]
    write_records(tmp_path / name, [*made, b"\xff\xff", example(image=b"", label=b"")][: 6 if key else 7], spoil={2})
    features = Features(key=key)
    file = record_file(f"{scheme}{tmp_path / name}", name)
    images = list(images_of(file, features))
    if key is None:
        source = TFRecordSource("records", "tfrecord:x", [Part(record_file(str(tmp_path / name), name))])
        assert [image.key for image in images] == [source.key(at) for at in range(len(source))]
        assert [image.label for image in images] == list(source.labels)
    else:
        assert [image.key for image in images] == ["key 0", "key 1", f"{name}/2", "key 3", "key 4", f"{name}/5"]
    assert [image.data for image in images][:5] == [b"png 0", b"png 1", None, b"png 3", b"png 4"]
    assert "checksum" in images[2].reason and "record 2" in images[2].reason
    assert "Example" in images[5].reason


def images_of_grey(*greys):
    def file(grey):
        import io

        held = io.BytesIO()
        Picture.fromarray(np.full((4, 4), grey, np.uint8)).save(held, "PNG")
        return held.getvalue()

    return [Image(str(grey), f"place {grey}", file(grey)) for grey in greys]


def test_a_batch_holds_files_pixels_and_what_is_bad(client):
    handler = TFServingModelHandler(client)
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    batch = [
        *images_of_grey(5, 6),
        Image("p", "place p", pixels, "lab", {"a": 1}),
        Image("b", "place b", b"text"),
        Image("r", "place r", None, reason="gone"),
        Image("large", "place large", np.full((8, 8, 3), 7, np.uint8)),
    ]
    line = handler.create_client()
    made = handler.run_inference(batch, line)
    assert [one.key for one in made] == ["5", "6", "p", "b", "r", "large"]
    np.testing.assert_array_equal(made[0].latent, np.full(16, 5, np.float32) / np.float32(255))
    np.testing.assert_array_equal(made[2].latent, pixels.reshape(-1) / np.float32(255))
    np.testing.assert_array_equal(made[5].latent, np.full(16, 7, np.float32) / np.float32(255))
    assert made[2][3:5] == ("lab", {"a": 1})
    assert made[3].latent is None and "place b" in made[3].reason and not made[3].refused
    assert made[4].reason == "gone"
    assert handler.run_inference([], line) == []


def test_the_model_is_pinned_by_its_fingerprint(server, client):
    handler = TFServingModelHandler(client, retries=0)
    line = handler.create_client()
    server.cards = {1: CARD, 2: OTHER}
    assert handler.run_inference(images_of_grey(9), line)[0].latent is not None
    server.cards = {2: OTHER}
    with pytest.raises(ModelNotServedError, match="pixels version 1"):
        handler.run_inference(images_of_grey(9), line)
    with pytest.raises(ModelMismatchError, match="begun with pixels version 1 .* pixels version 2 .*answered"):
        handler.create_client()
    # The version's number says nothing: another export has taken its place.
    server.cards = {1: OTHER}
    with pytest.raises(ModelMismatchError, match="begun with pixels version 1"):
        handler.run_inference(images_of_grey(9), line)


def test_a_server_without_room_is_asked_again_and_the_wait_is_counted(server, client):
    handler = TFServingModelHandler(client)
    line = handler.create_client()
    refused = []

    def busy(signature, context):
        if signature == "encode_bytes" and len(refused) < 12:
            refused.append(1)
            context.abort(CODES.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")

    server.before = busy
    counted = []
    handler.throttler.throttling_signaler.signal_throttled = counted.append
    assert handler.run_inference(images_of_grey(9), line)[0].latent is not None
    assert len(refused) == 12 and line.client.line.overload_s > 1
    assert counted == [int(line.client.line.overload_s)]


def test_a_batch_is_sent_again_while_its_server_is_away_and_not_for_other_errors(server):
    asked = []

    def away(signature, context):
        if signature == "encode_bytes":
            asked.append(1)
            context.abort(CODES.UNAVAILABLE, "away")

    with LatentClient(server.address, "pixels", timeout_s=0.2) as hasty:
        handler = TFServingModelHandler(hasty, retries=0)
        line = handler.create_client()
        server.before = away
        with pytest.raises(ServerUnavailableError):
            handler.run_inference(images_of_grey(9), line)
    assert asked and handler.retry_filter(ServerUnavailableError("x"))
    assert not handler.retry_filter(ModelNotServedError("x")) and not handler.retry_filter(ValueError("x"))


def test_threads_of_a_worker_share_the_requests_that_may_be_under_way(server):
    with LatentClient(server.address, "pixels", max_in_flight=2) as client:
        client.talk.limits.files = 1
        handler = TFServingModelHandler(client)
        line = handler.create_client()
        line.client.talk.limits.files = 1
        threads = [
            threading.Thread(target=handler.run_inference, args=(images_of_grey(*range(at, at + 10)), line))
            for at in (0, 10, 20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 1 <= server.most_running <= 2


def test_options_that_nobody_knows():
    assert options_of("DirectRunner", ["--direct_num_workers", "2"]).get_all_options()["direct_num_workers"] == 2
    with pytest.raises(ConfigurationError, match="no option --retry_left"):
        options_of("DirectRunner", ["--retry_left"])
    with pytest.raises(ConfigurationError, match="Received: 'more'"):
        options_of("DirectRunner", ["--direct_num_workers=2", "more"])
    with pytest.raises(ConfigurationError, match="Received: 'more'"):
        options_of("FlinkRunner", ["more"])
    options_of("FlinkRunner", ["--parallelism=2"])


def test_what_a_step_needs_is_checked_at_once(client):
    with pytest.raises(ValueError, match="batch_images"):
        EncodeImages(client, batch_images=0)
    with pytest.raises(ValueError, match="shard_items"):
        WriteLatents("out", CARD, shard_items=0)
