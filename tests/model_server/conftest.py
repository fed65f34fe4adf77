"""Tiny SavedModels with the contract's signatures, and stubs to a server on them."""

import json
import shutil
import time
import urllib.request
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

SHAPE = (2, 2, 3)
DIM = 4


def weights(seed):
    return np.random.default_rng(seed).normal(size=(12, DIM)).astype(np.float32)


class TinyEncoder(tf.Module):
    """A projection of the pixels: small enough for NumPy to be its oracle."""

    def __init__(self, seed):
        self.weights = tf.Variable(weights(seed))
        self.card = json.dumps(
            {
                "name": "tiny",
                "version": 1,
                "fingerprint": f"f{seed}",
                "image_shape": SHAPE,
                "latent_dim": DIM,
                "metric": "angular",
                "data": {},
                "training": {},
                "keras": "",
                "tensorflow": "",
                "format": 1,
            }
        )

    def latents(self, images):
        images = tf.ensure_shape(images, [None, *SHAPE])
        return {"latents": tf.reshape(images, [-1, 12]) @ self.weights}

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])
    def serving_default(self, images):
        return self.latents(images)

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.uint8, name="images")])
    def encode_uint8(self, images):
        return self.latents(tf.cast(images, tf.float32) / 255.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def encode_bytes(self, image_bytes):
        def decode(data):
            return tf.image.resize(tf.io.decode_image(data, channels=3, expand_animations=False), SHAPE[:2]) / 255.0

        return self.latents(tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec(SHAPE, tf.float32)))

    @tf.function(input_signature=[])
    def describe(self):
        return {"model_card": tf.constant(self.card)}

    # Slow enough for a test to do something while it runs: about 0.3 s for an `n` of 300.
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
    def slow(self, n):
        square = tf.ones([400, 400]) / 400.0
        return {
            "total": tf.reduce_sum(tf.while_loop(lambda i, _: i < n, lambda i, x: (i + 1, x @ square), (0, square))[1])
        }


SIGNATURES = ("serving_default", "encode_uint8", "encode_bytes", "describe", "slow")


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """Two exported encoders with different weights, as folders to copy."""
    root = tmp_path_factory.mktemp("exports")
    for seed in (1, 2):
        module = TinyEncoder(seed)
        signatures = {name: getattr(module, name) for name in SIGNATURES}
        tf.saved_model.save(module, str(root / str(seed)), signatures=signatures)
    return root


@pytest.fixture(scope="session")
def publish(exports):
    """Put encoder `seed` in place as a version folder, with one rename as an export does."""

    def publish(folder, seed=1, warm_up=()):
        hidden = folder.with_name(f".tmp-{folder.name}")
        shutil.copytree(exports / str(seed), hidden)
        if warm_up:
            (hidden / "assets.extra").mkdir()
            with tf.io.TFRecordWriter(str(hidden / "assets.extra/tf_serving_warmup_requests")) as writer:
                for request in warm_up:
                    log = prediction_log_pb2.PredictionLog()
                    log.predict_log.request.CopyFrom(request)
                    writer.write(log.SerializeToString())
        hidden.rename(folder)
        return folder

    return publish


@pytest.fixture(scope="session")
def connect():
    """Connect to a server: its stubs, and `predict` from NumPy to NumPy."""
    channels = []

    def connect(server):
        options = [("grpc.max_receive_message_length", 64 * 2**20)]
        channel = getattr(server, "channel", None) or grpc.insecure_channel(server.address, options)
        channels.append(channel)
        return SimpleNamespace(
            channel=channel,
            prediction=prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model=model_service_pb2_grpc.ModelServiceStub(channel),
            health=health_pb2_grpc.HealthStub(channel),
        )

    yield connect
    for channel in channels:
        channel.close()


@pytest.fixture(scope="session")
def predict_request():
    def predict_request(model="m", signature="", version=None, output_filter=(), **inputs):
        request = predict_pb2.PredictRequest(output_filter=output_filter)
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    return predict_request


@pytest.fixture(scope="session")
def oracle():
    """The latents by NumPy."""

    def oracle(images, seed=1):
        return np.reshape(images, (-1, 12)).astype(np.float32) @ weights(seed)

    return oracle


@pytest.fixture(scope="session")
def eventually():
    """Wait until a condition holds."""

    def eventually(condition, timeout_s=20.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    return eventually


@pytest.fixture(scope="session")
def scrape():
    """Read a server's figures as Prometheus does: value by name and the values of its labels, in order of the label."""

    def scrape(server):
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        text = urllib.request.urlopen(url, timeout=30).read().decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {
            (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
            for sample in samples
        }

    return scrape
