"""An index on PostgreSQL beside one in a folder: run it with `make bench-postgres`.

Both get the same clustered latents. Recall and time of a query are measured by new queries, one at a time.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from postgres_server import PostgresServer

from ae_search.contract import Index, ModelCard, Where
from ae_search.index import BuildOptions
from ae_search.open_index import build_index, open_index
from ae_search.remote_index.postgres import HnswOptions
from bench import report
from bench.datasets import CACHE, DataSet, synthetic

PACKAGES = ("ae-search", "annoy", "numpy", "psycopg")
ROWS, QUICK_ROWS = 1_000_000, 20_000
SEED = 42
BLOCK = 10_000
QUERIES = 200
FILTERS: tuple[tuple[str, Where], ...] = (
    ("label, 1 %", {"label": "rare"}),
    ("asked field, 1 %", {"asked": 7}),
    ("field without an index, 1 %", {"plain": 7}),
    ("half of all", {"half": 1}),
)


def main() -> None:
    """Measure, print, and write the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=ROWS, help="fewer, for a trial")
    arguments.add_argument("--quick", action="store_true", help="few rows, for a trial")
    asked = arguments.parse_args()
    rows = QUICK_ROWS if asked.quick else asked.rows
    data = synthetic(rows, seed=SEED)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder, closing(_server()) as server:
        url = server.database("bench")
        places: dict[str, tuple[str, BuildOptions]] = {
            "folder, Annoy": (str(Path(folder) / "index"), BuildOptions()),
            "PostgreSQL, vector": (f"{url}&index=full", BuildOptions(HnswOptions(fields=("asked",)))),
            "PostgreSQL, halfvec": (f"{url}&index=half", BuildOptions(HnswOptions(halfvec=True, fields=("asked",)))),
        }
        results = {name: _measure(data, *place) for name, place in places.items()}
    folder = report.HERE / "results" if rows == ROWS else CACHE / "trial"
    about = {"machine": report.machine(PACKAGES), "rows": rows, "results": results}
    for name, figures in results.items():
        print(name, json.dumps(figures, indent=2))
    print(f"wrote {report.write_figures(about, 'postgres', folder)}")


def _server() -> PostgresServer:
    return PostgresServer(shared_buffers="1GB", max_wal_size="4GB", max_parallel_maintenance_workers="2")


def _measure(data: DataSet, place: str, options: BuildOptions) -> dict[str, Any]:
    latents, queries = data.latents(), data.queries()[:QUERIES]
    count, dim = latents.shape
    card = ModelCard("bench", 1, "ab" * 32, (28, 28, 1), dim)
    began = time.perf_counter()
    with build_index(place, card, options) as builder:
        for start in range(0, count, BLOCK):
            numbers = range(start, min(start + BLOCK, count))
            labels = ["rare" if number % 100 == 7 else f"label-{number % 10}" for number in numbers]
            metadata = [{"asked": number % 100, "plain": number % 100, "half": number % 2} for number in numbers]
            builder.add(latents[start : numbers.stop], [f"key-{n}" for n in numbers], labels, metadata=metadata)
    figures: dict[str, Any] = {"build_s": round(time.perf_counter() - began, 1), "stages_s": dict(builder.seconds)}
    with open_index(place) as index:
        info = index.info()
        figures |= {"bytes": info.bytes, "effort": info.effort, "recall_at_build": info.recall}
        figures["search"] = _queries(index, queries, None)
        for name, where in FILTERS:
            figures[name] = _queries(index, queries[:50], where)
        figures["add_1_ms"] = _median_ms(lambda at: index.add(queries[at : at + 1], [f"new-{at}"]), 50)
        figures["remove_1_ms"] = _median_ms(lambda at: index.remove([f"new-{at}"]), 50)
    return figures


def _queries(index: Index, queries: npt.NDArray[np.float32], where: Where | None) -> dict[str, float]:
    truth = [{n.key for n in row} for row in index.search(queries[:50], 10, where=where, exact=True)]
    found = [{n.key for n in index.search(query, 10, where=where)[0]} for query in queries[:50]]
    shares = [len(a & b) / max(1, len(b)) for a, b in zip(found, truth, strict=True)]
    median = _median_ms(lambda at: index.search(queries[at], 10, where=where), len(queries))
    return {"recall": round(float(np.mean(shares)), 4), "median_ms": median, "fewest": min(map(len, found))}


def _median_ms(work: Callable[[int], object], times: int) -> float:
    seconds = []
    for at in range(times):
        began = time.perf_counter()
        work(at)
        seconds.append(time.perf_counter() - began)
    return round(1e3 * float(np.median(seconds)), 3)


if __name__ == "__main__":
    main()
