"""The benchmark of large indexes: run it with `make bench-large`.

Latents are drawn as a stream and never sit in memory together. Each engine's index is built, measured and removed, from
the smallest size to the largest, so that the tables show how everything grows.
"""

import argparse
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents, ModelCard
from bench import report
from bench.datasets import CACHE, DIM, K
from bench.large_tables import tables
from bench.measure import memory_mb
from bench.mixture import QUERIES, Mixture
from bench.progress import Disk, in_fresh_process, progress
from bench.record import Record, path_of

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
QUICK_SIZES = (10_000,)
ENGINES = ("faiss", "faiss-8bit", "annoy")
PACKAGES = ("ae-search", "annoy", "numpy", "faiss-cpu")
COLD_QUERIES = 100
PLACE = CACHE / "large"
# Bytes an item while it is compacted: the old generation, the new one, and the latents on their way; a tenth more.
BYTES_PER_ITEM = {"faiss": 3100, "faiss-8bit": 2300, "annoy": 3500}
TARGETS = (0.95, 0.99)


def main() -> int:
    """Run the benchmark; return 1 where there is no room for it."""
    arguments = _arguments()
    sizes, engines = arguments.items or (QUICK_SIZES if arguments.quick else SIZES), tuple(arguments.engine or ENGINES)
    is_trial = not (arguments.keep or arguments.go_on) and (sizes, engines) != (SIZES, ENGINES)
    folder = CACHE / "trial" if is_trial else report.HERE / "results"
    for path in (PLACE, folder):
        path.mkdir(parents=True, exist_ok=True)
    needed, free = max(BYTES_PER_ITEM[name] for name in engines) * sizes[-1], shutil.disk_usage(PLACE).free
    if free < needed:
        print(f"{sizes[-1]} items take up to {needed / 1e9:.1f} GB; {PLACE} has {free / 1e9:.1f} GB", file=sys.stderr)
        return 1
    about = report.machine(PACKAGES)
    results: dict[str, Any] = {"machine": about, "sizes": _measured_before(about) if arguments.go_on else []}
    for items in sizes:
        measured = _of_size(results["sizes"], items)
        missing = [name for name in engines if name not in measured]
        if not missing:
            continue
        mixture = Mixture(items)
        progress(f"exact neighbours of {QUERIES} queries among {items} items")
        radii = in_fresh_process(Mixture.radii, mixture)
        for name in missing:
            measured[name] = _measure(name, mixture, radii)
            # What took hours is kept, whatever becomes of the rest.
            print(f"wrote {report.write_figures(results, 'large', folder)}")
    for page in (report.README,) if is_trial else (report.README, report.FIGURES):
        print(f"wrote {report.write_tables(tables(results), 'large', folder if is_trial else None, page=page)}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("make bench-large BENCH_ARGS='...'", description=__doc__)
    parser.add_argument("--items", type=_sizes, help="items, as 10000,1000000, for a smaller run")
    parser.add_argument("--quick", action="store_true", help="few items, for a trial")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="measure this engine; may be repeated")
    parser.add_argument("--keep", action="store_true", help="let the figures of a smaller run be the repository's")
    parser.add_argument("--go-on", action="store_true", help="add to the repository's figures what they lack")
    return parser.parse_args()


