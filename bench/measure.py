"""The measurements of one engine on one data set; each function is a job for a process of its own."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.contract import Latents
from bench.datasets import DataSet, K, hits
from bench.engines import AeSearch, Engine, library
from bench.progress import progress

TARGETS = (0.95, 0.99)
# An exact search needs no more: its recall is known, and a query takes long.
EXACT_QUERIES = 200
READER_QUERIES = 200

# A setting this slow is the last one that is tried.
_SLOWEST_MS = 100.0
_DOUBLINGS = 14
# Settings at equal recall are known to a tenth.
_CLOSE_ENOUGH = 1.1
_ROUNDS = 3
_ROUNDS_S = 20.0
_WARM_UP = 100


def build(engine: Engine, data: DataSet, folder: Path) -> dict[str, Any]:
    """Build an index.

    Returns:
        Seconds by stage, and bytes an item that lie in the folder afterwards.
    """
    seconds = engine.build(data, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds": seconds, "bytes_per_item": size / data.items}


def reader(engine: Engine, data: DataSet, folder: Path, setting: int | None) -> dict[str, Any]:
    """Open an index and ask 200 queries.

    Returns:
        Seconds to open, memory of this process in MB (RSS, anonymous, of files) at the end, and how much of it has
        come since the library was imported.
    """
    queries = data.queries()[:READER_QUERIES]
    library(engine.library)
    before, start = memory_mb(), time.perf_counter()
    engine.open(folder)
    opened_s = time.perf_counter() - start
    if setting is not None:
        engine.tell(setting)
    for query in queries:
        engine.query(query)
    after = memory_mb()
    return {"open_s": opened_s, "memory_mb": after, "growth_mb": {name: after[name] - before[name] for name in after}}


def memory_mb() -> dict[str, float]:
    """Return what the kernel says this process has resident, in MB: all, its own (anonymous), pages of files."""
    names = {"VmRSS": "rss", "RssAnon": "anonymous", "RssFile": "files"}
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {names[name]: int(words[0]) * 1024 / 1e6 for head, *words in lines if (name := head.rstrip(":")) in names}


def speed(engine: Engine, data: DataSet, folder: Path) -> dict[str, Any]:
    """Sweep the query parameter of an engine, and measure it at equal recall.

    Returns:
        The curve, a list of points; "at", for each target the figures at the cheapest setting that reaches it, or None;
        for ae-search, "default" with the figures of its own setting.
    """
    engine.open(folder)
    queries = data.queries() if engine.parameter else data.queries()[:EXACT_QUERIES]
    result: dict[str, Any] = {}
    if isinstance(engine, AeSearch):
        _point(engine, data, queries[:_WARM_UP])
        setting = engine.index.manifest.effort
        result["default"] = {"setting": setting} | _figures(engine, data, queries)
    points = _sweep(engine, data, queries)
    result["curve"] = [{"setting": setting} | points[setting] for setting in sorted(points)]
    result["at"] = {}
    for target in TARGETS:
        chosen = _cheapest(points, target)
        if chosen is not None:
            engine.tell(chosen)
        figures = None if chosen is None else {"setting": chosen} | _figures(engine, data, queries)
        result["at"][str(target)] = figures
    return result


def _sweep(engine: Engine, data: DataSet, queries: Latents) -> dict[int, dict[str, float]]:
    """Double the setting until once past the last target, then close in on each target."""
    points: dict[int, dict[str, float]] = {}

    def measure(setting: int) -> None:
        engine.tell(setting)
        points[setting] = _point(engine, data, queries)

    engine.tell(engine.first)
    _point(engine, data, queries[:_WARM_UP])
    for doubling in range(_DOUBLINGS if engine.parameter else 1):
        is_last = _cheapest(points, TARGETS[-1]) is not None
        setting = engine.first << doubling
        measure(setting)
        if is_last or points[setting]["median_ms"] > _SLOWEST_MS:
            break
    for target in TARGETS:
        while (middle := _between(points, target)) is not None:
            measure(middle)
    return points


def _cheapest(points: dict[int, dict[str, float]], target: float) -> int | None:
    return min((setting for setting, point in points.items() if point["recall"] >= target), default=None)


def _between(points: dict[int, dict[str, float]], target: float) -> int | None:
    """Return a setting between the cheapest that reaches the target and the one before, None if they are close."""
    high = _cheapest(points, target)
    low = max((setting for setting in points if high is not None and setting < high), default=None)
    if high is None or low is None or high <= low * _CLOSE_ENOUGH:
        return None
    middle = round(math.sqrt(low * high))
    return None if middle in (low, high) else middle


def _point(engine: Engine, data: DataSet, queries: Latents) -> dict[str, float]:
    """Measure recall and median latency by asking each query once."""
    answers, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        answer = engine.query(query)
        seconds.append(time.perf_counter() - start)
        answers.append(engine.ids(answer))
    recall = hits(data, answers) / (K * len(queries))
    return {"recall": recall, "median_ms": 1e3 * float(np.median(seconds))}


def _figures(engine: Engine, data: DataSet, queries: Latents) -> dict[str, float]:
    """Measure recall, latency over a few rounds of the queries, and queries a second in one batch."""
    recall = _point(engine, data, queries)["recall"]
    seconds: list[float] = []
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        for query in queries:
            start = time.perf_counter()
            engine.query(query)
            seconds.append(time.perf_counter() - start)
        if time.perf_counter() - began > _ROUNDS_S:
            break
    every = data.queries()
    batches = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        engine.batch(every)
        batches.append(time.perf_counter() - start)
    median, p99 = (1e3 * float(value) for value in np.percentile(seconds, (50, 99)))
    progress(f"  {engine.name}: recall {recall:.4f}, median {median:.3f} ms")
    return {
        "recall": recall,
        "median_ms": median,
        "p99_ms": p99,
        "batch_per_s": len(every) / float(np.median(batches)),
    }
