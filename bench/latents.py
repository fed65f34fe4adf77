"""The benchmark of the latents' worth: run it with `make bench-latents`."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench import latents_measure as measure
from bench import latents_tables as tables
from bench import report
from bench.copies import measured_copies
from bench.datasets import CACHE
from bench.duplicates import measured_duplicates
from bench.latents_measure import Altered
from bench.pictures import Protocol, backbone_file
from bench.progress import in_fresh_process, progress
from bench.record import newest
from bench.trainings import TRAINED_BY, Training, default_config, digest, trained

PACKAGES = ("ae-search", "numpy", "tensorflow", "keras", "pillow")
TRIAL = CACHE / "trial"
SEEDS = (0, 1, 2)
LONGER = 2.0
# The weight of the pixels cannot be 0.
LEAST_PIXELS = 0.001
TENTH = 0.1
# A smaller set and a shorter training than the default: there are ten of them.
ABLATION_ITEMS = 20_000
ABLATION_SHARE = 1 / 6
# Ingredients that the ablation can hardly tell from noise: looked at with all images, all epochs and two seeds.
CLOSE = ("gradients", "schedule")
CLOSE_SEEDS = 2


@dataclass(frozen=True)
class Plan:
    """What a run measures.

    Attributes:
        test: Queries that nothing was chosen by.
        held_out: Queries that things may be chosen by, among fewer images.
        close: The same queries among all images.
        photographs: Other kinds of images.
        epochs: Epochs of every training; None for the default.
        ablation_epochs: Epochs of the ablation's trainings; None for a sixth of the default.
        copies: Images of Fashion-MNIST that are altered.
        photograph_copies: Photographs that are altered.
        seeds: Seeds of the recipes.
    """

    test: Protocol
    held_out: Protocol
    close: Protocol
    photographs: tuple[Protocol, ...]
    epochs: int | None
    ablation_epochs: int | None
    copies: int
    photograph_copies: int
    seeds: tuple[int, ...]


def main() -> int:
    """Run the benchmark; return 1 if a promise is broken."""
    arguments = _arguments()
    plan = _plan(arguments)
    if arguments.seeds:
        plan = replace(plan, seeds=SEEDS[: arguments.seeds])
    # TensorFlow greets in every process.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    code = digest(TRAINED_BY)
    trial = TRIAL if arguments.quick or arguments.ablation_epochs else None
    folder = trial or report.HERE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    # Parts that are not measured now keep their figures, and say of what day they are.
    results = _measured_before() if trial is None else {}
    results |= {"machine": report.machine(PACKAGES), "seeds": SEEDS}
    for name, part in PARTS.items():
        if name in (arguments.only or PARTS) and name not in arguments.skip:
            progress(f"measuring {name}")
            results[name] = part(plan)
            day, seeds = results["machine"]["date"], len(plan.seeds)
            results.setdefault("measured", {})[name] = {"date": day, "code": code, "seeds": seeds}
    if digest(TRAINED_BY) != code:
        progress("WARNING: the code that trains has changed during this run, so that rows are not of one state")
    checks = tables.judge(results)
    results["checks"] = [check.as_dict() for check in checks]
    print(f"wrote {report.write_figures(results, 'latents', folder)}")
    print(f"wrote {report.write_tables(tables.whole(results), 'latents', trial)}")
    if not trial:
        print(f"wrote {report.write_tables(tables.short(results), 'latents', None, page=report.FIGURES)}")
    for check in checks:
        print(check)
    return 0 if all(check.passed for check in checks) else 1


def _measured_before() -> dict[str, Any]:
    """Return the figures of the runs before, each part with its day."""
    before = newest("latents")
    if before is None:
        return {}
    results = before.results()
    of_whole = {"date": results["machine"]["date"], "seeds": len(results["seeds"])}
    stamps = {name: of_whole for name in PARTS if name in results}
    return results | {"measured": stamps | results.get("measured", {})}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("make bench-latents BENCH_ARGS='...'", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images and epochs, for a trial")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="measure this only; may be repeated")
    parser.add_argument("--skip", action="append", default=[], choices=list(PARTS), help="leave this part out")
    parser.add_argument(
        "--seeds", type=int, choices=range(1, len(SEEDS) + 1), help="trainings of each recipe; 3 unless given"
    )
    parser.add_argument("--ablation-epochs", type=int, help="of each ablation; a sixth of the default if not given")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> Plan:
    if not arguments.quick:
        ablation = Protocol("held out", ABLATION_ITEMS)
        epochs = arguments.ablation_epochs
        photographs = (Protocol("photos"), Protocol("objects"))
        return Plan(Protocol("test"), ablation, Protocol("held out"), photographs, None, epochs, 1000, 100, SEEDS)
    few = (2_000, 300)
    held_out = Protocol("held out", *few)
    return Plan(Protocol("test", *few), held_out, held_out, (Protocol("photos"), Protocol("objects")), 1,
                arguments.ablation_epochs or 1, 30, 10, SEEDS[:2])  # fmt: skip


def _retrieval(plan: Plan) -> list[dict[str, Any]]:
    """Compare the recipes with the baselines, on queries that nothing was chosen by."""
    rows = in_fresh_process(measure.baselines, plan.test)
    rows.append(_row("tutorial", plan.test, [_of_tutorial(plan)]))
    rows.append(_row("default", plan.test, _of_default(plan.test, plan)))
    progress("SimCLR, for as long as the default")
    rows.append(in_fresh_process(measure.simclr, plan.test, rows[-1]["seconds"]))
    return rows


def _longer(plan: Plan) -> list[dict[str, Any]]:
    """Train the default for more epochs, and the long recipe; beside it, SimCLR for as long."""
    longer = Training(plan.test, {"seed": plan.seeds[0]}, plan.epochs, times=LONGER)
    rows = [_row(f"default, {LONGER:g} times the epochs", plan.test, [longer])]
    rows.append(_row("long", plan.test, _of_default(plan.test, plan, recipe="long")))
    progress("SimCLR, for as long as the long recipe")
    row = in_fresh_process(measure.simclr, plan.test, rows[-1]["seconds"])
    return [*rows, row | {"name": "SimCLR, as long"}]


def _ablation(plan: Plan) -> dict[str, Any]:
    """Leave out each ingredient in turn."""
    config = in_fresh_process(default_config, plan.held_out)
    epochs = _ablation_epochs(plan, config)
    rows = []
    for name, options in {"default": {}, **_variations(config["recipe"])}.items():
        training = Training(plan.held_out, {"seed": plan.seeds[0], **options}, epochs)
        row = _row(name, plan.held_out, [training])
        shares = _reverse(Altered(plan.held_out, plan.copies), training, views=False)
        rows.append(row | {"reverse": float(np.mean(list(shares.values())))})
    return {"epochs": epochs, "recipe": config["recipe"], "rows": rows}


def _close_calls(plan: Plan) -> list[dict[str, Any]]:
    """Leave out some of the ingredients with all images, all epochs and more than one seed."""
    recipe = in_fresh_process(default_config, plan.close)["recipe"]
    close = {name: options for name, options in _variations(recipe).items() if options.keys() <= set(CLOSE)}
    return [
        _row(
            name,
            plan.close,
            [Training(plan.close, {"seed": seed, **options}, plan.epochs) for seed in plan.seeds[:CLOSE_SEEDS]],
        )
        for name, options in {"default": {}, **close}.items()
    ]


def _variations(recipe: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return, by a name, what to tell `configure` so that one thing differs from the default; images are grey."""
    others: dict[str, Any] = {"partner": {"neighbour": "view", "view": "neighbour"},
                              "schedule": {"cosine": "constant", "constant": "cosine"}}  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for name, value in recipe.items():
        if not value:
            continue
        other: Any
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, str):
            other = others[name][value]
        else:
            other = LEAST_PIXELS if name == "pixels" else 0.0
        found[f"{name} {_told(other)}, not {_told(value)}"] = {name: other}
    return found | {"architecture conv, not gradients": {"architecture": "conv"}}


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _reverse_search(plan: Plan) -> dict[str, Any]:
    """Search with altered copies of indexed images."""
    altered = Altered(plan.test, plan.copies)
    progress("altered copies under pixels and gradients")
    rows: dict[str, Any] = in_fresh_process(measure.reverse_baselines, altered)
    default = _of_default(plan.test, plan)[0]
    rows["tutorial"] = _reverse(altered, _of_tutorial(plan), views=False)
    rows["default"] = _reverse(altered, default, views=False)
    progress("altered copies with views")
    rows["default, with views"] = _reverse(altered, default, views=True)
    ms = in_fresh_process(measure.query_ms, altered, trained(default))
    precision = in_fresh_process(measure.retrieval, plan.test, trained(default))["precision@10"]
    return {"copies": plan.copies, "found_first": rows, "ms": ms, "precision@10": precision}


