"""The benchmark of trust: `make bench-trust BENCH_ARGS='--demo demo'`.

Are images of another kind marked as unlike what a model was trained on, and are test images not? It takes the model and
the index that `make demo` leaves, of Fashion-MNIST. Strangers are handwritten digits and noise. MNIST itself cannot be
had without a network: scikit-learn's 1,797 digits are enlarged into the middle of 28 x 28 px, as MNIST has its own.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import report
from bench.check import Check
from bench.datasets import CACHE
from bench.progress import progress

Pixels = npt.NDArray[np.uint8]

PACKAGES = ("ae-search", "numpy", "tensorflow", "scikit-learn", "scipy")
NOISE = 1000
LEAST_AUROC = {"digits": 0.95, "noise": 0.99}
MOST_MARKED = 0.02
SIDE_PX, MARGIN_PX = 20, 4


def main() -> int:
    """Run the benchmark and write its figures; return 1 if a promise is broken."""
    parser = argparse.ArgumentParser("make bench-trust BENCH_ARGS='...'", description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder of `ae-search demo`")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows = measured(arguments.demo)
    checks = judge(rows)
    machine = report.machine(PACKAGES)
    results = {"machine": machine, "rows": rows, "checks": [check.as_dict() for check in checks]}
    folder = CACHE / "trial"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"wrote {report.write_figures(results, 'trust', folder)}")
    print(table(rows))
    for check in checks:
        print(check)
    return 0 if all(check.passed for check in checks) else 1


def measured(demo: Path) -> list[dict[str, Any]]:
    """Return, for each kind of images, how many are marked and how well they are told from test images."""
    from scipy.stats import mannwhitneyu

    from ae_search import ImageSearch, LatentIndex
    from ae_search.model_server import LocalEncoder

    known, strangers = test_images(), {"digits": digits(), "noise": noise()}
    with LatentIndex.open(demo / "index") as index:
        search = ImageSearch(LocalEncoder(demo / "export" / "fashion"), index)
        figures = {name: _asked(search, images) for name, images in {"test images": known, **strangers}.items()}
    rows = []
    for name, found in figures.items():
        row: dict[str, Any] = {"name": name, "images": len(found["distance"])}
        for figure in ("distance", "error"):
            row[f"marked by {figure}"] = float((found[f"{figure}_share"] > 0.99).mean())
            if name in strangers:
                test = figures["test images"][figure]
                above = mannwhitneyu(found[figure], test).statistic
                row[f"AUROC by {figure}"] = float(above / len(found[figure]) / len(test))
        rows.append(row | {"marked by both together": float(1.0 - found["familiar"].mean())})
    return rows


def judge(rows: list[dict[str, Any]]) -> list[Check]:
    """Return what is promised."""
    by_name = {row["name"]: row for row in rows}
    checks = [
        Check(f"AUROC of {name}, by distance", by_name[name]["AUROC by distance"], least, at_most=False)
        for name, least in LEAST_AUROC.items()
    ]
    for way in ("by distance", "by both together"):
        checks.append(Check(f"test images marked, {way}", by_name["test images"][f"marked {way}"], MOST_MARKED))
    return checks


def test_images() -> Pixels:
    """Return the test images of Fashion-MNIST."""
    from ae_search.data import ArraySource, open_source

    source = open_source("fashion_mnist/test")
    assert isinstance(source, ArraySource)
    return source.images


def digits() -> Pixels:
    """Return handwritten digits, white on black, 20 px high in the middle of 28 x 28 px."""
    from PIL import Image
    from sklearn.datasets import load_digits

    small = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    size, bicubic = (SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC
    large = np.stack([np.asarray(Image.fromarray(one).resize(size, bicubic)) for one in small])
    return np.pad(large, ((0, 0), (MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX)))[..., np.newaxis]


def noise() -> Pixels:
    """Return images each of whose pixels is drawn evenly."""
    return np.random.default_rng(0).integers(0, 256, (NOISE, 28, 28, 1), np.uint8)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a table."""
    names = [name for name in rows[-1] if name != "name"]
    cells = [[row["name"], *(_told(row.get(name)) for name in names)] for row in rows]
    return report.table(["", *names], cells)


def _told(value: float | int | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"


def _asked(search: Any, images: Pixels) -> dict[str, npt.NDArray[np.float64]]:
    progress(f"asking {len(images)} images")
    found = [one.trust for one in search.search_with_trust_batch(list(images), 10, check_reconstruction=True)]
    names = ("distance", "distance_share", "error", "error_share", "familiar")
    return {name: np.array([getattr(one, name) for one in found], np.float64) for name in names}


if __name__ == "__main__":
    raise SystemExit(main())
