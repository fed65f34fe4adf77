"""The benchmark of the index: run it with `make bench-index`."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import checks, faiss_checks, report
from bench.datasets import CACHE, DataSet, ensure_radii, fashion_mnist, synthetic
from bench.engines import AeSearch, Annoy, Engine, MissingLibraryError, library
from bench.measure import build, reader, speed
from bench.peers import BruteForce, Faiss, Hnswlib, Usearch
from bench.progress import in_fresh_process, progress

SEED = 42
ENGINES = ("ae-search", "annoy", "ae-search faiss", "numpy", "hnswlib", "faiss HNSW", "faiss IVF", "usearch")
INDEXES = CACHE / "indexes"
TRIAL = CACHE / "trial"
# Ours and its engine by itself, which are built one right after the other: the machine's load changes over minutes.
PAIRS = (("ae-search", "annoy"), ("ae-search faiss", "faiss IVF"))
# A build of up to so many items takes seconds, and is repeated for a median.
REPEATED_BUILD_ITEMS = 100_000
BUILDS = 3


@dataclass(frozen=True)
class Plan:
    """What a run measures.

    Attributes:
        fashion_items: Items of Fashion-MNIST.
        epochs: Epochs that its encoder is trained for.
        sizes: Items of the synthetic sets, ascending; the last for all engines, the others for growth.
        engines: Names of the engines.
        is_trial: Whether the figures go to a folder of their own instead of the repository's.
    """

    fashion_items: int
    epochs: int
    sizes: tuple[int, ...]
    engines: tuple[str, ...]
    is_trial: bool


def main() -> int:
    """Run the benchmark; return 1 if a promise is broken."""
    plan = _plan(_arguments())
    try:
        in_fresh_process(_require_libraries, plan.engines)
    except MissingLibraryError as error:
        print(error, file=sys.stderr)
        return 1
    results: dict[str, Any] = {"seed": SEED, "machine": report.machine(), "data_sets": _measure(plan)}
    verdicts = checks.judge([result for result in results["data_sets"] if "checks" in result])
    for result in results["data_sets"]:
        if "faiss" in result:
            verdicts += faiss_checks.judge_faiss(result)
    results["checks"] = [check.as_dict() for check in verdicts]
    for path in report.write(results, TRIAL if plan.is_trial else None):
        print(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    for check in verdicts:
        print(check)
    return 0 if all(check.passed for check in verdicts) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("make bench-index BENCH_ARGS='...'", description=__doc__)
    parser.add_argument(
        "--sizes", type=_sizes, help="items of the synthetic sets, as 10000,100000,1000000; the last for all engines"
    )
    parser.add_argument("--quick", action="store_true", help="small sets, for a trial of about three minutes")
    parser.add_argument("--only", action="append", choices=ENGINES, help="measure this engine; may be repeated")
    return parser.parse_args()


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(size) for size in text.split(",")))


def _plan(arguments: argparse.Namespace) -> Plan:
    engines = tuple(name for name in ENGINES if name in (arguments.only or ENGINES))
    if "annoy" in engines and "ae-search" not in engines:
        # Its number of trees is that of ae-search's index.
        engines = ("ae-search", *engines)
    sizes = arguments.sizes or ((2_000, 20_000) if arguments.quick else (10_000, 100_000, 1_000_000))
    return Plan(
        fashion_items=10_000 if arguments.quick else 60_000,
        epochs=1 if arguments.quick else 2,
        sizes=sizes,
        engines=engines,
        is_trial=bool(arguments.quick or arguments.sizes or arguments.only),
    )


def _require_libraries(names: Sequence[str]) -> None:
    for engine in _engines(names):
        library(engine.library)


def _engines(names: Sequence[str]) -> list[Engine]:
    every: list[Engine] = [
        AeSearch(), Annoy(0, 0), AeSearch("faiss"), BruteForce(), Hnswlib(SEED), Faiss("HNSW"), Faiss("IVF"), Usearch()
    ]  # fmt: skip
    return [engine for engine in every if engine.name in names]


def _measure(plan: Plan) -> list[dict[str, Any]]:
    fashion = fashion_mnist(plan.fashion_items, epochs=plan.epochs, seed=SEED)
    mixture = synthetic(plan.sizes[-1], seed=SEED)
    growth = [name for name in plan.engines if name in ("ae-search", "annoy", "ae-search faiss", "faiss IVF")]
    results = [_measure_set(fashion, plan.engines)]
    results += [_measure_set(mixture.first(size), growth, checked=False) for size in plan.sizes[:-1] if growth]
    results.append(_measure_set(mixture, plan.engines))
    return results


def _measure_set(data: DataSet, names: Sequence[str], *, checked: bool = True) -> dict[str, Any]:
    """Measure engines on a data set, and what is promised of ae-search against Annoy."""
    ensure_radii(data)
    shutil.rmtree(INDEXES, ignore_errors=True)
    engines = _engines(names)
    result: dict[str, Any] = {"name": data.name, "items": data.items, "about": data.about(), "engines": {}}
    try:
        pair, cells = ([engine for engine in engines if engine.name in names] for names in PAIRS)
        built = _build_pair(pair, data) | _build_pair(cells, data)
        for engine in engines:
            figures = built.get(engine.name) or _build(engine, data)
            result["engines"][engine.name] = figures | _measure_engine(engine, data)
            if engine.name == "ae-search faiss" and checked:
                result["faiss"] = _check_faiss(engine, data, result["engines"][engine.name])
            if engine.name != "ae-search":
                shutil.rmtree(_folder(engine))
        if checked and len(pair) == 2:
            result["checks"] = _check(pair[0], data)
    finally:
        shutil.rmtree(INDEXES, ignore_errors=True)
    return result


def _build_pair(pair: Sequence[Engine], data: DataSet) -> dict[str, dict[str, Any]]:
    """Build ae-search's index and then the bare engine's, Annoy's like it; small ones in turn, a few times."""
    built: dict[str, list[dict[str, Any]]] = {engine.name: [] for engine in pair}
    for _ in range(BUILDS if data.items <= REPEATED_BUILD_ITEMS else 1):
        for engine in pair:
            shutil.rmtree(_folder(engine), ignore_errors=True)
            built[engine.name].append(_build(engine, data))
            if engine.name == "ae-search":
                options = in_fresh_process(_forest_options, _folder(engine))
                for other in pair:
                    other.options.update(options)
    return {name: _median_seconds(runs) for name, runs in built.items()}


