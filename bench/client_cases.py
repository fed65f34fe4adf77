"""What is measured of the client; each function runs in a process of its own."""

import asyncio
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.datasets import CACHE

CALLS = 1500
TURNS = 5
CALLERS = 32
BATCH = 256


IMAGES_FILE = CACHE / "fashion-images.npy"


def write_fashion() -> None:
    """Write the images of Fashion-MNIST where a process can read them without TensorFlow, which reads data sets."""
    from ae_search.data import ArraySource, open_source

    source = open_source("fashion_mnist/train")
    assert isinstance(source, ArraySource)
    np.save(IMAGES_FILE, source.images)


def fashion(images: int) -> npt.NDArray[np.uint8]:
    """Return the first images of Fashion-MNIST, `[n, 28, 28, 1]`."""
    every: npt.NDArray[np.uint8] = np.load(IMAGES_FILE)
    return every[:images]


# Run by `python -c`: from the start of the process to latents in hand, and the memory that it takes then.
_FIRST_LATENTS = """
import sys
import numpy as np
images = np.load(sys.argv[2])
{0}
assert latents.shape[0] == 1
status = open("/proc/self/status").read()
print(int(status.split("VmRSS:")[1].split()[0]) / 1024)
"""
FIRST_LATENTS = {
    "ours": _FIRST_LATENTS.format(
        "from ae_search.client import LatentClient\nlatents = LatentClient(sys.argv[1]).encode(images)"
    ),
    "official": _FIRST_LATENTS.format(
        "from bench.official import OfficialClient\nlatents = OfficialClient(sys.argv[1], 'default').encode(images)"
    ),
}


def cpu_of_single_calls(address: str, way: str) -> dict[str, float]:
    """Return CPU and wall microseconds of one call with one image, floats.

    Args:
        address: The server's.
        way: "ours" or "official", one call after the other; "ours, 32 at once" with asyncio, "official, 32 at once"
            with threads; "bare gRPC" sends the same bytes again and again and reads nothing.
    """
    import grpc

    from ae_search.client import AsyncLatentClient, LatentClient, wire
    from ae_search.client.requests import predict
    from ae_search.client.rpc_errors import Asked
    from ae_search.contract import IMAGES, SIGNATURE_FLOAT

    images = [image[np.newaxis] / np.float32(255) for image in fashion(100)]
    calls = [images[at % 100] for at in range(CALLS)]
    if way == "ours, 32 at once":

        async def run() -> dict[str, float]:
            async with AsyncLatentClient(address) as client:

                async def caller(first: int) -> None:
                    for image in calls[first::CALLERS]:
                        await client.encode(image)

                await asyncio.gather(*(caller(at) for at in range(CALLERS)))
                began = time.perf_counter(), time.process_time()
                await asyncio.gather(*(caller(at) for at in range(CALLERS)))
                return _spent(*began)

        return asyncio.run(run())
    encode: Callable[[Any], Any] = LatentClient(address).encode
    if way.startswith("official"):
        from bench.official import OfficialClient

        encode = OfficialClient(address, "default").encode
    elif way == "bare gRPC":
        message = predict(Asked(address, "default"), SIGNATURE_FLOAT, {IMAGES: images[0]}).message
        bare = grpc.insecure_channel(address).unary_unary(wire.PREDICT)
        encode = lambda _: bare(message, timeout=30)  # noqa: E731
    with ThreadPoolExecutor(CALLERS if way.endswith("at once") else 1) as threads:
        list(threads.map(encode, images))
        began = time.perf_counter(), time.process_time()
        list(threads.map(encode, calls))
        return _spent(*began)


def _spent(wall: float, cpu: float) -> dict[str, float]:
    """Return microseconds a call since then."""
    cpu_us, wall_us = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_us": cpu_us / CALLS * 1e6, "wall_us": wall_us / CALLS * 1e6}


