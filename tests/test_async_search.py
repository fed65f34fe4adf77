"""AsyncImageSearch: the answers of ImageSearch, from many tasks at once, on an event loop that goes on meanwhile."""

import asyncio
import pickle
import shutil
import threading
import time

import keras
import numpy as np
import pytest
from build_options import build_options
from pictures import encoded
from PIL import Image
from pixel_encoder import OTHER, AsyncPixelEncoder, PixelEncoder, at

from ae_search import AsyncImageSearch, AsyncLatentClient, ImageSearch, LatentClient
from ae_search.errors import ImageError, ModelMismatchError, ModelNotServedError, ServerUnavailableError
from ae_search.export import export_encoder
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.model import build_encoder
from ae_search.model_server import ModelServer
from ae_search.model_server.policy import VersionPolicy

COUNT = 60


class Slow(LatentIndex):
    """An index that takes its time, and counts how many searches run at once."""

    running = most = 0
    lock = threading.Lock()
    delay_s = 0.1

    def search(self, *args, **options):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.delay_s)
        with self.lock:
            self.running -= 1
        return super().search(*args, **options)


@pytest.fixture(scope="module")
def photographs():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), np.uint8)


def keys(count=COUNT):
    return [f"item {at}" for at in range(count)]


def build(path, client, photographs, **options):
    with IndexBuilder(path, client.describe(), build_options(5, **options)) as builder:
        builder.add(client.encode(photographs), keys(), ["even", "odd"] * (COUNT // 2))
    return path


@pytest.fixture(scope="module")
def base(tiny_encoder, tmp_path_factory):
    """A base path with two models."""
    base = tmp_path_factory.mktemp("export") / "tiny"
    export_encoder(tiny_encoder, base)
    keras.utils.set_random_seed(9)
    export_encoder(build_encoder((16, 16, 3), latent_dim=8), base)
    return base


@pytest.fixture(scope="module")
def address(base):
    with ModelServer(base, version_policy=VersionPolicy(latest=None)) as server:
        yield server.address


@pytest.fixture(scope="module")
def folder(address, photographs, tmp_path_factory):
    with LatentClient(address, "tiny", version=1) as client:
        return build(tmp_path_factory.mktemp("index") / "index", client, photographs)


def run(address, folder, work, kind=LatentIndex, **options):
    """Run work with a search, and nothing of it afterwards."""

    async def alone():
        with kind.open(folder) as index:
            async with AsyncLatentClient(address, "tiny", timeout_s=60) as client:
                async with AsyncImageSearch(client, index, **options) as search:
                    result = await work(search)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return result

    return asyncio.run(alone())


def png(pixels):
    return encoded(Image.fromarray(pixels))


OPTIONS = [
    {},
    {"k": 3},
    {"exact": True},
    {"where": {"label": "odd"}, "k": 40},
    {"effort": 500},
    {"views": True},
    {"views": True, "k": 4, "exact": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(7))
def test_the_answers_are_those_of_image_search(address, folder, photographs, tmp_path, options):
    (tmp_path / "one.png").write_bytes(png(photographs[4]))
    batches = [
        list(photographs[:5]),
        [png(one) for one in photographs[:3]],
        [tmp_path / "one.png", str(tmp_path / "one.png")],
        [],
    ]
    with LatentIndex.open(folder) as index, LatentClient(address, "tiny") as client:
        blocking = ImageSearch(client, index)
        expected = [blocking.search_batch(images, **options) for images in batches]
        one = blocking.search(photographs[7], **options)

    async def work(search):
        assert (await (await search.encoder()).describe()).version == 1
        assert await search.search(photographs[7], **options) == one
        return [await search.search_batch(images, **options) for images in batches]

    assert run(address, folder, work) == expected


def test_two_hundred_tasks_at_once(address, folder, photographs):
    turns = [at % COUNT for at in range(200)]

    async def work(search):
        return await asyncio.gather(*(search.search(photographs[at], k=1, exact=True) for at in turns))

    found = run(address, folder, work)
    assert [row[0].key for row in found] == [f"item {at}" for at in turns]


@pytest.mark.parametrize("threads", [1, 3])
def test_so_many_searches_run_at_once_and_the_loop_goes_on(address, folder, photographs, threads):
    beats = 0

    async def work(search):
        nonlocal beats
        task = asyncio.gather(*(search.search(photographs[at], k=1) for at in range(9)))
        while not task.done():
            beats += 1
            await asyncio.sleep(0.001)
        await task
        return search.index.most

    assert run(address, folder, work, Slow, threads=threads) == threads
    assert beats > 20


def test_the_loop_goes_on_while_views_are_made(address, folder, photographs):
    pauses = []

    async def work(search):
        async def beat():
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.001)
                pauses.append(time.perf_counter() - began)

        beating = asyncio.create_task(beat())
        began = time.perf_counter()
        await search.search_batch(list(photographs), views=True)
        took = time.perf_counter() - began
        beating.cancel()
        return took

    took = run(address, folder, work)
    assert len(pauses) > 20 and max(pauses) < took / 2


def test_threads_must_be_some():
    with pytest.raises(ValueError, match="at least 1"):
        AsyncImageSearch(None, None, threads=0)


def test_cancelled_tasks_leave_the_others_alone(address, folder, photographs):
    async def work(search):
        tasks = [asyncio.create_task(search.search(photographs[at], k=1, exact=True)) for at in range(40)]
        await asyncio.sleep(0.05)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for turn, result in enumerate(results):
            if turn % 2 or not isinstance(result, asyncio.CancelledError):
                assert result[0].key == f"item {turn}"
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) > 5
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(search.search(photographs[0], views=True), 0.001)
        return await search.search(photographs[3], k=1)

    assert run(address, folder, work, Slow, threads=2)[0].key == "item 3"


def test_errors_are_those_of_image_search(address, folder, photographs, tmp_path):
    async def work(search):
        for wrong in (b"text", tmp_path / "none.png", np.zeros(3, np.uint8)):
            for views in (False, True):
                with pytest.raises(ImageError):
                    await search.search(wrong, views=views)
        with pytest.raises(ValueError):
            await search.search(photographs[0], k=0)
        with pytest.raises(ValueError):
            await search.search(photographs[0], where={})
        return await search.search(photographs[1], k=1)

    assert run(address, folder, work)[0].key == "item 1"


def test_a_closed_search(address, folder, photographs):
    async def work(search):
        task = asyncio.create_task(search.search(photographs[0], k=1))
        while not search.index.running:
            await asyncio.sleep(0.01)
        await search.close()
        assert (await task)[0].key == "item 0"  # what ran has ended
        with pytest.raises(ValueError, match="closed"):
            await search.search(photographs[0])
        await search.close()

    run(address, folder, work, Slow)


def test_an_index_of_another_model_is_refused(tmp_path, photographs):
    pixels = photographs[:50, :2, :2, :1]
    with IndexBuilder(tmp_path / "index", PixelEncoder(at(2)).describe()) as builder:
        builder.add(PixelEncoder(at(2)).encode(pixels), keys(50))

    async def work(cards):
        with LatentIndex.open(tmp_path / "index") as index:
            async with AsyncImageSearch(AsyncPixelEncoder(PixelEncoder(cards)), index) as search:
                return await search.search(pixels[3], k=1)

    with pytest.raises(ModelMismatchError, match=r"pixels version 2 .*efefefefefef.*index rebuild"):
        asyncio.run(work(at(3, OTHER)))
    with pytest.raises(ModelNotServedError):
        asyncio.run(work({}))
    assert asyncio.run(work(at(5)))[0].key == "item 3"


def test_one_handshake_is_enough_for_all_tasks_and_survives_who_began_it(tmp_path, photographs):
    pixels = photographs[:50, :2, :2, :1]
    with IndexBuilder(tmp_path / "index", PixelEncoder(at(2)).describe()) as builder:
        builder.add(PixelEncoder(at(2)).encode(pixels), keys(50))

    async def work():
        encoder = AsyncPixelEncoder(PixelEncoder(at(2)))
        with LatentIndex.open(tmp_path / "index") as index:
            search = AsyncImageSearch(encoder, index)
            tasks = [asyncio.create_task(search.search(pixels[at % 50], k=1)) for at in range(200)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            await search.close()
        assert isinstance(found[0], asyncio.CancelledError)
        assert [row[0].key for row in found[1:]] == [f"item {at % 50}" for at in range(1, 200)]
        return encoder.asked[0]

    assert asyncio.run(work()) == 1


def test_closing_ends_a_handshake(tmp_path, photographs):
    pixels = photographs[:50, :2, :2, :1]
    with IndexBuilder(tmp_path / "index", PixelEncoder(at(2)).describe()) as builder:
        builder.add(PixelEncoder(at(2)).encode(pixels), keys(50))

    class Hanging(AsyncPixelEncoder):
        def at_version(self, version):
            return self

        async def describe(self):
            self.asked[0] += 1
            await asyncio.sleep(60)

    async def work():
        encoder = Hanging(PixelEncoder(at(2)))
        with LatentIndex.open(tmp_path / "index") as index:
            search = AsyncImageSearch(encoder, index)
            task = asyncio.create_task(search.search(pixels[0]))
            while not encoder.asked[0]:
                await asyncio.sleep(0.01)
            await search.close()
            with pytest.raises(ValueError, match="closed"):
                await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(work())


def test_no_answer_is_wrong_while_the_index_moves_between_models(address, photographs, tmp_path):
    """Latents of the two models have nothing in common: compared across, an item does not find itself."""
    path = tmp_path / "index"
    clients = {version: LatentClient(address, "tiny", version=version) for version in (1, 2)}
    build(path, clients[1], photographs)
    searched = []

    async def work(search):
        stop = asyncio.Event()

        async def ask(seed):
            turn = seed
            while not stop.is_set():
                turn = (turn + 7) % COUNT
                found = (await search.search(photographs[turn], k=1, exact=True))[0]
                searched.append((found.key, found.similarity > 0.999, turn))

        tasks = [asyncio.create_task(ask(seed)) for seed in range(20)]
        for version in (2, 1, 2):
            before = len(searched)
            await asyncio.to_thread(build, path, clients[version], photographs, replace=True)
            while len(searched) < before + 60 and not any(task.done() for task in tasks):
                await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*tasks)
        return (await (await search.encoder()).describe()).version

    assert run(address, path, work) == 2
    for client in clients.values():
        client.close()
    assert len(searched) > 180
    assert [one for one in searched if one[:2] != (f"item {one[2]}", True)] == []


@pytest.mark.slow
def test_a_roll_over_of_the_server_under_load(base, folder, photographs, tmp_path):
    """The version of the index goes away, and the same model comes under another number."""
    served = tmp_path / "tiny"
    shutil.copytree(base / "1", served / "1")
    searched = []

    async def work(search):
        stop = asyncio.Event()

        async def ask(seed):
            turn = seed
            while not stop.is_set():
                turn = (turn + 7) % COUNT
                found = (await search.search(photographs[turn], k=1, exact=True))[0]
                searched.append((found.key, turn))

        tasks = [asyncio.create_task(ask(seed)) for seed in range(20)]
        while len(searched) < 100:
            await asyncio.sleep(0.01)
        shutil.copytree(base / "1", tmp_path / "next")
        (tmp_path / "next").rename(served / "5")
        until = time.monotonic() + 120
        while not any(task.done() for task in tasks) and time.monotonic() < until:
            await asyncio.sleep(0.05)
            if (await search.encoder()).version == 5:
                break
        before = len(searched)
        while len(searched) < before + 100 and not any(task.done() for task in tasks):
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*tasks)
        return (await search.encoder()).version

    with ModelServer(served, poll_interval_s=0.1) as server:
        assert run(server.address, folder, work) == 5
    assert [one for one in searched if one[0] != f"item {one[1]}"] == []


