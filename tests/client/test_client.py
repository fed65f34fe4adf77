"""The client over real sockets: order, chunks, bad files, every error, and answers that are nonsense."""

import dataclasses
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from pictures import coloured_picture, encoded
from scripted_server import CARD, latents_of

from ae_search import errors
from ae_search.client import VersionState, chunks
from ae_search.client.rpc_errors import ERRORS
from ae_search.errors import (
    ConfigurationError,
    ImageError,
    ModelNotServedError,
    ServerAnswerError,
    ServerTimeoutError,
    ServerUnavailableError,
)

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.mark.parametrize("as_content", [False, True])
def test_many_chunks_come_back_in_order(client, script, pixels, as_content):
    script.as_content = as_content
    np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
    assert len(script.requests) == 1 + 4  # describe, then 256 rows a request
    floats = pixels[:300].astype(np.float32) / 255.0
    np.testing.assert_array_equal(client.encode(floats), latents_of(floats))


def test_requests_are_bounded_in_bytes(client, script, pixels, monkeypatch):
    monkeypatch.setattr(chunks, "MAX_REQUEST_BYTES", 160)
    np.testing.assert_array_equal(client.encode(pixels[:95]), latents_of(pixels[:95]))
    assert len(script.requests) == 1 + 10


def test_one_image_and_none(client, script, pixels):
    np.testing.assert_array_equal(client.encode(pixels[0]), latents_of(pixels[:1]))
    np.testing.assert_array_equal(client.encode(pixels[0, ..., 0]), latents_of(pixels[:1]))
    before = len(script.requests)
    assert client.encode(pixels[:0]).shape == (0, 16)
    assert client.encode_files([]).shape == (0, 16)
    assert len(script.requests) == before


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 5, 4, 1), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 1), np.int64),
        np.full((2, 4, 4, 1), 1.5),
        np.full((2, 4, 4, 1), np.nan),
        np.zeros(3, np.uint8),
    ],
)
def test_images_that_do_not_fit_are_refused_before_they_are_sent(client, script, images):
    client.describe()
    with pytest.raises(ImageError, match="Received"):
        client.at_version(3).encode(images)
    with pytest.raises(ImageError, match="Received"):
        client.encode(images)
    assert {request.model_spec.signature_name for request in script.requests} == {"describe"}


def test_bad_files_are_found_by_name_and_the_rest_comes_back(client, tmp_path):
    good = [encoded(coloured_picture(seed), "JPEG") for seed in range(40)]
    files = list(good)
    truncated = {5, 6, 31}
    for at in truncated:
        files[at] = good[at][:-150]  # the header is fine: only the server can tell
    files[17] = b"a text file"
    bad = {}
    latents = client.encode_files(files, on_bad=bad.__setitem__)
    assert set(bad) == truncated | {17}
    assert "image 5" in str(bad[5])
    np.testing.assert_array_equal(latents, client.encode_files([f for at, f in enumerate(good) if at not in bad]))
    (tmp_path / "broken.jpg").write_bytes(files[5])
    with pytest.raises(ImageError, match=r"broken\.jpg.*JPEG data are damaged or cut short"):
        client.encode_files([tmp_path / "broken.jpg"])
    with pytest.raises(ImageError, match=r"missing\.jpg: there is no such image file"):
        client.encode_files([tmp_path / "missing.jpg"])


def test_a_pixel_bomb_is_refused_from_its_header(client, script):
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(ImageError, match="megapixels|damaged"):
        client.encode_files([bomb])
    assert [request.model_spec.signature_name for request in script.requests] == ["describe"]


def test_describe_status_and_pinning(client, script):
    assert client.describe() == CARD
    assert client.status() == [VersionState(3, "AVAILABLE"), VersionState(2, "END", "ended")]
    assert client.at_version(3).describe() == CARD
    with pytest.raises(ModelNotServedError, match="pixels version 2"):
        client.at_version(2).describe()
    script.served = [3, 4]
    assert client.at_version(3).describe().version == 3
    assert client.describe().version == 4


