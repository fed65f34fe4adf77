"""Servers that refuse whatever they joined with an undecodable image, and whose fault it was."""

import asyncio
import time

import grpc
import numpy as np
import pytest
from joining_server import JOIN_S, Joining, Loop
from pictures import coloured_picture, encoded
from PIL import Image
from scripted_server import Script, latents_of

from ae_search.client import AsyncLatentClient, LatentClient
from ae_search.client.requests import predict
from ae_search.client.rpc_errors import Asked
from ae_search.client.timing import timed_encode_file
from ae_search.errors import ImageError, ImageRefusedError

COUNT = 200
# Its header is a PNG's, and its pixels are cut off.
DAMAGED = encoded(coloured_picture(1))[:-40]


def files_of(count=COUNT, **replaced):
    """Files with latents of their own; some are replaced by position, as `at37=...`."""
    files = [encoded(Image.new("L", (4, 4), at % 200)) for at in range(count)]
    for name, file in replaced.items():
        files[int(name.removeprefix("at"))] = file
    return files


def latents_at(positions):
    return np.repeat(np.array([at % 200 / 255 for at in positions], np.float32)[:, None], 16, 1)


@pytest.fixture
def joining():
    return Joining([DAMAGED])


def test_one_damaged_file_leaves_out_no_other(joining, serve, connect):
    told = {}
    client = connect(serve(joining))
    latents = client.encode_files(files_of(at37=DAMAGED), on_bad=told.__setitem__)
    assert {at: type(error) for at, error in told.items()} == {37: ImageError}
    assert "image 37: " in str(told[37])
    np.testing.assert_array_equal(latents, latents_at([at for at in range(COUNT) if at != 37]))


def test_the_damaged_file_is_the_one_that_is_blamed(joining, serve, connect):
    client = connect(serve(joining))
    with pytest.raises(ImageError, match=r"^image 37:"):
        client.encode_files(files_of(at37=DAMAGED, at150=DAMAGED))


def test_many_damaged_files_cost_few_requests_each(joining, serve, connect):
    told = {}
    client = connect(serve(joining))
    client.encode_files([DAMAGED] * 64, on_bad=told.__setitem__)
    assert {type(error) for error in told.values()} == {ImageError} and len(told) == 64
    assert len(joining.asked_for("encode_bytes")) == 1 + 8 + 64 + 2 * 64


def loop_of(client, *files):
    """Another client, whose requests meet nearly every second one of ours."""
    message = predict(Asked(client.target, "pixels"), "encode_bytes", {"image_bytes": files}).message
    return Loop(client.target, message, pause_s=2 * JOIN_S)


def test_while_another_client_sends_damaged_files(joining, serve, connect):
    told = {}
    client = connect(serve(joining))
    with loop_of(client, DAMAGED):
        latents = client.encode_files(files_of(64, at7=DAMAGED), on_bad=told.__setitem__)
    assert {at: type(error) for at, error in told.items()} == {7: ImageError}
    np.testing.assert_array_equal(latents, latents_at([at for at in range(64) if at != 7]))


class Refuses(Script):
    """Takes no file that is `grey`, however it is sent."""

    grey = encoded(Image.new("L", (4, 4), 250))
    on_refusal = staticmethod(lambda: None)

    def answer(self, request, context):
        if any(self.grey in tensor.string_val for tensor in request.inputs.values()):
            self.on_refusal()
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "WebP: not in this version")
        return super().answer(request, context)


def test_what_can_be_decoded_here_is_not_called_damaged(serve, connect):
    client = connect(serve(Refuses()))
    told = {}
    latents = client.encode_files(files_of(20, at3=Refuses.grey, at9=DAMAGED), on_bad=told.__setitem__)
    assert {at: type(error) for at, error in told.items()} == {3: ImageRefusedError, 9: ImageError}
    assert str(told[3]).startswith("image 3: ") and "WebP: not in this version" in str(told[3])
    assert "joined" in str(told[3]) and "joined" not in str(told[9])
    np.testing.assert_array_equal(latents, latents_at([at for at in range(20) if at not in (3, 9)]))
    with pytest.raises(ImageRefusedError, match=r"^image 3: "):
        client.encode_files(files_of(20, at3=Refuses.grey))


