"""What only asyncio has: many tasks, cancellation, the event loop that must go on."""

import asyncio
import threading
import time

import numpy as np
import pytest
from pictures import coloured_picture, encoded
from scripted_server import latents_of

from ae_search.client import Access, AsyncLatentClient
from ae_search.errors import ConfigurationError, ServerUnavailableError


@pytest.fixture
def port(serve, script):
    return serve(script)


def run(coroutine):
    async def alone():
        result = await coroutine
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(alone())


def test_many_tasks_share_one_client(port, pixels):
    async def calls():
        async with AsyncLatentClient(f"127.0.0.1:{port}", "pixels") as client:
            parts = [pixels[at : at + 5] for at in range(0, 1000, 5)]
            return parts, await asyncio.gather(*map(client.encode, parts))

    for part, latents in zip(*run(calls()), strict=True):
        np.testing.assert_array_equal(latents, latents_of(part))


@pytest.mark.parametrize("call", ["pixels", "bytes", "paths"])
def test_cancellation_leaves_nothing_running(port, script, pixels, tmp_path, call):
    data = encoded(coloured_picture(1))
    (tmp_path / "one.png").write_bytes(data)

    async def cancelled():
        async with AsyncLatentClient(f"127.0.0.1:{port}", "pixels") as client:
            await client.describe()
            script.delay_s = 0.3
            calls = {
                "pixels": lambda: client.encode(np.concatenate([pixels] * 10)),
                "bytes": lambda: client.encode_files([data] * 1000),
                "paths": lambda: client.encode_files([tmp_path / "one.png"] * 1000),
            }
            task = asyncio.create_task(calls[call]())
            while script.running < 4:
                await asyncio.sleep(0.01)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 5
            assert asyncio.all_tasks() == {asyncio.current_task()}
            seen = len(script.requests)
            await asyncio.sleep(0.8)
            assert (script.running, len(script.requests)) == (0, seen)
            script.delay_s = 0
            assert (await client.encode(pixels[:3])).shape == (3, 16)

    run(cancelled())


def test_wait_for_gives_up_and_the_client_stays_usable(port, script, pixels):
    async def hurried():
        async with AsyncLatentClient(f"127.0.0.1:{port}", "pixels") as client:
            script.delay_s = 5
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.encode(pixels), 0.2)
            script.delay_s = 0
            return await client.encode(pixels)

    np.testing.assert_array_equal(run(hurried()), latents_of(pixels))


def test_closing_ends_what_other_tasks_wait_for(port, script, pixels):
    async def closed():
        client = AsyncLatentClient(f"127.0.0.1:{port}", "pixels")
        await client.describe()
        script.delay_s = 1
        tasks = [asyncio.create_task(client.encode(pixels)) for _ in range(5)]
        while script.running < 4:
            await asyncio.sleep(0.01)
        await client.close()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, ServerUnavailableError), repr(outcome)
        with pytest.raises(ValueError, match="closed"):
            await client.describe()

    run(closed())


def test_bad_files_are_told_in_the_event_loop(port, tmp_path):
    (tmp_path / "text.png").write_text("a text")
    told = []

    async def call():
        async with AsyncLatentClient(f"127.0.0.1:{port}", "pixels") as client:
            await client.encode_files(
                [tmp_path / "text.png"], on_bad=lambda at, error: told.append((at, threading.current_thread()))
            )

    run(call())
    assert told == [(0, threading.current_thread())]


def test_the_event_loop_goes_on_while_files_are_read(port, tmp_path):
    beats = 0

    async def call():
        nonlocal beats
        async with AsyncLatentClient(f"127.0.0.1:{port}", "pixels") as client:
            (tmp_path / "one.png").write_bytes(encoded(coloured_picture(1)))
            task = asyncio.create_task(client.encode_files([tmp_path / "one.png"] * 2000))
            while not task.done():
                beats += 1
                await asyncio.sleep(0.001)
            return await task

    assert run(call()).shape == (2000, 16)
    assert beats > 20


def test_a_wrong_file_is_told_when_the_client_is_made(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        AsyncLatentClient("a:1", access=Access(ca_file=tmp_path / "none.pem"))