def _median_seconds(runs: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = {stage: median(run["seconds"][stage] for run in runs) for stage in runs[0]["seconds"]}
    return runs[0] | {"seconds": seconds, "builds": len(runs)}


def _forest_options(folder: Path) -> dict[str, int]:
    engine = AeSearch()
    engine.open(folder)
    manifest = engine.index.manifest
    return {"n_trees": manifest.engine.n_trees, "seed": manifest.seed}


def _build(engine: Engine, data: DataSet) -> dict[str, Any]:
    progress(f"{data.name} {data.items}: building {engine.name}")
    return in_fresh_process(build, engine, data, _folder(engine))


def _measure_engine(engine: Engine, data: DataSet) -> dict[str, Any]:
    """Open it once for what only a first reader does, measure its speed, and then a reader's memory."""
    folder = _folder(engine)
    first = in_fresh_process(reader, engine, data, folder, engine.first)
    progress(f"{data.name} {data.items}: asking {engine.name}")
    figures = in_fresh_process(speed, engine, data, folder)
    best = figures["at"]["0.99"] or figures["at"]["0.95"] or figures["curve"][-1]
    second = in_fresh_process(reader, engine, data, folder, best["setting"])
    return {"options": engine.options, "parameter": engine.parameter, "first_open_s": first["open_s"],
            "reader": second} | figures  # fmt: skip


def _check(engine: Engine, data: DataSet) -> dict[str, Any]:
    progress(f"{data.name} {data.items}: checking what is promised")
    folder = _folder(engine)
    found = {
        "wrapper_cost": in_fresh_process(checks.wrapper_cost, data, folder),
        "batch_ratio": in_fresh_process(checks.batch_ratio, data, folder),
    }
    if data.about().get("added"):
        found["adds"] = in_fresh_process(checks.adds, data, folder)
    return found


def _check_faiss(engine: Engine, data: DataSet, figures: dict[str, Any]) -> dict[str, Any]:
    progress(f"{data.name} {data.items}: checking what is promised of faiss and of filters")
    folder, best = _folder(engine), figures["at"]["0.99"] or figures["curve"][-1]
    return {
        "cost": in_fresh_process(faiss_checks.faiss_cost, data, folder, best["setting"]),
        "filters": {name: in_fresh_process(faiss_checks.filters, data, folder, name) for name in ("faiss", "annoy")},
    }


def _folder(engine: Engine) -> Path:
    return INDEXES / engine.name.replace(" ", "-")


if __name__ == "__main__":
    raise SystemExit(main())
