"""Bulk embedding on Apache Beam with two workers beside `ae-search embed`: run it with `make bench-beam`.

Both encode the same images on the same server and the same cores, as commands, turn by turn. What a command costs
however few its images are is measured by itself: Beam's workers take seconds to start, whatever they do then.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from ae_search.data.builtin import load_builtin
from bench.datasets import CACHE
from bench.progress import CORES, in_fresh_process, progress
from bench.served import EXPORTS, export_models, served

IMAGES, FEW = 60_000, 64
LEAST_SHARE = 0.9
PICTURES, FEW_PICTURES, OUT = CACHE / "beam-pictures", CACHE / "beam-few", CACHE / "beam-out"
BEAM = ("--runner", "DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")


def main() -> int:
    """Measure, print, and write `beam.json` beside the caches of the other benchmarks; return 1 if Beam is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--model", choices=("tutorial", "conv"), default="conv")
    arguments = parser.parse_args()
    in_fresh_process(export_models)
    in_fresh_process(_write_pictures, PICTURES, arguments.images)
    in_fresh_process(_write_pictures, FEW_PICTURES, FEW)
    results: dict[str, Any] = {"images": arguments.images, "cores": CORES, "model": arguments.model}
    with served(EXPORTS / arguments.model) as server:
        for name, options in (("embed", ()), ("beam", BEAM)):
            results[name] = {"start": _cost(FEW_PICTURES, server.address, options), "all": []}
        for turn in range(arguments.turns):
            for name, options in (("embed", ()), ("beam", BEAM)):
                progress(f"turn {turn + 1}: {name}")
                results[name]["all"].append(_cost(PICTURES, server.address, options))
    for of in (results["embed"], results["beam"]):
        wall_s, cpu_s = (median(each) for each in zip(*of["all"], strict=True))
        count = arguments.images - FEW
        of["images_per_s"] = round(count / (wall_s - of["start"][0]), 1)
        of["images_per_s_with_start"] = round(arguments.images / wall_s, 1)
        of["cpu_ms_per_image"] = round(1000 * (cpu_s - of["start"][1]) / count, 3)
    results["share"] = round(results["beam"]["images_per_s"] / results["embed"]["images_per_s"], 3)
    (CACHE / "beam.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results, indent=2))
    print(f"{'passed' if results['share'] >= LEAST_SHARE else 'failed'}: at least {LEAST_SHARE} of embed's throughput")
    return 0 if results["share"] >= LEAST_SHARE else 1


def _write_pictures(folder: Path, count: int) -> None:
    """Write the first images of Fashion-MNIST as PNG files, unless they are there."""
    if folder.is_dir() and len(list(folder.glob("*/*.png"))) == count:
        return
    shutil.rmtree(folder, ignore_errors=True)
    images, _ = load_builtin("fashion_mnist", "train")
    for at in range(count):
        path = folder / str(at // 1000) / f"{at:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[at % len(images)][..., 0]).save(path)


def _cost(folder: Path, address: str, options: tuple[str, ...]) -> tuple[float, float]:
    """Return how long a command takes for the images of a folder, and the CPU time of its processes, both in s."""
    shutil.rmtree(OUT, ignore_errors=True)
    command = [sys.executable, "-m", "ae_search", "-q", "embed", folder, "--out", OUT, "--server", address, *options]
    began, before = time.perf_counter(), _cpu_of_children_s()
    subprocess.run(list(map(str, command)), check=True, env=os.environ, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - began, 2), round(_cpu_of_children_s() - before, 2)


def _cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
