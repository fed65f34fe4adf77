"""The benchmark of the training's speed: run it with `make bench-train`."""

import argparse
import os
from collections.abc import Callable
from statistics import median
from typing import Any

from bench import report
from bench.check import Check
from bench.datasets import CACHE
from bench.progress import in_fresh_process, progress

PACKAGES = ("ae-search", "numpy", "tensorflow", "keras")
TRIAL = CACHE / "trial"
# What the tutorial's own training ends with: mean sigmoid cross-entropy a pixel value.
TARGET = 0.2917
SHARE = 1 / 8
MOST_EPOCHS = 50
SEED = 0
RECIPES: dict[str, dict[str, Any]] = {"tutorial": {"architecture": "tutorial"}, "default": {}}
AS_IT_IS = "as it is"
# Options of `configure`, and of the measurement.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    AS_IT_IS: ({}, {}),
    "steps_per_execution 1": ({}, {"at_once": 1}),
    **{f"batches of {size}": ({"batch_size": size}, {}) for size in (128, 256, 512, 1024)},
    "mixed_bfloat16": ({}, {"policy": "mixed_bfloat16"}),
    "jit_compile": ({}, {"jit": True}),
}
EPOCHS = 2
TRIAL_ITEMS = 4_000


def main() -> int:
    """Run the benchmark; return 1 if a promise is broken."""
    arguments = _arguments()
    # TensorFlow greets in every process.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    results: dict[str, Any] = {"machine": report.machine(PACKAGES)}
    for name, part in PARTS.items():
        if name in (arguments.only or PARTS) and name not in arguments.skip:
            results[name] = part(TRIAL_ITEMS if arguments.quick else None)
    checks = _judge(results)
    results["checks"] = [check.as_dict() for check in checks]
    trial = TRIAL if arguments.quick or arguments.only or arguments.skip else None
    folder = trial or report.HERE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"wrote {report.write_figures(results, 'train', folder)}")
    print(f"wrote {report.write_tables(_tables(results), 'train', trial)}")
    for check in checks:
        print(check)
    return 0 if all(check.passed for check in checks) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("make bench-train BENCH_ARGS='...'", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, for a trial")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="measure this only; may be repeated")
    parser.add_argument("--skip", action="append", default=[], choices=list(PARTS), help="leave this part out")
    return parser.parse_args()


def _reach(items: int | None) -> dict[str, list[dict[str, Any]]]:
    """Train until the loss is that of the tutorial, the recipes in turn."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in RECIPES}
    for name, options in RECIPES.items():
        told = options | {"seed": SEED}
        if name == "tutorial":
            told["epochs"] = MOST_EPOCHS if items is None else 2
        progress(f"loss {TARGET}: {name}")
        run = in_fresh_process(_measure, "reach", told, items, TARGET)
        progress(f"  {run['images']:,} images, {run['spent_s']:.1f} s of fit, loss {run['loss']:.4f}")
        rows[name].append(run | {"seed": SEED})
    return rows


def _speed(items: int | None) -> dict[str, dict[str, float]]:
    rows = {}
    for name, options in RECIPES.items():
        progress(f"speed: {name}")
        rows[name] = in_fresh_process(_measure, "speed", options, items, EPOCHS)
    return rows


def _parts(items: int | None) -> dict[str, dict[str, float]]:
    """Measure the parts of a step by themselves."""
    rows = {}
    for name, options in RECIPES.items():
        progress(f"parts of a step: {name}")
        rows[name] = in_fresh_process(_measure_parts, options, items)
    return rows


def _measure_parts(options: dict[str, Any], items: int | None) -> dict[str, float]:
    from ae_search.cli.options import load_tensorflow

    load_tensorflow()
    from bench.train_parts import parts

    return parts(options, items)


def _variants(items: int | None) -> dict[str, dict[str, Any]]:
    """Measure images a second of each variant; what does not run says why."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in RECIPES}
    for variant, (more, told) in VARIANTS.items():
        for name, options in RECIPES.items():
            progress(f"variant: {name}, {variant}")
            try:
                rows[name][variant] = in_fresh_process(_measure, "variant", options | more, items, EPOCHS, **told)
            except Exception as error:  # of TensorFlow or of Keras, whichever sees it first
                rows[name][variant] = f"does not run: {type(error).__name__}"
    return rows


def _measure(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a measurement in this process, the first that imports TensorFlow."""
    from ae_search.cli.options import load_tensorflow

    load_tensorflow()
    from bench import train_measure

    return getattr(train_measure, name)(*args, **kwargs)


def _judge(results: dict[str, Any]) -> list[Check]:
    if not (rows := results.get("reach")):
        return []
    tutorial, default = (_until(rows[name]) for name in ("tutorial", "default"))
    return [Check(f"seconds of fit until the pixels' loss is {TARGET}, default of tutorial", default / tutorial, SHARE)]


def _until(runs: list[dict[str, Any]]) -> float:
    """Return the median of the seconds, those of a run that did not get there being all that it spent."""
    return median(run["fit_s"] or run["spent_s"] for run in runs)


def _tables(results: dict[str, Any]) -> str:
    parts = [report.where(results["machine"])]
    for name, tables in (("reach", _reach_tables), ("speed", _speed_tables), ("parts", _part_tables),
                         ("variants", _variant_tables)):  # fmt: skip
        if name in results:
            parts += tables(results[name])
    return "\n\n".join(part for part in [*parts, report.check_table(results["checks"])] if part)


def _reach_tables(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    cells = []
    tutorial = _until(rows["tutorial"])
    for name, runs in rows.items():
        seconds = ", ".join(f"{run['fit_s']:.1f}" if run["fit_s"] else f"> {run['spent_s']:.1f}" for run in runs)
        images = ", ".join(f"{run['images']:,}" for run in runs)
        prepared = f"{median(run['prepared_s'] for run in runs):.1f}"
        until = _until(runs)
        both = until + float(prepared)
        cells.append([name, seconds, f"{until / tutorial:.3f}", images, prepared, f"{both / tutorial:.3f}"])
    head = ["recipe", "seconds of fit", "of the tutorial's", "images", "before fit, s", "both, of the tutorial's"]
    return [f"#### Until the pixels' loss is {TARGET}", report.table(head, cells)]


def _speed_tables(rows: dict[str, dict[str, float]]) -> list[str]:
    speeds, shares = [], []
    for name, of in rows.items():
        floor_ms = 1e3 * of["batch_size"] * of["multiply_adds"] / of["multiply_adds_per_s"]
        per_s = [1e3 * of["batch_size"] / ms for ms in (of["fit_ms"], of["bare_fit_ms"], of["loop_ms"], floor_ms)]
        against = [f"{of['loop_ms'] / of['bare_fit_ms']:.2f}", f"{floor_ms / of['bare_fit_ms']:.2f}"]
        millions = f"{of['multiply_adds'] / 1e6:.1f}"
        speeds.append([name, *(f"{value:,.0f}" for value in per_s), *against, millions])
        cpu = [of["pipeline_cpu_ms"], of["steps_cpu_ms"]]
        rest = of["fit_cpu_ms"] - sum(cpu)
        told = [f"{value:.1f} ({value / of['fit_cpu_ms']:.0%})" for value in (*cpu, rest)]
        walls = [f"{of[key]:.1f}" for key in ("pipeline_ms", "steps_ms", "fit_ms")]
        shares.append([name, f"{of['fit_cpu_ms']:.1f}", *told, *walls])
    head = [
        "recipe",
        "fit in train",
        "fit",
        "train_on_batch",
        "floor",
        "fit / loop",
        "fit / floor",
        "million mult-adds",
    ]
    heads = ["recipe", "CPU ms a batch", "images", "steps", "rest", "wall: images", "steps", "fit in train"]
    rates = [max(of[f"multiply_adds_per_s{kind}"] for of in rows.values()) / 1e9 for kind in ("", "_bfloat16")]
    return ["#### Images a second", report.table(head, speeds),
            f"A matrix product: {rates[0]:.0f} thousand million multiply-adds a second in float32, "
            f"{rates[1]:.0f} in bfloat16.",
            "#### Where the time goes", report.table(heads, shares)]  # fmt: skip


def _part_tables(rows: dict[str, dict[str, float]]) -> list[str]:
    names = list(next(iter(rows.values())))
    cells = [[name, *(f"{of[part]:.1f}" for part in names)] for name, of in rows.items()]
    return ["#### Parts of a step, ms", report.table(["recipe", *names], cells)]


def _variant_tables(rows: dict[str, dict[str, Any]]) -> list[str]:
    cells = []
    for variant in VARIANTS:
        row = [variant]
        for name in RECIPES:
            figures, base = rows[name][variant], rows[name][AS_IT_IS]
            if isinstance(figures, str):
                row += [figures, "", ""]
            else:
                ratio = f"{figures['per_s'] / base['per_s']:.2f}"
                row += [f"{figures['per_s']:,.0f}", ratio, f"{figures['start_s']:.1f}"]
        cells.append(row)
    head = [f"{name}, {of}" for name in RECIPES for of in ("images/s", "ratio", "start s")]
    return ["#### Variants", report.table(["variant", *head], cells)]


PARTS: dict[str, Callable[[int | None], Any]] = {
    "reach": _reach,
    "speed": _speed,
    "parts": _parts,
    "variants": _variants,
}

if __name__ == "__main__":
    raise SystemExit(main())
