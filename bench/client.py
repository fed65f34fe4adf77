"""The benchmark of the client and the embedded server: run it with `make bench-client`."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import client_cases as cases
from bench import client_load, report
from bench.check import Check
from bench.datasets import CACHE
from bench.progress import in_fresh_process, progress
from bench.served import EXPORTS, export_models, served

PACKAGES = ("ae-search", "numpy", "grpcio", "protobuf", "tensorflow", "tensorflow-serving-api", "keras")
TRIAL = CACHE / "trial"
TURNS = 3
CALLING = {
    "without batching": (),
    "without batching, a thread for each caller": ("--grpc-max-threads", "32"),
    "with batching": ("--batching",),
}
SINGLE = ("ours", "official", "bare gRPC", "ours, 32 at once", "official, 32 at once")
SERVED = {"served": (), "served, tensor_content": ("--enable-serialization-as-tensor-content",)}


def main() -> int:
    """Run the benchmark; return 1 if a promise is broken."""
    arguments = _arguments()
    quick = arguments.quick
    in_fresh_process(export_models)
    in_fresh_process(cases.write_fashion)
    results: dict[str, Any] = {"machine": report.machine(PACKAGES)}
    parts = {
        "start": _start,
        "single": _single,
        "parsing": _parsing,
        "bulk": lambda: _bulk(6_000 if quick else 60_000),
        "photograph": _photograph,
        "callers": lambda: _callers(3.0 if quick else 10.0),
        "roll_over": lambda: _roll_over(9.0 if quick else 24.0),
    }
    for name, part in parts.items():
        if name in (arguments.only or parts):
            progress(f"measuring {name}")
            results[name] = part()
    checks = _judge(results)
    results["checks"] = [check.as_dict() for check in checks]
    trial = TRIAL if quick or arguments.only else None
    folder = trial or report.HERE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"wrote {report.write_figures(results, 'client', folder)}")
    print(f"wrote {report.write_tables(_tables(results), 'client', trial)}")
    for check in checks:
        print(check)
    return 0 if all(check.passed for check in checks) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("make bench-client BENCH_ARGS='...'", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images and seconds, for a trial")
    names = ("start", "single", "parsing", "bulk", "photograph", "callers", "roll_over")
    parser.add_argument("--only", action="append", choices=names, help="measure this only; may be repeated")
    return parser.parse_args()


def _start() -> dict[str, Any]:
    """Measure a process from its start to its first latents, ours and the official one in turn."""
    figures: dict[str, dict[str, list[float]]] = {way: {"s": [], "mb": []} for way in cases.FIRST_LATENTS}
    with tempfile.TemporaryDirectory() as folder, served(EXPORTS / "tutorial") as server:
        path = Path(folder, "image.npy")
        np.save(path, cases.fashion(1) / np.float32(255))
        for _ in range(TURNS):
            for way, code in cases.FIRST_LATENTS.items():
                began = time.perf_counter()
                command = [sys.executable, "-c", code, server.address, str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
                figures[way]["s"].append(time.perf_counter() - began)
                figures[way]["mb"].append(float(done.stdout))
    return {way: {name: median(values) for name, values in rows.items()} for way, rows in figures.items()}


def _single() -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in SINGLE}
    # As many threads as callers: what is refused and sent again would count twice.
    with served(EXPORTS / "tutorial", "--grpc-max-threads", "32") as server:
        for _ in range(TURNS):
            for way in rows:
                rows[way].append(in_fresh_process(cases.cpu_of_single_calls, server.address, way))
    return {way: _medians(runs) for way, runs in rows.items()}


def _parsing() -> dict[str, Any]:
    return {
        name: in_fresh_process(cases.cpu_of_parsing, as_content)
        for name, as_content in (("float_val", False), ("tensor_content", True))
    }


def _bulk(images: int) -> dict[str, Any]:
    figures = {}
    for model in ("tutorial", "conv"):
        rows: dict[str, list[dict[str, float]]] = {"in process": [], "served": [], "served, tensor_content": []}
        for _ in range(TURNS):
            rows["in process"].append(in_fresh_process(cases.bulk_in_process, EXPORTS / model / "1", images))
            for way, options in SERVED.items():
                with served(EXPORTS / model, *options) as server:
                    before = server.cpu_s()
                    run = in_fresh_process(cases.bulk_served, server.address, images)
                    # The client sends everything twice: once to warm up.
                    rows[way].append({**run, "server_cpu_s": (server.cpu_s() - before) / 2})
        figures[model] = {way: _medians(runs) for way, runs in rows.items()} | {"images": images}
    return figures


def _photograph() -> dict[str, float]:
    photos = Path(os.environ.get("AE_SEARCH_DATA", "")) / "photos"
    if not photos.is_dir():
        raise SystemExit("AE_SEARCH_DATA must name a folder with photos/: a tree of JPEG files")
    folder = CACHE / "photo-index"
    in_fresh_process(cases.make_photo_index, EXPORTS / "photos", photos, folder)
    with served(EXPORTS / "photos") as server:
        photo = sorted(photos.rglob("*.jpg"))[0]
        return _medians([in_fresh_process(cases.photograph, server.address, photo, folder) for _ in range(3)])


def _callers(seconds: float) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in CALLING}
    for _ in range(3):
        for way, options in CALLING.items():
            with served(EXPORTS / "tutorial", *options) as server:
                rows[way].append(in_fresh_process(client_load.many_callers, server.address, seconds))
    return {way: _medians(runs) for way, runs in rows.items()}


def _roll_over(seconds: float) -> dict[str, Any]:
    """Publish a version under load, where both stay and where the first is unloaded."""
    figures = {}
    for policy, pinned in (("latest:2", True), ("latest:1", False)):
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder, "rolled")
            shutil.copytree(EXPORTS / "tutorial" / "1", base / "1")
            with served(base, "--version-policy", policy, "--grpc-max-threads", "32") as server:
                figures[policy] = in_fresh_process(
                    client_load.roll_over, server.address, base, EXPORTS / "conv" / "1", seconds, pinned=pinned
                )
    return figures


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def _judge(results: dict[str, Any]) -> list[Check]:
    checks = []
    if start := results.get("start"):
        ours, official = start["ours"], start["official"]
        checks += [
            Check("process start to first latents, of the official stubs' time", ours["s"] / official["s"], 1 / 6),
            Check("memory then, of the official stubs'", ours["mb"] / official["mb"], 1 / 6),
        ]
    if single := results.get("single"):
        # gRPC takes more than half of a call by itself, whoever calls.
        above = {way: single[way]["cpu_us"] - single["bare gRPC"]["cpu_us"] for way in ("ours", "official")}
        name = "CPU of the client for one image a call, above bare gRPC"
        checks += [
            Check(name, above["ours"], 75.0, "us"),
            Check(f"{name}, of the official stubs'", above["ours"] / above["official"], 0.5),
        ]
        ratio = single["ours, 32 at once"]["cpu_us"] / single["official, 32 at once"]["cpu_us"]
        checks.append(Check("CPU of the client for one image a call, 32 at once, of the official stubs'", ratio, 0.7))
    if parsing := results.get("parsing"):
        ratio = parsing["float_val"]["ours_us"] / parsing["float_val"]["official_us"]
        checks.append(Check("CPU for parsing 400 latents, of the official stubs'", ratio, 0.05))
    for model, ways in results.get("bulk", {}).items():
        ratio = ways["served"]["wall_s"] / ways["in process"]["wall_s"]
        checks.append(Check(f"{ways['images']:,} images over loopback, of the time in process, {model}", ratio, 1.5))
    if photo := results.get("photograph"):
        ratio = photo["whole_ms"] / photo["bare_ms"]
        checks.append(Check("photograph to ten neighbours, of the bare Predict call", ratio, 1.25))
    for policy, rolled in results.get("roll_over", {}).items():
        checks += [
            Check(f"roll-over under load, {policy}: failed calls", rolled["failed"], 0),
            Check(f"roll-over under load, {policy}: latents of the wrong version", rolled["wrong"], 0),
            Check(
                f"roll-over under load, {policy}: calls answered by version 2", rolled["of_version_2"], 1, at_most=False
            ),
        ]
    return checks


def _tables(results: dict[str, Any]) -> str:
    parts = [report.where(results["machine"])]
    rows = []
    for way, figures in results.get("start", {}).items():
        rows.append([f"start to first latents, {way}", f"{figures['s']:.2f} s", f"{figures['mb']:.0f} MB"])
    for way, figures in results.get("single", {}).items():
        rows.append([f"one image a call, {way}", f"{figures['cpu_us']:.0f} µs CPU", f"{figures['wall_us']:.0f} µs"])
    for field, figures in results.get("parsing", {}).items():
        told = [f"ours {figures['ours_us']:.0f} µs", f"official {figures['official_us']:.0f} µs"]
        rows.append([f"parsing 400 latents, {field}", *told])
    if photo := results.get("photograph"):
        told = [f"{photo['whole_ms']:.2f} ms", f"bare Predict {photo['bare_ms']:.2f} ms"]
        rows.append([f"photograph to ten neighbours among {photo['items']:,.0f}", *told])
    for way, figures in results.get("callers", {}).items():
        rows.append([f"32 callers {way}", f"{figures['per_s']:.0f} a second", f"p99 {figures['p99_ms']:.1f} ms"])
    for policy, rolled in results.get("roll_over", {}).items():
        told = [f"{rolled['calls']} calls, {rolled['failed']} failed", f"p99 {rolled['p99_ms']:.1f} ms"]
        rows.append([f"roll-over under load, {policy}", *told])
    parts.append(report.table(["way", "measured", "and"], rows))
    if bulk := results.get("bulk"):
        parts.append(_bulk_table(bulk))
    parts.append(report.check_table(results["checks"]))
    return "\n\n".join(part for part in parts if part)


def _bulk_table(bulk: dict[str, Any]) -> str:
    rows = []
    for model, ways in bulk.items():
        for way in ("in process", "served", "served, tensor_content"):
            figures = ways[way]
            server = f"{figures['server_cpu_s']:.2f}" if "server_cpu_s" in figures else ""
            per_s = f"{ways['images'] / figures['wall_s']:,.0f}"
            rows.append([f"{model}, {way}", f"{figures['wall_s']:.2f}", per_s, f"{figures['cpu_s']:.2f}", server])
    return report.table(["way", "seconds", "images/s", "CPU s of the process", "CPU s of the server"], rows)


if __name__ == "__main__":
    raise SystemExit(main())