def test_a_roll_over_between_two_calls_goes_unnoticed(client, script, pixels):
    client.encode(pixels[:1])
    script.served = [4]
    np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
    with pytest.raises(ModelNotServedError):
        client.at_version(3).encode(pixels)


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_becomes_one_error_of_ours(client, script, code):
    if code is grpc.StatusCode.OK:
        assert code in ERRORS
        return
    script.code = code
    with pytest.raises(ERRORS[code], match=rf"{code.name}: as the test said") as caught:
        client.describe()
    assert type(caught.value) is ERRORS[code]
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert isinstance(caught.value, errors.AeSearchError)


def test_a_dead_server_and_a_slow_one(client, script, connect):
    began = time.monotonic()
    with pytest.raises(ServerUnavailableError, match="cannot be reached"):
        connect(1, timeout_s=5).describe()
    assert time.monotonic() - began < 10
    script.delay_s = 1.0
    with pytest.raises(ServerTimeoutError, match=r"within 0.2 s"):
        connect(client.target, timeout_s=0.2).describe()


def _dtype(response):
    response.outputs["latents"].dtype = 3


def _values(response):
    del response.outputs["latents"].float_val[-1]


def _shape(response):
    response.outputs["latents"].tensor_shape.dim[1].size = 2**62


def _negative(response):
    response.outputs["latents"].tensor_shape.dim[0].size = -1


def _rows(response):
    tensor = response.outputs["latents"]
    tensor.tensor_shape.dim[0].size -= 1
    del tensor.float_val[-16:]


def _nan(response):
    response.outputs["latents"].float_val[0] = float("nan")


def _no_output(response):
    del response.outputs["latents"]


def _version(response):
    response.model_spec.version.value = 9


def _odd_bytes(response):
    del response.outputs["latents"].float_val[:]
    response.outputs["latents"].tensor_content = b"abc"


@pytest.mark.parametrize("spoil", [_dtype, _values, _shape, _negative, _rows, _nan, _no_output, _version, _odd_bytes])
def test_nonsense_is_not_taken_for_latents(client, script, pixels, spoil):
    script.spoil = spoil
    with pytest.raises(ServerAnswerError):
        client.encode(pixels[:3])


@pytest.mark.parametrize("card", ["no json", "[]", '{"format": 1}', dataclasses.replace(CARD, format=99).to_json()])
def test_a_model_card_that_is_none(client, script, card):
    script.card = card
    with pytest.raises(ServerAnswerError, match="model card"):
        client.describe()


def test_twenty_threads_share_one_client(client, pixels):
    parts = [pixels[at : at + 50] for at in range(0, 1000, 50)]
    with ThreadPoolExecutor(20) as threads:
        for part, latents in zip(parts, threads.map(client.encode, parts), strict=True):
            np.testing.assert_array_equal(latents, latents_of(part))


@pytest.mark.parametrize("target", ["", "host", "host:port", "http//x", "host:123456", "a b:80", "127.0.0.1:8500/x"])
def test_what_is_no_target(target, connect):
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        connect(target)


def test_wire_messages_are_the_official_ones():
    checked = subprocess.run([sys.executable, TOOLS / "wire_descriptors.py", "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("text", [b"", b"short", b"x" * 1000, "ü".encode() * 9000])
def test_a_string_in_tensor_content_is_read(text):
    """TensorFlow's own layout of strings as content; decode_proto-style varint lengths."""
    from google.protobuf.internal import encoder

    from ae_search.client import wire

    content = encoder._VarintBytes(len(text)) + text
    assert wire.to_bytes(wire.TensorProto(dtype=7, tensor_content=content)) == text
    with pytest.raises(ServerAnswerError):
        wire.to_bytes(wire.TensorProto(dtype=7, tensor_content=content[:-1]))
    with pytest.raises(ServerAnswerError):
        wire.to_bytes(wire.TensorProto(dtype=1, tensor_content=content))
    with pytest.raises(ServerAnswerError):
        wire.to_bytes(wire.TensorProto(dtype=7))
