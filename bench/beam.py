"""Bulk embedding on Apache Beam with two workers beside `ae-search embed`: run it with `make bench-beam`.

Both encode the same images on the same server and the same cores, as commands, turn by turn. What a command costs
however few its images are is measured by itself: Beam's workers take seconds to start, whatever they do then.
"""

import argparse
import json
import os
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
            results[name] = {"start_s": _seconds(FEW_PICTURES, server.address, options)}
        for turn in range(arguments.turns):
            for name, options in (("embed", ()), ("beam", BEAM)):
                progress(f"turn {turn + 1}: {name}")
                results[name].setdefault("all_s", []).append(_seconds(PICTURES, server.address, options))
    for name in ("embed", "beam"):
        of = results[name]
        of["images_per_s"] = round((arguments.images - FEW) / (median(of["all_s"]) - of["start_s"]), 1)
        of["images_per_s_with_start"] = round(arguments.images / median(of["all_s"]), 1)
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


def _seconds(folder: Path, address: str, options: tuple[str, ...]) -> float:
    """Return how long a command takes for the images of a folder, from its start to its end."""
    shutil.rmtree(OUT, ignore_errors=True)
    command = [sys.executable, "-m", "ae_search", "-q", "embed", folder, "--out", OUT, "--server", address, *options]
    began = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, env=os.environ, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - began, 2)


if __name__ == "__main__":
    sys.exit(main())
