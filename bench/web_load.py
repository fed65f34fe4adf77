"""What is measured of the service; each function runs in a process of its own."""

import asyncio
import http.client
import io
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.client_cases import CALLERS, fashion

ITEMS, PHOTOS = 60_000, 2_000
_CALLS, _WARM = 600, 100
_MEGAPIXELS = (4000, 3000)


def make_index(export: Path, folder: Path) -> None:
    """Index Fashion-MNIST, the first with thumbnails, unless that is done already."""
    if (folder / "CURRENT").exists():
        return
    from ae_search.image_file import pixels_to_png, thumbnail
    from ae_search.index import BuildOptions, IndexBuilder
    from ae_search.model_server import LocalEncoder

    encoder, images = LocalEncoder(export), fashion(ITEMS)
    with IndexBuilder(folder, encoder.describe(), BuildOptions(replace=True)) as builder:
        for start in range(0, len(images), 4096):
            block = images[start : start + 4096]
            keys = [f"train/{start + at}" for at in range(len(block))]
            pictures: list[bytes | None] = [None] * len(block)
            if not start:
                pictures = [thumbnail(pixels_to_png(image), "image") for image in block]
            builder.add(encoder.encode(block), keys, thumbnails=pictures)


def make_photo_index(export: Path, folder: Path) -> None:
    """Index noise as photographs, with thumbnails, unless that is done: what they are does not matter here."""
    if (folder / "CURRENT").exists():
        return
    from ae_search.image_file import thumbnail
    from ae_search.index import BuildOptions, IndexBuilder
    from ae_search.model_server import LocalEncoder

    encoder, random = LocalEncoder(export), np.random.default_rng(0)
    images = random.integers(0, 256, (PHOTOS, 64, 64, 3), np.uint8)
    picture = thumbnail(_jpeg((400, 300)), "image")
    with IndexBuilder(folder, encoder.describe(), BuildOptions(replace=True)) as builder:
        builder.add(encoder.encode(images), [f"{at}" for at in range(PHOTOS)], thumbnails=[picture] * PHOTOS)


def wait_until_ready(where: str) -> None:
    """Wait until the service says that model and index belong together."""
    for _ in range(600):
        try:
            if _ask(http.client.HTTPConnection(where), "GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{where} did not get ready")


def single(address: str, index: Path, where: str) -> dict[str, float]:
    """Return the median ms of one PNG to ten neighbours, in process and by POST, in turn."""
    from ae_search.image_file import pixels_to_png

    files = [pixels_to_png(image) for image in fashion(100)]
    return _in_turn(address, index, where, files, "/v1/search?k=10", thumbnails=False, calls=_CALLS)


def photograph(address: str, index: Path, where: str) -> dict[str, float]:
    """Return the median ms of a photograph to ten neighbours, in process and by POST with their thumbnails, in turn."""
    path = "/v1/search?k=10&keep=true&thumbnails=true&fold=true&plain=true"
    return _in_turn(address, index, where, [_jpeg(_MEGAPIXELS)], path, thumbnails=True, calls=40)


def _in_turn(
    address: str, index: Path, where: str, files: list[bytes], path: str, *, thumbnails: bool, calls: int
) -> dict[str, float]:
    from ae_search import ImageSearch, LatentClient, LatentIndex

    taken: dict[str, list[float]] = {"python_ms": [], "http_ms": []}
    connection = http.client.HTTPConnection(where)
    with LatentClient(address) as client, LatentIndex.open(index) as opened:
        search = ImageSearch(client, opened)
        for turn in range(calls):
            file = files[turn % len(files)]
            began = time.perf_counter()
            found = search.search(file, 10)
            pictures = [opened.thumbnail(one) for one in found] if thumbnails else []
            taken["python_ms"].append((time.perf_counter() - began) * 1e3)
            began = time.perf_counter()
            status, body = _ask(connection, "POST", path, file)
            told = json.loads(body)["neighbours"]
            shown = [_ask(connection, "GET", one["thumbnail"])[1] for one in told] if thumbnails else []
            taken["http_ms"].append((time.perf_counter() - began) * 1e3)
            assert status == 200 and [one["key"] for one in told] == [one.key for one in found]
            assert pictures == shown
    warm = min(_WARM, calls // 4)
    return {name: median(values[warm:]) for name, values in taken.items()}


def search_callers(address: str, index: Path, seconds: float) -> dict[str, float]:
    """Return the answers a second that 32 callers get of AsyncImageSearch."""
    from ae_search import AsyncImageSearch, AsyncLatentClient, LatentIndex
    from ae_search.image_file import pixels_to_png

    files = [pixels_to_png(image) for image in fashion(100)]

    async def run() -> dict[str, float]:
        async with AsyncLatentClient(address) as client:
            with LatentIndex.open(index) as opened:
                async with AsyncImageSearch(client, opened) as search:
                    return await _load(lambda at: search.search(files[at % 100], 10), seconds)

    return asyncio.run(run())


def http_callers(where: str, seconds: float) -> dict[str, float]:
    """Return the answers a second that 32 callers get of the service, each over a connection of its own."""
    from ae_search.image_file import pixels_to_png

    host, _, port = where.partition(":")
    requests = [_request(where, pixels_to_png(image)) for image in fashion(100)]

    async def run() -> dict[str, float]:
        lines = [await asyncio.open_connection(host, int(port)) for _ in range(CALLERS)]

        async def ask(at: int, caller: int) -> None:
            reader, writer = lines[caller]
            writer.write(requests[at % 100])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)

        try:
            return await _load(ask, seconds, with_caller=True)
        finally:
            for _, writer in lines:
                writer.close()

    return asyncio.run(run())


async def _load(ask: Any, seconds: float, *, with_caller: bool = False) -> dict[str, float]:
    waits: list[float] = []

    async def caller(number: int, until: float) -> None:
        at = number
        while (began := time.perf_counter()) < until:
            await (ask(at, number) if with_caller else ask(at))
            waits.append(time.perf_counter() - began)
            at += CALLERS

    for length in (1.0, seconds):
        waits.clear()
        began = time.perf_counter()
        await asyncio.gather(*(caller(number, began + length) for number in range(CALLERS)))
    per_s = len(waits) / (time.perf_counter() - began)
    return {"per_s": per_s, "p99_ms": float(np.percentile(waits, 99)) * 1e3, "median_ms": median(waits) * 1e3}


def _request(where: str, file: bytes) -> bytes:
    head = f"POST /v1/search?k=10 HTTP/1.1\r\nHost: {where}\r\nContent-Type: image/png\r\n"
    return f"{head}Content-Length: {len(file)}\r\n\r\n".encode() + file


def _ask(line: http.client.HTTPConnection, method: str, path: str, file: bytes | None = None) -> tuple[int, bytes]:
    line.request(method, path, body=file, headers={"Content-Type": "application/octet-stream"} if file else {})
    answer = line.getresponse()
    return answer.status, answer.read()


def _jpeg(size: tuple[int, int]) -> bytes:
    from PIL import Image

    small = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