def test_a_server_that_is_gone(folder, photographs):
    async def work():
        with LatentIndex.open(folder) as index:
            async with AsyncLatentClient("127.0.0.1:1", "tiny", timeout_s=1) as client:
                async with AsyncImageSearch(client, index):
                    raise AssertionError

    with pytest.raises(ServerUnavailableError):
        asyncio.run(work())


def test_searches_pickle(address, folder, photographs):
    with LatentIndex.open(folder) as index, LatentClient(address, "tiny") as client:
        search = ImageSearch(client, index)
        made = pickle.loads(pickle.dumps(search))
        assert made.search(photographs[5]) == search.search(photographs[5])
        assert made.encoder.describe().version == 1
        made.index.close()

    async def work():
        with LatentIndex.open(folder) as index:
            async with AsyncLatentClient(address, "tiny") as client, AsyncImageSearch(client, index, threads=3) as one:
                made = pickle.loads(pickle.dumps(one))
                async with made:
                    assert await made.search(photographs[5]) == await one.search(photographs[5])
                await (made._given).close()
                made.index.close()

    asyncio.run(work())


def test_one_search_on_several_event_loops(address, folder, photographs):
    index = LatentIndex.open(folder)
    search = AsyncImageSearch(AsyncLatentClient(address, "tiny"), index, threads=2)
    for _ in range(2):

        async def work():
            return await asyncio.gather(*(search.search(one, k=1) for one in photographs[:9]))

        assert [row[0].key for row in asyncio.run(work())] == keys(9)
    asyncio.run(search.close())
    index.close()