def _measured_before(machine: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the repository has of this version, measured on a machine and with packages like these."""
    path = path_of("large", machine["packages"]["ae-search"])
    if not path.exists():
        return []
    before = Record.read(path).results()
    same = ("cpu", "cores", "memory_gb", "python", "packages")
    if any(before["machine"][name] != machine[name] for name in same):
        raise SystemExit(f"{path} is of another machine or other packages; measure all anew, without --go-on.")
    sizes: list[dict[str, Any]] = before["sizes"]
    return sizes


def _of_size(sizes: list[dict[str, Any]], items: int) -> dict[str, Any]:
    """Return the engines measured at a size, which is put among the sizes in order where it is new."""
    for size in sizes:
        if size["items"] == items:
            found: dict[str, Any] = size["engines"]
            return found
    sizes.append({"items": items, "engines": {}})
    sizes.sort(key=lambda size: int(size["items"]))
    return _of_size(sizes, items)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(size) for size in text.split(",")))


def _measure(name: str, mixture: Mixture, radii: npt.NDArray[np.float64]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    place = PLACE / name
    for old in PLACE.iterdir():  # also what a run with another engine left when it was killed
        shutil.rmtree(old, ignore_errors=True)
    try:
        with Disk(PLACE) as disk:
            for what, job, given in (
                ("build", _build, (name, mixture)),
                ("warm", _warm, (mixture, radii)),
                ("cold", _cold, (name, mixture)),
                ("reader", _reader, (mixture,)),
                ("adds", _adds, (mixture,)),
                ("compact", _compact, (mixture,)),
                ("verify", _verify, ()),
            ):
                progress(f"{name}, {mixture.items} items: {what}")
                found[what] = in_fresh_process(job, place, *given)  # type: ignore[arg-type]
                progress(f"  {found[what]}")
        found["disk"] = {"most_bytes_per_item": disk.most_bytes / mixture.items}
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return found


def _build(place: Path, name: str, mixture: Mixture) -> dict[str, Any]:
    from ae_search.index import BuildOptions, IndexBuilder
    from ae_search.index.options import engine_options

    card = ModelCard("bench", 1, "0" * 64, (28, 28, 1), DIM, "angular")
    options, start, count = BuildOptions(engine_options(name), recall=TARGETS[0]), time.perf_counter(), 0
    with IndexBuilder(place, card, options) as builder:
        for block in mixture.blocks():
            builder.add(block, [f"item/{at}" for at in range(count, count + len(block))])
            count += len(block)
    seconds = {"wall": time.perf_counter() - start, **builder.seconds}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return {"seconds": seconds, "peak_mb": peak_mb, "bytes_per_item": size / mixture.items}


def _warm(place: Path, mixture: Mixture, radii: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Raise the effort until each target is reached; the page cache holds what it may."""
    from ae_search.index import LatentIndex

    index, queries, found = LatentIndex.open(place), mixture.queries(), {}
    effort = index.manifest.effort
    for target in TARGETS:
        while True:
            point = _point(index, queries, radii, effort)
            if point["recall"] >= target or effort > 2**24:
                break
            effort = max(effort + 1, effort * 5 // 4)
        found[str(target)] = point
    return found


def _point(index: Any, queries: Latents, radii: npt.NDArray[np.float64], effort: int) -> dict[str, float]:
    seconds, right = [], 0
    for query, radius in zip(queries, radii, strict=True):
        start = time.perf_counter()
        (found,) = index.search(query, K, effort=effort)
        seconds.append(time.perf_counter() - start)
        right += sum(neighbour.distance <= radius + 1e-4 for neighbour in found)
    return {"effort": effort, "recall": right / (K * len(queries))} | _milliseconds(seconds)


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    median, p99 = np.percentile(seconds, (50, 99))
    return {"median_ms": 1e3 * float(median), "p99_ms": 1e3 * float(p99)}


def _cold(place: Path, name: str, mixture: Mixture) -> dict[str, float]:
    """Ask the first queries after the pages of all files were dropped."""
    from ae_search.index import LatentIndex
    from ae_search.index.engine import engine_of
    from ae_search.index.options import engine_options

    engine_of(engine_options(name))  # imports its library
    # The pages that a process has mapped cannot be dropped: nobody has opened the index in this one.
    for path in place.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    start = time.perf_counter()
    index = LatentIndex.open(place)
    opened_s, seconds = time.perf_counter() - start, []
    for query in mixture.queries(COLD_QUERIES):
        start = time.perf_counter()
        index.search(query, K)
        seconds.append(time.perf_counter() - start)
    return {"open_s": opened_s, "first_ms": 1e3 * seconds[0]} | _milliseconds(seconds)


def _reader(place: Path, mixture: Mixture) -> dict[str, Any]:
    from ae_search.index import LatentIndex

    LatentIndex.open(place).search(mixture.queries(1), K)
    before, start = memory_mb(), time.perf_counter()
    index = LatentIndex.open(place)
    opened_s = time.perf_counter() - start
    index.search(mixture.queries(100), K)
    after = memory_mb()
    return {"open_s": opened_s} | {f"{name}_mb": after[name] - before[name] for name in after}


def _adds(place: Path, mixture: Mixture) -> dict[str, float]:
    from ae_search.index import LatentIndex

    index, rows = LatentIndex.open(place), mixture.added()
    start = time.perf_counter()
    index.add(rows, [f"added/{at}" for at in range(len(rows))])
    added_s, seconds = time.perf_counter() - start, []
    for query in mixture.queries():
        start = time.perf_counter()
        index.search(query, K)
        seconds.append(time.perf_counter() - start)
    return {"items": len(rows), "added_s": added_s} | _milliseconds(seconds)


def _compact(place: Path, mixture: Mixture) -> dict[str, float]:
    """Fold the additions in while another thread searches."""
    from ae_search.index import LatentIndex

    index, reader, done = LatentIndex.open(place), LatentIndex.open(place), threading.Event()
    seconds: list[float] = []

    def search() -> None:
        queries = mixture.queries()
        while not done.wait(0.05):
            start = time.perf_counter()
            reader.search(queries[len(seconds) % len(queries)], K)
            seconds.append(time.perf_counter() - start)

    thread = threading.Thread(target=search)
    thread.start()
    start = time.perf_counter()
    try:
        index.compact()
    finally:
        done.set()
        thread.join()
    return {"compact_s": time.perf_counter() - start, "searches": len(seconds)} | _milliseconds(seconds)


def _verify(place: Path) -> dict[str, Any]:
    from ae_search.open_index import verify_index

    start = time.perf_counter()
    faults = [check.fault for check in verify_index(place) if check.fault]
    return {"verify_s": time.perf_counter() - start, "faults": faults}


if __name__ == "__main__":
    raise SystemExit(main())
