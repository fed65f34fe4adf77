"""What the project promises of its index, measured and judged."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.check import Check
from bench.datasets import DataSet, K
from bench.engines import Annoy
from bench.progress import CORES

REPEATS = 5
# 2,000 queries of each side in each repeat.
PASSES = 2
TURN = 250
# What a search may add to its engine's own time is promised for so many.
PROMISED_ITEMS = 60_000


def wrapper_cost(data: DataSet, folder: Path) -> dict[str, float]:
    """Compare one query through the package with the same query to Annoy, same forest, same `search_k`.

    Returns:
        `search_k`; medians in microseconds of the package and of Annoy, given the same array or a ready list; and the
        median over the repeats of the package's cost above each.
    """
    from ae_search.index import LatentIndex

    index, forest, search_k = LatentIndex.open(folder), _forest(folder), _search_k(folder)
    rows = list(data.queries())
    lists = [row.tolist() for row in rows]
    found = medians(
        len(rows),
        lambda at: index.search(rows[at], K, effort=search_k),
        lambda at: forest.get_nns_by_vector(rows[at], K, search_k, include_distances=True),
        lambda at: forest.get_nns_by_vector(lists[at], K, search_k, include_distances=True),
    )
    package, annoy, annoy_list = 1e6 * np.median(found, axis=0)
    above = 1e6 * np.median(found[:, :1] - found[:, 1:], axis=0)
    return {
        "search_k": search_k,
        "package_us": float(package),
        "annoy_us": float(annoy),
        "annoy_list_us": float(annoy_list),
        "above_annoy_us": float(above[0]),
        "above_annoy_list_us": float(above[1]),
    }


def batch_ratio(data: DataSet, folder: Path) -> dict[str, float]:
    """Compare one call with all queries with Annoy on all cores, same forest, same `search_k`.

    Returns:
        Median queries a second of both, and the median over the repeats of package / Annoy.
    """
    from ae_search.index import LatentIndex

    index, search_k = LatentIndex.open(folder), _search_k(folder)
    annoy = Annoy(0, 0)
    annoy.load(_forest_file(folder))
    annoy.tell(search_k)
    queries = data.queries()
    sides: tuple[Callable[[], object], ...] = (
        lambda: index.search(queries, K, effort=search_k),
        lambda: annoy.batch(queries),
    )
    for side in sides:
        side()
    seconds = np.array([[seconds_of(side) for side in sides] for _ in range(2 * REPEATS)])
    package, raw = len(queries) / np.median(seconds, axis=0)
    ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
    return {"package_per_s": float(package), "annoy_per_s": float(raw), "ratio": ratio, "cores": CORES}


def adds(data: DataSet, folder: Path) -> dict[str, float]:
    """Add 10,000 items to a copy of an index in one call.

    Returns:
        Seconds of the call, and milliseconds by which it slows the median query.
    """
    from ae_search.index import LatentIndex

    copy = folder.with_name(f"{folder.name}-with-adds")
    shutil.copytree(folder, copy)
    try:
        latents = data.added()
        keys = [f"added/{item}" for item in range(len(latents))]
        before, after = LatentIndex.open(folder), LatentIndex.open(copy)
        start = time.perf_counter()
        after.add(latents, keys, ["added"] * len(keys))
        added_s = time.perf_counter() - start
        _require_found(after.search(latents[:100], 1), keys)
        rows = list(data.queries())
        found = medians(len(rows), lambda at: before.search(rows[at], K), lambda at: after.search(rows[at], K))
    finally:
        shutil.rmtree(copy)
    slower_ms = 1e3 * float(np.median(found[:, 1] - found[:, 0]))
    return {"items": len(keys), "added_s": added_s, "slower_ms": slower_ms}


def judge(results: list[dict[str, Any]]) -> list[Check]:
    """Hold the results of the data sets that all engines were measured on to what is promised."""
    checks: list[Check] = []
    for result in results:
        name, engines, found = f"{result['name']} {result['items']}", result["engines"], result["checks"]
        ours, annoy = engines["ae-search"], engines["annoy"]
        forest = ours["seconds"]["base"] / annoy["seconds"]["wall"]
        if result["items"] == PROMISED_ITEMS:
            checks += [Check(f"wrapper cost, {name}", found["wrapper_cost"]["above_annoy_us"], 45.0, "us")]
        checks += [
            Check(f"batch against Annoy on all cores, {name}", found["batch_ratio"]["ratio"], 0.9, "x", at_most=False),
            Check(f"recall at the default, {name}", ours["default"]["recall"], 0.98, at_most=False),
            Check(f"forest against Annoy's build, {name}", forest, 1.3, "x"),
        ]
        if "adds" in found:
            own_mb = ours["reader"]["growth_mb"]["anonymous"]
            checks += [
                Check(f"second open, {name}", ours["reader"]["open_s"], 1.0, "s"),
                Check(f"reader's own memory, {name}", own_mb, 100.0, "MB"),
                Check(f"10,000 adds in one call, {name}", found["adds"]["added_s"], 2.0, "s"),
                Check(f"10,000 adds slow the median query by, {name}", found["adds"]["slower_ms"], 1.0, "ms"),
            ]
    return checks


def medians(count: int, *sides: Callable[[int], object]) -> npt.NDArray[np.float64]:
    """Time the sides over all queries, in turns of some hundred; return median seconds `[repeats, sides]`.

    Short turns share the machine's moods. Within one, a side finds the caches as it left them itself, as in use.
    """
    medians = np.empty((REPEATS, len(sides)))
    for repeat in range(-1, REPEATS):
        seconds: list[list[float]] = [[] for _ in sides]
        # The first repeat only warms up.
        for first in range(0, count * (PASSES if repeat >= 0 else 1), TURN):
            for number, side in enumerate(sides):
                for at in range(first, first + TURN):
                    start = time.perf_counter()
                    side(at % count)
                    seconds[number].append(time.perf_counter() - start)
        if repeat >= 0:
            medians[repeat] = np.median(seconds, axis=1)
    return medians


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call takes, in s."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _require_found(answers: Sequence[Any], keys: list[str]) -> None:
    missed = [key for (nearest, *_), key in zip(answers, keys, strict=False) if nearest.key != key]
    if missed:
        raise RuntimeError(f"A search does not find what was added: {missed[:3]}.")


def _forest_file(folder: Path) -> Path:
    (path,) = folder.glob("generation-*/forest.ann")
    return path


def _forest(folder: Path) -> Any:
    annoy = Annoy(0, 0)
    annoy.load(_forest_file(folder))
    return annoy.forest


def _search_k(folder: Path) -> int:
    from ae_search.index import LatentIndex

    with LatentIndex.open(folder) as index:
        return index.manifest.effort