def test_a_server_that_takes_none_of_many_is_not_asked_for_ever(serve, connect):
    script = Refuses()
    client = connect(serve(script))
    told = {}
    client.encode_files([Refuses.grey] * 300, on_bad=told.__setitem__)
    assert {type(error) for error in told.values()} == {ImageRefusedError} and len(told) == 300
    # A chunk of 64, its 8 parts and its 64 files, each of which is then asked for twice.
    assert len(script.asked_for("encode_bytes")) < 300 * (1.2 + 2) + 200


def test_asking_again_ends_with_the_total_deadline(serve, connect, joining):
    client = connect(serve(joining))
    client.describe()
    hurried = connect(client.target, total_timeout_s=1.0)
    began = time.monotonic()
    with loop_of(client, DAMAGED):
        try:
            hurried.encode_files(files_of(64))
        except Exception as error:
            assert "within 1 s" in str(error)
    assert time.monotonic() - began < 10


def test_closing_the_client_ends_the_asking(serve, connect):
    script = Refuses()
    client = connect(serve(script))
    client.describe()
    script.on_refusal = lambda: client.close() if script.asked_for("encode_bytes")[2:] else None
    with pytest.raises(Exception, match="closed"):
        client.encode_files([Refuses.grey])
    assert len(script.asked_for("encode_bytes")) < 8


class OtherShapes(Joining):
    """Joins pixels, and fails every run but each third, in TensorFlow Serving's words for pixels of two shapes."""

    runs = 0

    def answer(self, request, context):
        if request.model_spec.signature_name == "encode_uint8":
            with self.lock:
                self.runs += 1
                fails = self.runs % 3
            if fails:
                context.abort(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "Tensors with name 'images' from different tasks have different shapes and padding is turned off.",
                )
        return super().answer(request, context)


def test_pixels_that_were_joined_with_those_of_another_shape(serve, connect, pixels):
    client = connect(serve(OtherShapes()))
    np.testing.assert_array_equal(client.encode(pixels[:600]), latents_of(pixels[:600]))


def test_pixels_that_are_refused_for_good(serve, connect, pixels, script):
    script.refuse = lambda request, context: (
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such input")
        if request.model_spec.signature_name == "encode_uint8"
        else None
    )
    client = connect(serve(script))
    with pytest.raises(ImageError, match="no such input"):
        client.encode(pixels[:9])
    assert len(script.asked_for("encode_uint8")) == 1 + 20


def test_a_timed_query_is_asked_again(serve):
    script = Joining([DAMAGED])
    with LatentClient(f"127.0.0.1:{serve(script)}", "pixels", timeout_s=20) as client:
        client.describe()
        with loop_of(client, DAMAGED):
            latents, parts_s = timed_encode_file(client, files_of(1)[0])
    np.testing.assert_array_equal(latents, latents_at([0]))
    assert min(parts_s) > 0


def test_decoding_a_refused_file_does_not_hold_up_the_event_loop(serve, script):
    """A large picture takes a second to decode; the loop goes on meanwhile."""
    large = encoded(Image.effect_noise((4000, 4000), 50).convert("RGB"))[:-1000]

    async def scene():
        async with AsyncLatentClient(f"127.0.0.1:{serve(script)}", "pixels", timeout_s=60) as client:
            await client.describe()
            longest_s, over = 0.0, False

            async def tick():
                nonlocal longest_s
                while not over:
                    began = time.monotonic()
                    await asyncio.sleep(0.005)
                    longest_s = max(longest_s, time.monotonic() - began)

            ticking = asyncio.create_task(tick())
            began = time.monotonic()
            with pytest.raises(ImageError, match="image 0"):
                await client.encode_files([large])
            over, seconds = True, time.monotonic() - began
            await ticking
            return longest_s, seconds

    longest_s, seconds = asyncio.run(scene())
    assert longest_s < seconds / 2
