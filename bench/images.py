"""Measures what image files cost: time and memory through a model's graph, beside a plain decode and beside Pillow.

Each way and file has a process of its own. The tables go into README.md.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.report import HERE, machine, table, where, write_figures, write_tables

SIDE_PX = 64
WAYS = ("graph", "plain", "pillow")
REPEATS, REPEATS_S = 200, 3.0
PACKAGES = ("ae-search", "numpy", "tensorflow", "pillow")

# Kind, width and height in px, format, mode, options of Pillow.
FILES: list[tuple[str, tuple[int, int], str, str, dict[str, Any]]] = [
    ("PNG", (28, 28), "PNG", "L", {}),
    ("JPEG", (348, 348), "JPEG", "RGB", {}),
    ("JPEG", (4000, 3000), "JPEG", "RGB", {}),
    ("JPEG, progressive", (4000, 3000), "JPEG", "RGB", {"progressive": True}),
    ("PNG", (4000, 3000), "PNG", "RGB", {"compress_level": 1}),
    ("PNG with alpha", (4000, 3000), "PNG", "RGBA", {"compress_level": 1}),
    ("WebP", (4000, 3000), "WEBP", "RGB", {"method": 0}),
    ("WebP with alpha", (4000, 3000), "WEBP", "RGBA", {"method": 0}),
    ("BMP", (4000, 3000), "BMP", "RGB", {}),
    ("GIF", (4000, 3000), "GIF", "P", {}),
    ("GIF of 20 frames", (1000, 1000), "GIF", "P", {"save_all": True, "frames": 20}),
]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _options(arguments)
    if options.child:
        print(json.dumps(_measured(options.child, Path(options.file))))
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for at, (kind, size, *how) in enumerate(FILES):
            if options.quick and size[0] > 1000:
                continue
            path = Path(folder, str(at))
            path.write_bytes(_file(size, *how))
            ways = {way: _in_child(way, path) for way in WAYS}
            rows.append({"kind": kind, "size": size, "bytes": path.stat().st_size, "ways": ways})
            print(f"{kind} {size[0]} x {size[1]}: {ways}", file=sys.stderr)
    results = {"machine": machine(PACKAGES), "side_px": SIDE_PX, "files": rows}
    trial = HERE / ".cache" / "trial" if options.quick else None
    folder_of_figures = trial or HERE / "results"
    folder_of_figures.mkdir(parents=True, exist_ok=True)
    write_figures(results, "images", folder_of_figures)
    write_tables(_tables(results), "images", trial)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files only, as a trial")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _file(size: tuple[int, int], form: str, mode: str, options: dict[str, Any]) -> bytes:
    """Return a file of a picture with coarse shapes and a little noise, as a photograph has them."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(coarse) + rng.normal(0, 3, (size[1], size[0], 1)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(noisy)
    if mode == "RGBA":
        picture.putalpha(coarse.convert("L"))
    picture = picture.quantize(128) if mode == "P" else picture.convert(mode)
    frames = options.pop("frames", 1)
    more = [picture.rotate(at) for at in range(1, frames)]
    buffer = io.BytesIO()
    picture.save(buffer, form, **options, **({"append_images": more} if more else {}))
    return buffer.getvalue()


def _in_child(way: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.images", "--child", way, "--file", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent)
    figures: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return figures


def _measured(way: str, path: Path) -> dict[str, float]:
    """Return the median time of one decode in ms, and the memory at its peak in MB beyond what was there before."""
    run, data = _way(way), path.read_bytes()
    small = io.BytesIO()
    Image.new("RGB", (9, 9)).save(small, "PNG")
    run(small.getvalue())
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted anew
    before = _status_kib("VmRSS")
    run(data)
    peak_mb = (_status_kib("VmHWM") - before) * 1024 / 1e6
    seconds, began = [], time.perf_counter()
    while len(seconds) < REPEATS and (len(seconds) < 3 or time.perf_counter() - began < REPEATS_S):
        start = time.perf_counter()
        run(data)
        seconds.append(time.perf_counter() - start)
    return {"ms": 1e3 * statistics.median(seconds), "peak_mb": peak_mb}


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _way(way: str) -> Callable[[bytes], Any]:
    shape = (SIDE_PX, SIDE_PX, 3)
    if way == "pillow":
        from ae_search.image_file import image_pixels

        return lambda data: image_pixels(data, "file", shape)
    import tensorflow as tf

    from ae_search.data.decode import decode_image

    def plain(data: Any) -> Any:
        """Decode, crop and resize as floats, as models did that were exported before the preprocessing of version 3."""
        pixels = tf.io.decode_image(data, channels=0, expand_animations=False)
        pixels.set_shape([None, None, None])
        pixels = tf.cast(pixels, tf.float32)
        side = tf.minimum(tf.shape(pixels)[0], tf.shape(pixels)[1])
        pixels = tf.image.resize_with_crop_or_pad(pixels, side, side)
        return tf.image.resize(pixels, shape[:2], antialias=True) / 255.0

    function = plain if way == "plain" else lambda data: decode_image(data, shape)
    with tf.device("/CPU:0"):
        return tf.function(function, input_signature=[tf.TensorSpec((), tf.string)])  # type: ignore[no-any-return]


def _tables(results: dict[str, Any]) -> str:
    rows = []
    for file in results["files"]:
        width, height = file["size"]
        ways = [file["ways"][way] for way in WAYS]
        cells = [f"{way['ms']:.2f}" for way in ways] + [f"{max(0.0, way['peak_mb']):.0f}" for way in ways]
        rows.append([file["kind"], f"{width} x {height}", f"{file['bytes'] / 1e3:,.0f}", *cells])
    head = ["file", "px", "KB", "graph ms", "plain ms", "Pillow ms", "graph MB", "plain MB", "Pillow MB"]
    return (
        f"{where(results['machine'])} Load at the start: {results['machine']['load_at_start']:.1f}. Model: "
        f"{results['side_px']} px a side, in colour. MB: memory of the process at its peak, beyond that before the "
        "first such file."
        "\n\n" + table(head, rows)
    )


if __name__ == "__main__":
    sys.exit(main())