def cpu_of_parsing(as_content: bool) -> dict[str, float]:
    """Return the CPU microseconds that one answer of 400 latents costs, by either client."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from ae_search.client.requests import latents_of
    from ae_search.client.rpc_errors import Asked
    from ae_search.contract import ModelCard

    latents = np.random.default_rng(0).normal(size=(400, 128)).astype(np.float32)
    answer = predict_pb2.PredictResponse()
    answer.model_spec.version.value = 1
    proto = answer.outputs["latents"]
    if as_content:
        proto.CopyFrom(tf.make_tensor_proto(latents))
    else:  # what TensorFlow Serving answers unless told otherwise
        proto.dtype = 1
        proto.tensor_shape.CopyFrom(tf.TensorShape(latents.shape).as_proto())
        proto.float_val.extend(latents.ravel().tolist())
    data = answer.SerializeToString()
    card, asked = ModelCard("m", 1, "f", (28, 28, 1), 128), Asked("127.0.0.1:1", "m")

    def ours() -> npt.NDArray[np.float32]:
        return latents_of(data, card, asked, 400)

    def official() -> npt.NDArray[np.float32]:
        parsed = predict_pb2.PredictResponse.FromString(data)
        made: npt.NDArray[np.float32] = tf.make_ndarray(parsed.outputs["latents"])
        return made

    np.testing.assert_array_equal(ours(), official())
    return {"ours_us": _cpu_us(ours), "official_us": _cpu_us(official)}


def _cpu_us(job: Callable[[], object], repeats: int = 200) -> float:
    rounds = []
    for _ in range(TURNS):
        began = time.process_time()
        for _ in range(repeats):
            job()
        rounds.append((time.process_time() - began) / repeats * 1e6)
    return median(rounds)


def bulk_in_process(folder: Path, images: int) -> dict[str, float]:
    """Return the seconds that the encoder itself takes, 256 images at a time."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(folder)).signatures["encode_uint8"]
    pixels = fashion(images)

    def run() -> None:
        for start in range(0, len(pixels), BATCH):
            signature(images=tf.constant(pixels[start : start + BATCH]))["latents"].numpy()

    return _timed(run)


def bulk_served(address: str, images: int) -> dict[str, float]:
    """Return the seconds that a client takes for the same images, and its CPU seconds."""
    from ae_search.client import LatentClient

    pixels = fashion(images)
    with LatentClient(address) as client:
        return _timed(lambda: client.encode(pixels))


def _timed(run: Callable[[], object]) -> dict[str, float]:
    run()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    run()
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return {"wall_s": wall, "cpu_s": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime}


def photograph(address: str, photo: Path, folder: Path) -> dict[str, float]:
    """Return the median ms from a photograph on disk to ten neighbours with keys, and of the bare Predict call."""
    import grpc

    from ae_search.client import LatentClient, wire
    from ae_search.client.requests import predict
    from ae_search.client.rpc_errors import Asked
    from ae_search.contract import IMAGE_BYTES, SIGNATURE_BYTES
    from ae_search.index import LatentIndex
    from ae_search.search import ImageSearch

    with LatentClient(address) as client, LatentIndex.open(folder) as index:
        search = ImageSearch(client, index)
        asked = Asked(address, "default", search.encoder.describe().version)
        message = predict(asked, SIGNATURE_BYTES, {IMAGE_BYTES: [photo.read_bytes()]}).message
        bare = grpc.insecure_channel(address).unary_unary(wire.PREDICT)
        whole_ms: list[float] = []
        bare_ms: list[float] = []
        for _ in range(400):
            began = time.perf_counter()
            bare(message, timeout=30)
            bare_ms.append((time.perf_counter() - began) * 1e3)
            began = time.perf_counter()
            found = search.search(photo, 10)
            whole_ms.append((time.perf_counter() - began) * 1e3)
            assert len(found) == 10 and found[0].key
        items = float(len(index))
    return {"whole_ms": median(whole_ms[100:]), "bare_ms": median(bare_ms[100:]), "items": items}


def make_photo_index(export: Path, photos: Path, folder: Path, items: int = 60_000) -> None:
    """Index photographs, and as many slightly moved copies of their latents as make up the number."""
    from ae_search.index import BuildOptions, IndexBuilder
    from ae_search.model_server import LocalEncoder

    encoder = LocalEncoder(export)
    files = sorted(photos.rglob("*.jpg"))
    latents = encoder.encode_files(list(files))
    random = np.random.default_rng(0)
    spread = 0.1 * latents.std(axis=0)
    with IndexBuilder(folder, encoder.describe(), BuildOptions(replace=True)) as builder:
        for start in range(0, items, len(latents)):
            moved = latents + (random.normal(size=latents.shape) * spread if start else 0.0)
            keys = [f"{start // len(latents)}/{file.name}" for file in files]
            builder.add(moved.astype(np.float32), keys, [file.parent.name for file in files])
