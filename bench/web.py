"""The benchmark of the service: run it with `make bench-web`."""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench import client_cases as cases
from bench import report
from bench import web_load as load
from bench.check import Check
from bench.datasets import CACHE
from bench.progress import CORES, in_fresh_process, progress
from bench.served import EXPORTS, export_models, served

PACKAGES = ("ae-search", "fastapi", "uvicorn", "numpy", "grpcio", "tensorflow", "keras")
TRIAL = CACHE / "trial"
INDEX, PHOTO_INDEX = CACHE / "web-index", CACHE / "web-photo-index"
TURNS = 3
MOST_PAGE_KB = 100


def main() -> int:
    """Run the benchmark; return 1 if a promise is broken."""
    arguments = _arguments()
    in_fresh_process(export_models)
    in_fresh_process(cases.write_fashion)
    in_fresh_process(load.make_index, EXPORTS / "tutorial", INDEX)
    in_fresh_process(load.make_photo_index, EXPORTS / "photos", PHOTO_INDEX)
    results: dict[str, Any] = {"machine": report.machine(PACKAGES)}
    parts = {
        "single": _single,
        "callers": lambda: _callers(3.0 if arguments.quick else 10.0),
        "photograph": _photograph,
        "page": _page,
    }
    for name, part in parts.items():
        if name in (arguments.only or parts):
            progress(f"measuring {name}")
            results[name] = part()
    checks = _judge(results)
    results["checks"] = [check.as_dict() for check in checks]
    trial = TRIAL if arguments.quick or arguments.only else None
    folder = trial or report.HERE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"wrote {report.write_figures(results, 'web', folder)}")
    print(f"wrote {report.write_tables(_tables(results), 'web', trial)}")
    for check in checks:
        print(check)
    return 0 if all(check.passed for check in checks) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("make bench-web BENCH_ARGS='...'", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer seconds, for a trial")
    names = ("single", "callers", "photograph", "page")
    parser.add_argument("--only", action="append", choices=names, help="measure this only; may be repeated")
    return parser.parse_args()


@contextmanager
def serving(index: Path, address: str, workers: int = 1) -> Iterator[str]:
    """Run `ae-search web` as a user does; yield HOST:PORT."""
    command = [sys.executable, "-m", "ae_search", "-q", "web", "--index", str(index), "--server", address]
    command += ["--model-name", "default", "--port", "0", "--workers", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if "http://" not in line:
                raise RuntimeError(f"the service did not start: {line!r}")
            where = line.split("http://")[1].strip()
            load.wait_until_ready(where)
            yield where
        finally:
            process.terminate()
            process.wait(60)


def _single() -> dict[str, float]:
    """Measure one PNG, in process and by POST in turn, against the same model server."""
    with served(EXPORTS / "tutorial") as server, serving(INDEX, server.address) as where:
        return _medians([in_fresh_process(load.single, server.address, INDEX, where) for _ in range(TURNS)])


def _callers(seconds: float) -> dict[str, Any]:
    """Measure 32 callers: of the search in one process, and of the service with one process and one a core."""
    ways = {"AsyncImageSearch": 0, "service, 1 process": 1, f"service, {CORES} processes": CORES}
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(TURNS):
        for way, workers in ways.items():
            with served(EXPORTS / "tutorial", "--batching") as server:
                if not workers:
                    rows[way].append(in_fresh_process(load.search_callers, server.address, INDEX, seconds))
                    continue
                with serving(INDEX, server.address, workers) as where:
                    rows[way].append(in_fresh_process(load.http_callers, where, seconds))
    return {way: _medians(runs) for way, runs in rows.items()}


def _photograph() -> dict[str, float]:
    """Measure a photograph of 12 megapixels, from its bytes to ten neighbours, with their thumbnails over HTTP."""
    with served(EXPORTS / "photos") as server, serving(PHOTO_INDEX, server.address) as where:
        return _medians([in_fresh_process(load.photograph, server.address, PHOTO_INDEX, where) for _ in range(TURNS)])


def _page() -> dict[str, float]:
    from ae_search.web.pages import page_files

    files = [file for name, file in page_files().items() if name.endswith((".html", ".css", ".js"))]
    sizes = {"kb": sum(len(file.packed) for file in files), "unpacked_kb": sum(len(file.content) for file in files)}
    return {name: size / 1000 for name, size in sizes.items()} | {"files": float(len(files))}


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def _judge(results: dict[str, Any]) -> list[Check]:
    checks = []
    if single := results.get("single"):
        checks.append(Check("one PNG by POST, of the search in process", single["http_ms"] / single["python_ms"], 1.5))
    if callers := results.get("callers"):
        alone = callers["AsyncImageSearch"]["per_s"]
        best = max(figures["per_s"] for way, figures in callers.items() if way.startswith("service"))
        checks.append(Check("32 callers, answers a second, of AsyncImageSearch's", best / alone, 0.6, at_most=False))
    if photo := results.get("photograph"):
        ratio = photo["http_ms"] / photo["python_ms"]
        checks.append(Check("12 megapixels to ten neighbours and thumbnails, of the search in process", ratio, 1.5))
    if page := results.get("page"):
        checks.append(Check("page, scripts and styles, as sent", page["kb"], MOST_PAGE_KB, "KB"))
    return checks


def _tables(results: dict[str, Any]) -> str:
    head = report.where(results["machine"])
    rows = []
    for name, told in (("single", "one PNG, ten neighbours"), ("photograph", "12 megapixels, ten neighbours")):
        if figures := results.get(name):
            in_process, by_post = f"{figures['python_ms']:.2f} ms in process", f"{figures['http_ms']:.2f} ms over HTTP"
            rows.append([told, in_process, by_post])
    for way, figures in results.get("callers", {}).items():
        rows.append([f"32 callers, {way}", f"{figures['per_s']:.0f} a second", f"p99 {figures['p99_ms']:.1f} ms"])
    if page := results.get("page"):
        told = f"{page['unpacked_kb']:.1f} KB in {page['files']:.0f} files"
        rows.append(["page, scripts and styles", f"{page['kb']:.1f} KB as sent", told])
    return "\n\n".join([head, report.table(["what", "measured", "and"], rows), report.check_table(results["checks"])])


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    progress(f"done in {time.monotonic() - began:.0f} s")
    raise SystemExit(code)
