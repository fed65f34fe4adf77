"""What is promised of the index with faiss, against faiss itself; and of filters, with either engine."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import ModelCard
from bench.check import Check
from bench.checks import REPEATS, medians, seconds_of
from bench.datasets import DIM, DataSet, K
from bench.progress import CORES

# Queries that are compared with every item under a filter.
FILTERED = 100
# Shares of the items that filters leave.
SHARES = (0.01, 0.1, 0.5)
_BLOCK = 32_768


def faiss_cost(data: DataSet, folder: Path, effort: int) -> dict[str, float]:
    """Compare queries through the package with the same ones to faiss, same cells, same number of them.

    Returns:
        Medians of one query in microseconds, of the package and of faiss, and the median over the repeats of the cost
        above it; queries a second of both in one batch on all cores, and the median of package / faiss.
    """
    import faiss

    from ae_search.index import LatentIndex

    # The engine owns the lists that its index points to.
    index, engine = LatentIndex.open(folder), _engine(folder)
    bare = engine.index
    parameters, queries = faiss.SearchParametersIVF(nprobe=effort), data.queries()
    rows = list(queries)
    found = medians(
        len(rows),
        lambda at: index.search(rows[at], K, effort=effort),
        lambda at: bare.search(rows[at][np.newaxis], K, params=parameters),
    )
    package, own = 1e6 * np.median(found, axis=0)
    faiss.omp_set_num_threads(CORES)
    sides = (lambda: index.search(queries, K, effort=effort), lambda: bare.search(queries, K, params=parameters))
    for side in sides:
        side()

    def rested(side: Callable[[], Any]) -> float:
        time.sleep(0.05)  # faiss's threads go on spinning for a while
        return seconds_of(side)

    seconds = np.array([[rested(side) for side in sides] for _ in range(2 * REPEATS)])
    return {
        "effort": effort,
        "package_us": float(package),
        "faiss_us": float(own),
        "above_us": float(1e6 * np.median(found[:, 0] - found[:, 1])),
        "package_per_s": float(len(rows) / np.median(seconds[:, 0])),
        "faiss_per_s": float(len(rows) / np.median(seconds[:, 1])),
        "ratio": float(np.median(seconds[:, 1] / seconds[:, 0])),
    }


def _engine(folder: Path) -> Any:
    """Return the engine of the cells in a folder, whose `index` is faiss's own."""
    from ae_search.index.engine.faiss import FaissEngine
    from ae_search.index.manifest import Manifest, live_generation
    from ae_search.index.options import FaissOptions

    generation = live_generation(folder)
    manifest = Manifest.read(generation)
    assert isinstance(manifest.engine, FaissOptions)
    return FaissEngine.open(generation / FaissEngine.file, manifest.base_shape, manifest.engine)


def filters(data: DataSet, folder: Path, engine: str) -> dict[str, Any]:
    """Build an index with a field of random numbers, and search under filters that leave some shares of the items.

    Returns:
        For each share: the median of a query in ms, that of one without a filter, recall, and the fewest answers.
    """
    from ae_search.index import BuildOptions, IndexBuilder, LatentIndex
    from ae_search.index.options import engine_options

    numbers, found = np.random.default_rng(5).permutation(data.items), {}
    card = ModelCard("bench", 1, "0" * 64, (28, 28, 1), DIM, "angular")
    place = folder.with_name(f"filters-{engine}")
    shutil.rmtree(place, ignore_errors=True)
    try:
        with IndexBuilder(place, card, BuildOptions(engine_options(engine), fields=("n",))) as builder:
            for start in range(0, data.items, _BLOCK):
                some = numbers[start : start + _BLOCK]
                keys = [str(at) for at in range(start, start + len(some))]
                builder.add(
                    np.array(data.latents()[start : start + _BLOCK]), keys, metadata=[{"n": int(one)} for one in some]
                )
        index = LatentIndex.open(place)
        for share in SHARES:
            found[str(share)] = _filtered(index, data, numbers, share)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return found


def _filtered(index: Any, data: DataSet, numbers: npt.NDArray[np.int64], share: float) -> dict[str, float]:
    most = int(share * data.items)
    where, rows, ids = {"n": {"lt": most}}, list(data.queries()), np.flatnonzero(numbers < most)
    first = seconds_of(lambda: index.keys(where=where))
    for row in rows[:10]:
        index.search(row, K, where=where)
    found = medians(len(rows), lambda at: index.search(rows[at], K, where=where), lambda at: index.search(rows[at], K))
    answers = [index.search(row, K, where=where)[0] for row in rows[:FILTERED]]
    truth = _nearest(data, ids)
    right = sum(len({int(one.key) for one in row} & set(true)) for row, true in zip(answers, truth, strict=True))
    with_filter, without = 1e3 * np.median(found, axis=0)
    return {
        "ms": float(with_filter),
        "without_ms": float(without),
        "times": float(with_filter / without),
        "recall": right / (K * len(answers)),
        "fewest": min(map(len, answers)),
        "keys_s": first,
    }


def _nearest(data: DataSet, ids: npt.NDArray[np.int64]) -> list[list[int]]:
    queries = data.queries()[:FILTERED]
    scores, best = np.empty((FILTERED, 0), np.float32), np.empty((FILTERED, 0), np.int64)
    for start in range(0, len(ids), _BLOCK):
        some = ids[start : start + _BLOCK]
        rows = data.latents()[some]
        own = queries @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
        scores = np.hstack([scores, own])
        best = np.hstack([best, np.broadcast_to(some, own.shape)])
        top = np.argsort(-scores, axis=1)[:, :K]
        scores, best = np.take_along_axis(scores, top, 1), np.take_along_axis(best, top, 1)
    nearest: list[list[int]] = best.tolist()
    return nearest


def judge_faiss(result: dict[str, Any]) -> list[Check]:
    """Hold what was measured on one data set to what is promised."""
    name, engines, found = f"{result['name']} {result['items']}", result["engines"], result["faiss"]
    ours, cost = engines["ae-search faiss"], found["cost"]
    at_most_us = 90.0 if result["items"] <= 100_000 else 170.0
    checks = [
        Check(f"faiss: one query above faiss's own, {name}", cost["above_us"], 45.0, "us"),
        Check(f"faiss: one query at recall 0.99, {name}", 1e3 * ours["at"]["0.99"]["median_ms"], at_most_us, "us"),
        Check(f"faiss: batch against faiss on all cores, {name}", cost["ratio"], 0.8, "x", at_most=False),
        Check(f"faiss: recall at the default, {name}", ours["default"]["recall"], 0.98, at_most=False),
    ]
    if result["items"] >= 1_000_000:
        bare = engines.get("faiss IVF")
        if bare is not None:
            cells = ours["seconds"]["base"] / bare["seconds"]["wall"]
            checks.append(Check(f"faiss: cells against faiss's build, {name}", cells, 1.2, "x"))
        own_mb = ours["reader"]["growth_mb"]["anonymous"]
        checks += [
            Check(f"faiss: second open, {name}", ours["reader"]["open_s"], 0.5, "s"),
            Check(f"faiss: reader's own memory, {name}", own_mb, 100.0, "MB"),
        ]
    for engine, shares in found["filters"].items():
        for share, figures in shares.items():
            what = f"{engine}: filter that leaves {float(share):.0%}, {name}"
            checks += [
                Check(f"{what}, recall", figures["recall"], 0.98, at_most=False),
                Check(f"{what}, answers", figures["fewest"], K, at_most=False),
                Check(f"{what}, times a search without", figures["times"], 5.0, "x"),
            ]
    return checks
