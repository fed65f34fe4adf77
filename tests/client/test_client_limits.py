"""What a server has no room for, what is too large for it, and how many requests bad images cost."""

import itertools
import time
from collections import Counter

import grpc
import numpy as np
import pytest
from pictures import coloured_picture, encoded
from PIL import Image
from scripted_server import latents_of, rows_of

from ae_search.errors import ImageError, ServerTimeoutError, ServerUnavailableError

Code = grpc.StatusCode
NO_ROOM = {
    "threads": (Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted"),
    "queue": (Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"),
}


def png(value, size=(4, 4)):
    return encoded(Image.new("L", size, value))


def small_png(at):
    """One of 256 ** 2 files, each with latents of its own."""
    return encoded(Image.fromarray(np.array([[at % 256, at // 256]], np.uint8).repeat(4, 0).repeat(2, 1)))


def refuse_first(times, code, text):
    counter = itertools.count()

    def refuse(request, context):
        if next(counter) < times:
            context.abort(code, text)

    return refuse


@pytest.mark.parametrize("why", NO_ROOM)
def test_a_server_without_room_is_asked_again(client, script, pixels, why):
    client.describe()
    script.refuse = refuse_first(7, *NO_ROOM[why])
    np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
    assert len(script.requests) == 1 + 4 + 7


@pytest.mark.parametrize("why", NO_ROOM)
def test_a_server_that_never_has_room_ends_the_call_in_time(client, script, pixels, connect, why):
    client.describe()
    script.refuse = refuse_first(10**9, *NO_ROOM[why])
    began = time.monotonic()
    with pytest.raises(ServerUnavailableError, match=NO_ROOM[why][1]):
        connect(client.target, timeout_s=1.0).encode(pixels[:1])
    assert time.monotonic() - began < 6
    assert len(script.requests) > 3


def test_another_exhaustion_is_not_asked_again(client, script):
    script.refuse = refuse_first(10**9, Code.RESOURCE_EXHAUSTED, "out of memory")
    with pytest.raises(ServerUnavailableError, match="out of memory"):
        client.describe()
    assert len(script.requests) == 1


def test_what_is_refused_as_wrong_is_sent_again_by_itself_only(client, script):
    client.describe()
    script.refuse = refuse_first(10**9, Code.INVALID_ARGUMENT, "no such input")
    files = [encoded(coloured_picture(at))[:-40] for at in range(100)]
    bad = {}
    assert len(client.encode_files(files, on_bad=bad.__setitem__)) == 0
    assert sorted(bad) == list(range(100))
    sent = Counter(request.SerializeToString(deterministic=True) for request in script.asked_for("encode_bytes"))
    assert sorted(sent.values()) == [1] * (2 + 8 + 7) + [3] * 100  # the last part of 36 is a single file


def test_a_batch_limit_is_learnt_from_the_first_refusal(client, script, pixels):
    def refuse(request, context):
        if rows_of(request) > 32:
            context.abort(
                Code.INVALID_ARGUMENT,
                f"Task size {rows_of(request)} is larger than maximum input batch size 32",
            )

    script.refuse = refuse
    np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
    refused = [request for request in script.requests if rows_of(request) > 32]
    assert 1 <= len(refused) <= 4  # those that were under way already
    script.requests.clear()
    np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
    files = [small_png(at) for at in range(100)]
    assert len(client.encode_files(files)) == 100
    assert max(map(rows_of, script.requests)) == 32
    assert client.at_version(3).encode(pixels).shape == (1000, 16)
    assert max(map(rows_of, script.requests)) == 32


@pytest.mark.parametrize("limit", ["9" * 5000, "0", "-3", "1000"])
def test_a_batch_limit_that_makes_no_sense_ends_in_an_error(client, script, pixels, limit):
    client.describe()
    script.refuse = refuse_first(10**9, Code.INVALID_ARGUMENT, f"larger than maximum batch size {limit}")
    with pytest.raises(ImageError):
        client.encode(pixels[:100])
    assert len(script.requests) < 130


@pytest.fixture
def narrow(serve, connect, script):
    """A client of a server that takes messages of up to 3000 bytes."""
    return connect(serve(script, options=[("grpc.max_receive_message_length", 3000)]))


def test_requests_too_large_for_a_server_are_cut(narrow, script, pixels):
    np.testing.assert_array_equal(narrow.encode(pixels), latents_of(pixels))
    files = [small_png(at) for at in range(300)]
    np.testing.assert_array_equal(
        narrow.encode_files(files), np.concatenate([narrow.encode_files([file]) for file in files])
    )


def test_one_file_too_large_for_a_server_is_named_and_the_rest_comes_back(narrow, tmp_path):
    files = [small_png(at) for at in range(100)]
    expected = narrow.encode_files(files)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    files.insert(50, encoded(Image.fromarray(noise)))
    bad = {}
    np.testing.assert_array_equal(narrow.encode_files(files, on_bad=bad.__setitem__), expected)
    assert list(bad) == [50]
    assert "image 50" in str(bad[50]) and "takes no message of that size" in str(bad[50])
    (tmp_path / "noise.png").write_bytes(files[50])
    with pytest.raises(ImageError, match=r"noise\.png"):
        narrow.encode_files([tmp_path / "noise.png"])


# Its header is a PNG's, and its pixels are cut off.
DAMAGED = png(200)[:-28]


def damage_is_refused(request, context):
    if any(DAMAGED in tensor.string_val for tensor in request.inputs.values()):
        context.abort(Code.INVALID_ARGUMENT, "Unknown image file format. One of JPEG, PNG, GIF, BMP required.")


@pytest.mark.parametrize("bad", [range(0, 600, 2), range(600), range(300), [599], [0], []])
@pytest.mark.slow
def test_bad_images_cost_a_bounded_number_of_requests(client, script, bad):
    script.refuse = damage_is_refused
    bad = set(bad)
    files = [DAMAGED if at in bad else png(at % 200) for at in range(600)]
    told = {}
    latents = client.encode_files(files, on_bad=told.__setitem__)
    assert list(told) == sorted(bad)
    assert all(f"image {at}:" in str(error) for at, error in told.items())
    good = [at % 200 / 255 for at in range(600) if at not in bad]
    np.testing.assert_array_equal(latents, np.repeat(np.array(good, np.float32)[:, None], 16, 1))
    # A chunk of 64 whose every part has a bad image: itself, 8 parts, 64 images; each bad one twice more, by itself.
    assert len(script.requests) <= 1 + min(600 // 64 * 73 + 40, 10 + 16 * len(bad)) + 2 * len(bad)


def test_the_first_bad_image_is_the_one_that_is_raised(client, script):
    script.refuse = damage_is_refused
    files = [png(at % 200) for at in range(600)]
    for at in (37, 38, 300, 599):
        files[at] = DAMAGED
    with pytest.raises(ImageError, match=r"^image 37:"):
        client.encode_files(files)
    assert len(script.requests) < 1 + 10 + 3 * (16 + 2)


@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_twenty_thousand_images_in_one_call(serve, connect, script, max_in_flight):
    client = connect(serve(script), max_in_flight=max_in_flight)
    pixels = np.random.default_rng(1).integers(0, 256, (20_000, 4, 4, 1), np.uint8)
    np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
    assert script.most_running <= max_in_flight
    script.delay_s = 0.05
    client.encode(pixels[:3000])
    assert script.most_running == max_in_flight


@pytest.mark.slow
def test_twenty_thousand_files_in_one_call(client, script):
    files = [small_png(at) for at in range(20_000)]
    latents = client.encode_files(files)
    assert latents.shape == (20_000, 16)
    at = np.arange(20_000)
    np.testing.assert_array_equal(latents[:, 0], (at % 256 / 255).astype(np.float32))
    np.testing.assert_array_equal(latents[:, 15], (at // 256 / 255).astype(np.float32))
    assert script.most_running <= 4


def test_the_total_deadline_ends_a_call_of_many_requests(client, script, pixels, connect):
    client.describe()
    script.delay_s = 0.3
    hurried = connect(client.target, timeout_s=20, total_timeout_s=1.0, max_in_flight=1)
    began = time.monotonic()
    with pytest.raises(ServerTimeoutError, match="within 1 s"):
        hurried.encode(np.concatenate([pixels] * 10))
    assert time.monotonic() - began < 6
    assert len(script.requests) < 12


def test_the_total_deadline_holds_for_a_server_without_room(client, script, pixels, connect):
    client.describe()
    script.refuse = refuse_first(10**9, *NO_ROOM["threads"])
    began = time.monotonic()
    with pytest.raises(ServerUnavailableError):
        connect(client.target, timeout_s=60, total_timeout_s=1.0).encode(pixels)
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e12])
def test_no_end_of_patience(client, connect, timeout_s):
    assert connect(client.target, timeout_s=timeout_s, total_timeout_s=timeout_s).describe().version == 3
