"""No path of ours sends a request of no rows: with batching, TensorFlow Serving never answers one."""

import threading

import grpc
import numpy as np
import pytest
import scripted_server
import tensorflow as tf
from both_clients import KINDS
from build_options import build_options
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import coloured_picture, encoded
from scripted_server import CARD, Script, rows_of
from tensorflow_serving.apis import prediction_log_pb2

from ae_search.client import LatentClient
from ae_search.data import ArraySource, open_source
from ae_search.diagnosis import diagnose
from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.export.warmup import WARMUP_FILE, write_warmup
from ae_search.index import LatentIndex
from ae_search.indexing import add_source, index_source, update_source
from ae_search.indexing.shards import embed_source
from ae_search.search import ImageSearch

FILES = {
    "good": encoded(coloured_picture(1)),
    "text": b"no image",
    "damaged": encoded(coloured_picture(2))[:-40],
    "empty": b"",
}


class Silent(Script):
    """Never answers a request of no rows; takes as many rows as it is told."""

    def __init__(self):
        super().__init__()
        self.empty, self.most, self.over = [], None, threading.Event()

    def answer(self, request, context):
        if request.inputs and rows_of(request) == 0:
            self.empty.append(request)
            self.over.wait()
        if self.most is not None and request.inputs and rows_of(request) > self.most:
            told = f"Task size {rows_of(request)} is larger than maximum input batch size {self.most}"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, told)
        return super().answer(request, context)


@pytest.fixture(scope="module")
def silent():
    script = Silent()
    server, port = scripted_server.start(script)
    script.target = f"127.0.0.1:{port}"
    yield script
    script.over.set()
    server.stop(None).wait()


@pytest.fixture(scope="module", params=KINDS)
def client(silent, request):
    one = KINDS[request.param](silent.target, "pixels", timeout_s=20)
    yield one
    one.end()


def limits_of(client):
    return getattr(client, "client", client).limits


def with_limits(client, silent, limits):
    """Set how much a request carries, and what the server takes."""
    shared = limits_of(client)
    shared.rows, shared.files, silent.most = limits


SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([None, 0, 1, 2, 3]))


@settings(max_examples=40, deadline=None)
@given(files=st.lists(st.sampled_from(list(FILES)), max_size=12), limits=SIZES, collects=st.booleans())
def test_files(client, silent, files, limits, collects):
    with_limits(client, silent, limits)
    bad = {}
    try:
        latents = client.encode_files([FILES[name] for name in files], on_bad=bad.__setitem__ if collects else None)
    except AeSearchError:
        assert not collects
    else:
        assert latents.shape == (len(files) - len(bad), CARD.latent_dim)
    assert silent.empty == []


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 12), limits=SIZES, kind=st.sampled_from([np.uint8, np.float32, list]))
def test_pixels(client, silent, rows, limits, kind):
    with_limits(client, silent, limits)
    images = np.zeros((rows, *CARD.image_shape), np.uint8 if kind is list else kind)
    try:
        assert client.encode(images.tolist() if kind is list and not rows else images).shape == (rows, CARD.latent_dim)
    except AeSearchError:
        assert silent.most == 0
    assert silent.empty == []


@pytest.fixture
def blocking(silent):
    silent.most = None
    with LatentClient(silent.target, "pixels", timeout_s=20) as client:
        yield client


def folder(path, names):
    path.mkdir()
    for at, name in enumerate(names):
        (path / f"{at:02}.png").write_bytes(FILES[name])
    return open_source(str(path))


@pytest.mark.parametrize("name", ["text", "damaged", "empty"])
@pytest.mark.parametrize("thumbnails", [True, False])
def test_folders_of_which_nothing_can_be_read(blocking, silent, tmp_path, name, thumbnails):
    source = folder(tmp_path / "pictures", [name] * 70)
    with pytest.raises(ConfigurationError):
        if thumbnails:
            index_source(source, blocking, tmp_path / "index")
        else:
            embed_source(source, blocking, tmp_path / "out", shard_items=20)
    assert silent.empty == []


def test_indexes_searches_and_views(blocking, silent, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 4, 4, 1), np.uint8)
    array = ArraySource("some", pixels, [None] * 70)
    index_source(array, blocking, tmp_path / "index", build_options(n_trees=2))
    bad = folder(tmp_path / "pictures", ["text"] * 70)
    with LatentIndex.open(tmp_path / "index") as index:
        for source in (bad, array):
            add_source(source, blocking, index)
            update_source(source, blocking, index)
        search = ImageSearch(blocking, index)
        for views in (False, True):
            assert search.search_batch([], views=views) == []
            assert len(search.search(FILES["good"], k=1, views=views)) == 1
    assert silent.empty == []


@pytest.mark.parametrize("most", [None, 0, 1, 7])
def test_the_probes_of_doctor(silent, most):
    silent.most = most
    assert len(list(diagnose(silent.target, "pixels", timeout_s=20))) > 3
    silent.most = None
    assert silent.empty == []


def test_the_server_is_silent_indeed(silent):
    from ae_search.client.requests import predict

    with LatentClient(silent.target, "pixels", timeout_s=1) as client:
        empty = predict(client.talk.asked, "encode_bytes", {"image_bytes": []})
        assert "within 1 s" in str(client.outcome(empty))
    assert silent.empty.pop() and not silent.empty


def test_warm_up_records(tmp_path):
    write_warmup(tmp_path, CARD)
    records = [
        prediction_log_pb2.PredictionLog.FromString(bytes(record.numpy())).predict_log.request
        for record in tf.data.TFRecordDataset(str(tmp_path / WARMUP_FILE))
    ]
    assert len(records) == 8
    assert all(tensor.tensor_shape.dim[0].size >= 1 for record in records for tensor in record.inputs.values())
    assert all(record.inputs for record in records)
