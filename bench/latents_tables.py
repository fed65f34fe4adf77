"""The tables of the latents' benchmark, and what is promised of them."""

from typing import Any

import numpy as np

from bench import report
from bench.check import Check

RANKED = ("precision@1", "precision@10", "mAP@1000")
# The best row of the first table that the default recipe has to beat.
TO_BEAT = {"precision@1": 0.904, "precision@10": 0.871}
AIMS = {"precision@1": 0.91, "precision@10": 0.88}
# Rows of docs/figures.md.
SHORT = ("pixels", "pixels, PCA", "gradients, PCA", "tutorial", "default")
TRAINING_S = 900.0
REVERSE = 0.80
PLAIN_PRECISION = 0.86


def judge(results: dict[str, Any]) -> list[Check]:
    """Hold the figures to what is promised."""
    checks = []
    if rows := results.get("retrieval"):
        default = _named(rows, "default")
        checks += [_above(f"default recipe, {name}", default[name], TO_BEAT[name]) for name in TO_BEAT]
        slowest = max(run["seconds"] for run in default["runs"])
        checks.append(Check("default recipe, training", slowest, TRAINING_S, "s"))
    if reverse := results.get("reverse"):
        best = max(_mean(shares) for name, shares in reverse["found_first"].items() if name.startswith("default"))
        checks += [
            _above("reverse search, mean over nine alterations", best, REVERSE),
            _above("its encoder, precision@10 of the plain query", reverse["precision@10"], PLAIN_PRECISION),
        ]
    if rows := results.get("photographs"):
        default = _named(rows, "default")
        for name in ("pixels", "gradients, PCA", "colours (HSV), PCA"):
            checks += [
                _above(f"photographs, {rank} against {name}", default[rank], _named(rows, name)[rank])
                for rank in RANKED[:2]
            ]
    return checks


def whole(results: dict[str, Any]) -> str:
    """Return the tables of the page of the benchmarks."""
    about = results["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    parts = [
        f"Measured on {about['date']}: {about['cpu']}, {about['cores']} cores; Python {about['python']}, {packages}. "
        f"Seeds {', '.join(map(str, results['seeds']))}."
    ]
    if rows := results.get("retrieval"):
        longer = results.get("longer", [])
        parts += ["#### Retrieval: 10,000 test images among 60,000", _retrieval_table(rows + longer), _aims(rows)]
    elif rows := results.get("longer"):
        parts.append(_retrieval_table(rows))
    if ablation := results.get("ablation"):
        parts += [
            f"#### Ablation: 20,000 training images, 10,000 held-out queries, {ablation['epochs']} epochs each",
            _ablation_table(ablation),
        ]
    if rows := results.get("close"):
        title = "#### Close calls: 50,000 training images, 10,000 held-out queries, all epochs, seeds 0 and 1"
        parts += [title, _retrieval_table(rows)]
    if reverse := results.get("reverse"):
        parts += [f"#### Reverse search: {reverse['copies']:,} altered images", _reverse_table(reverse), _cost(reverse)]
    if rows := results.get("photographs"):
        parts += ["#### Photographs", _retrieval_table(rows)]
    if labels := results.get("labels"):
        parts += [f"#### Labels: as in the ablation, {labels['epochs']} epochs", _retrieval_table(labels["rows"])]
    return "\n\n".join([*parts, report.check_table(results["checks"])])


def short(results: dict[str, Any]) -> str:
    """Return the table of docs/figures.md."""
    rows = [
        [row["name"], str(row["floats"]), *(_with_spread(row, name) for name in RANKED[:2]), _of_reverse(results, row)]
        for row in results["retrieval"]
        if row["name"] in SHORT
    ]
    head = ["representation", "floats", "precision@1", "precision@10", "altered copy finds its original"]
    views = results["reverse"]["found_first"]["default, with views"]
    rows.append(["default, query with views", "", "", "", _share(_mean(views))])
    return report.table(head, rows)


def _named(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if row["name"] == name)


def _above(name: str, measured: float, target: float) -> Check:
    return Check(name, measured, target, at_most=False)


def _mean(shares: dict[str, float]) -> float:
    return float(np.mean(list(shares.values())))


def _share(share: float) -> str:
    return f"{share:.3f}"


def _with_spread(row: dict[str, Any], name: str) -> str:
    """Return the mean, and the standard deviation over the seeds where there are several."""
    runs = [run[name] for run in row.get("runs", [])]
    return f"{row[name]:.4f}" + (f" ± {np.std(runs, ddof=1):.4f}" if len(runs) > 1 else "")


def _retrieval_table(rows: list[dict[str, Any]]) -> str:
    cells = [
        [row["name"], str(row["floats"]), *(_with_spread(row, name) for name in RANKED), *_training(row)]
        for row in rows
    ]
    return report.table(["representation", "floats", *RANKED, "epochs", "training s"], cells)


def _training(row: dict[str, Any]) -> list[str]:
    return [f"{row['epochs']:.0f}", f"{row['seconds']:.0f}"] if "runs" in row else ["", ""]


def _aims(rows: list[dict[str, Any]]) -> str:
    default = _named(rows, "default")
    told = (f"{name} {'reaches' if default[name] >= aim else 'does not reach'} {aim}" for name, aim in AIMS.items())
    return f"Beyond what has to be beaten, the aims: {', '.join(told)}."


def _ablation_table(ablation: dict[str, Any]) -> str:
    default = ablation["rows"][0]
    cells = []
    for row in ablation["rows"]:
        ranked = [_against(row, default, name) for name in (*RANKED[:2], "reverse")]
        cells.append([row["name"], *ranked, f"{row['seconds']:.0f}"])
    return report.table(["recipe", *RANKED[:2], "reverse search", "training s"], cells)


def _against(row: dict[str, Any], default: dict[str, Any], name: str) -> str:
    difference = "" if row is default else f" ({row[name] - default[name]:+.4f})"
    return f"{row[name]:.4f}{difference}"


def _reverse_table(reverse: dict[str, Any]) -> str:
    rows = reverse["found_first"]
    ways = list(next(iter(rows.values())))
    cells = [[name, *(f"{shares[way]:.2f}" for way in ways), _share(_mean(shares))] for name, shares in rows.items()]
    return report.table(["representation", *ways, "mean"], cells)


def _cost(reverse: dict[str, Any]) -> str:
    ms = reverse["ms"]
    return (
        f"One query, from pixels to ten neighbours through the index and the encoder in the same process: "
        f"{ms['plain']:.2f} ms plain, {ms['views']:.2f} ms with views."
    )


def _of_reverse(results: dict[str, Any], row: dict[str, Any]) -> str:
    shares = results["reverse"]["found_first"].get(row["name"])
    return _share(_mean(shares)) if shares else ""
