"""An exported version on a server that batches: its parameters, and its signatures joined, filled up and split."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from pictures import coloured_picture, encoded
from serving_messages import check_batch_sizes, parse

from ae_search.client import chunks
from ae_search.contract import ModelCard
from ae_search.export.batching import BATCHING_FILE, QUEUE_BYTES, max_batch_size, write_batching

RNG = np.random.default_rng(0)
SIZES = (1, 3, 2, 5)  # of requests that are joined; 11 rows, filled up to 16


def parameters(folder):
    return parse("BatchingParameters", (folder / BATCHING_FILE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def card(tiny_export):
    describe = tf.saved_model.load(str(tiny_export / "1")).signatures["describe"]
    return ModelCard.from_json(describe(rows=tf.zeros(1, tf.int32))["model_card"].numpy().item())


def test_an_export_has_batching_parameters(tiny_export):
    batching = parameters(tiny_export / "1")
    check_batch_sizes(batching)
    assert batching.batch_timeout_micros.value > 0
    # The server takes these from its own file only, and would not say that it ignores them here.
    assert not batching.HasField("num_batch_threads") and not batching.HasField("thread_pool_name")
    # Every input has a fixed shape but for its rows.
    assert not batching.pad_variable_length_inputs


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (64, 64, 3), (100, 150, 3), (224, 224, 3), (1024, 2048, 3)])
def test_a_batch_holds_the_largest_request_and_the_queue_is_bounded(card, tmp_path, shape):
    write_batching(tmp_path, replace(card, image_shape=shape))
    batching = parameters(tmp_path)
    check_batch_sizes(batching)
    row_bytes = math.prod(shape)
    largest = max(chunks.MAX_FILES, min(chunks.MAX_ROWS, chunks.MAX_REQUEST_BYTES // row_bytes))
    assert largest <= batching.max_batch_size.value < 2 * largest + 1
    waiting = batching.max_enqueued_batches.value
    assert waiting >= 2
    if waiting > 2:
        assert waiting * batching.max_batch_size.value * 4 * row_bytes <= QUEUE_BYTES


def test_small_images_come_in_larger_batches_than_photographs():
    assert (max_batch_size((28, 28, 1)), max_batch_size((224, 224, 3))) == (256, 64)


def rows_of(name, count):
    if name == "describe":
        return "rows", np.zeros(count, np.int32)
    if name == "encode_bytes":
        files = [encoded(coloured_picture(seed, (30 + seed, 20))) for seed in range(count)]
        return "image_bytes", np.array(files, object)
    pixels = RNG.integers(0, 256, (count, 16, 16, 3), np.uint8)
    return "images", pixels if name == "encode_uint8" else pixels.astype(np.float32) / 255.0


@pytest.mark.parametrize("name", ["serving_default", "encode_uint8", "encode_bytes", "describe"])
def test_requests_that_are_joined_get_what_each_would_get_alone(tiny_export, name):
    """As batching_session.cc does it: concatenate, fill up with the last request's first row, run, split."""
    loaded = tf.saved_model.load(str(tiny_export / "1"))
    signature = loaded.signatures[name]
    key, rows = rows_of(name, sum(SIZES))
    requests = np.split(rows, np.cumsum(SIZES)[:-1])
    allowed = next(size for size in parameters(tiny_export / "1").allowed_batch_sizes if size >= len(rows))
    filling = [requests[-1][:1]] * (allowed - len(rows))
    assert filling
    joined = signature(**{key: tf.constant(np.concatenate([*requests, *filling]))})
    for output, values in joined.items():
        assert len(values) == allowed
        for request, part in zip(requests, np.split(values.numpy(), [*np.cumsum(SIZES)]), strict=False):
            alone = signature(**{key: tf.constant(request)})[output].numpy()
            assert alone.shape == part.shape and alone.dtype == part.dtype
            if alone.dtype == np.float32:
                np.testing.assert_allclose(part, alone, atol=1e-5)
            else:
                assert part.tolist() == alone.tolist()


def test_one_undecodable_image_fails_the_requests_joined_with_it(tiny_export):
    """Why serving/README.md recommends pixels where strangers' files are batched."""
    loaded = tf.saved_model.load(str(tiny_export / "1"))
    _, (good,) = rows_of("encode_bytes", 1)
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.signatures["encode_bytes"](image_bytes=tf.constant([good, b"text", good]))
