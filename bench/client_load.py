"""Clients under load: many callers at once, and a roll-over; each function runs in a process of its own."""

import asyncio
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.client_cases import CALLERS, fashion


def many_callers(address: str, seconds: float) -> dict[str, float]:
    """Return the answers a second that 32 callers get, one image a call, all at once, and the slowest of a hundred."""
    from ae_search.client import AsyncLatentClient

    images = fashion(100)
    waits: list[float] = []

    async def caller(client: AsyncLatentClient, until: float) -> None:
        at = 0
        while time.perf_counter() < until:
            began = time.perf_counter()
            await client.encode(images[at % 100])
            waits.append(time.perf_counter() - began)
            at += 1

    async def run() -> float:
        async with AsyncLatentClient(address) as client:
            await client.describe()
            for warm, length in ((True, 1.0), (False, seconds)):
                waits.clear()
                began = time.perf_counter()
                await asyncio.gather(*(caller(client, began + length) for _ in range(CALLERS)))
                if not warm:
                    return len(waits) / (time.perf_counter() - began)
        raise AssertionError

    per_s = asyncio.run(run())
    return {"per_s": per_s, "p99_ms": float(np.percentile(waits, 99)) * 1e3, "median_ms": median(waits) * 1e3}


def roll_over(address: str, base: Path, next_version: Path, seconds: float, *, pinned: bool) -> dict[str, float]:
    """Publish version 2 while four threads ask for the newest; return what went wrong.

    Args:
        address: The server's.
        base: Its model base path.
        next_version: Folder of what becomes version 2.
        seconds: How long to go on; version 2 comes after a third of it.
        pinned: Whether two more threads ask for version 1 all the time.
    """
    images = fashion(600)
    from ae_search.model_server import LocalEncoder

    wanted = {1: LocalEncoder(base / "1").encode(images), 2: LocalEncoder(next_version).encode(images)}
    until = time.perf_counter() + seconds
    pins = [None] * 4 + [1] * (2 if pinned else 0)
    with ThreadPoolExecutor(len(pins)) as threads:
        loads = [threads.submit(_load, address, pin, 11 + 2 * at, images, wanted, until) for at, pin in enumerate(pins)]
        time.sleep(seconds / 3)
        shutil.copytree(next_version, base / ".next")
        (base / ".next").rename(base / "2")
        ends = [load.result() for load in loads]
    waits = [wait for end in ends for wait in end.pop("waits")]
    counts = {name: sum(end[name] for end in ends) for name in ends[0]}
    return {**counts, "p99_ms": float(np.percentile(waits, 99)) * 1e3, "slowest_ms": max(waits) * 1e3}


def _load(
    address: str,
    pinned: int | None,
    step: int,
    images: npt.NDArray[np.uint8],
    wanted: dict[int, npt.NDArray[np.float32]],
    until: float,
) -> dict[str, Any]:
    from ae_search.client import LatentClient

    end: dict[str, Any] = {"calls": 0, "failed": 0, "wrong": 0, "of_version_2": 0, "waits": []}
    with LatentClient(address, version=pinned) as client:
        newest, at = 1, step
        while time.perf_counter() < until:
            rows = slice(at % 500, at % 500 + at * 37 % 100 + 1)
            at += step
            began = time.perf_counter()
            end["calls"] += 1
            try:
                latents = client.encode(images[rows])
            except Exception:
                end["failed"] += 1
                continue
            end["waits"].append(time.perf_counter() - began)
            of = next((v for v in (1, 2) if np.allclose(latents, wanted[v][rows], rtol=1e-3, atol=1e-4)), 0)
            end["of_version_2"] += of == 2
            # Wrong: from neither version, from an older one than before, or from another than was pinned.
            end["wrong"] += of == 0 or of < newest or pinned not in (None, of)
            newest = max(newest, of)
    return end