def _photographs(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Compare the recipes for photographs, with a backbone and without, with the baselines."""
    return {protocol.split: _of_photographs(protocol, plan) for protocol in plan.photographs}


def _of_photographs(protocol: Protocol, plan: Plan) -> list[dict[str, Any]]:
    rows = in_fresh_process(measure.baselines, protocol)
    rows.append(in_fresh_process(measure.pooled_features, protocol))
    rows.append(_row("default", protocol, _of_default(protocol, plan)))
    rows.append(_row("default, backbone", protocol, _of_default(protocol, plan, backbone=str(backbone_file()))))
    return rows


def _copies(plan: Plan) -> dict[str, Any]:
    """Search for altered photographs; then with half of the originals hidden; then list duplicates among copies.

    Behind a backbone this takes an hour: `make bench-copies BENCH_ARGS='--export MODEL --count 20'`.
    """
    training = Training(plan.photographs[0], {"seed": plan.seeds[0]}, plan.epochs)
    exports, count = {"default": trained(training).export}, plan.photograph_copies
    found = in_fresh_process(measured_copies, exports, count)
    return found | {"duplicates": in_fresh_process(measured_duplicates, exports, count)}


def _labels(plan: Plan) -> dict[str, Any]:
    """Give none and a tenth of the labels, as short and small as the ablation is."""
    epochs = _ablation_epochs(plan, in_fresh_process(default_config, plan.held_out))
    without = Training(plan.held_out, {"seed": plan.seeds[0]}, epochs)
    tenth = Training(plan.held_out, {"seed": plan.seeds[0], "labels": 1.0}, epochs, labelled=TENTH)
    rows = [_row("no labels", plan.held_out, [without]), _row("a tenth of the labels", plan.held_out, [tenth])]
    return {"epochs": epochs, "rows": rows}


def _ablation_epochs(plan: Plan, config: dict[str, Any]) -> int:
    return plan.ablation_epochs or max(1, round(config["epochs"] * ABLATION_SHARE))


def _of_tutorial(plan: Plan) -> Training:
    return Training(plan.test, {"architecture": "tutorial", "seed": plan.seeds[0]}, plan.epochs)


def _of_default(protocol: Protocol, plan: Plan, **changed: Any) -> list[Training]:
    return [Training(protocol, {"seed": seed, **changed}, plan.epochs) for seed in plan.seeds]


def _row(name: str, protocol: Protocol, trainings: Sequence[Training]) -> dict[str, Any]:
    """Return the means over some trainings that differ by their seed, and the figures of each."""
    runs = []
    for training in trainings:
        done = trained(training)
        figures = in_fresh_process(measure.retrieval, protocol, done)
        about = {name: done.about[name] for name in ("seconds", "epochs", "loss")}
        runs.append(figures | about | {"seed": done.about["config"]["seed"]})
        progress(f"  {name}: precision@1 {figures['precision@1']:.4f}, @10 {figures['precision@10']:.4f}")
    means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0] if key != "seed"}
    return {"name": name, "floats": done.about["config"]["latent_dim"]} | means | {"runs": runs}


def _reverse(altered: Altered, training: Training, *, views: bool) -> dict[str, float]:
    return in_fresh_process(measure.reverse, altered, trained(training), views=views)


PARTS: dict[str, Callable[[Plan], Any]] = {
    "retrieval": _retrieval,
    "reverse": _reverse_search,
    "photographs": _photographs,
    "copies": _copies,
    "labels": _labels,
    "ablation": _ablation,
    "close": _close_calls,
    "longer": _longer,
}

if __name__ == "__main__":
    raise SystemExit(main())
