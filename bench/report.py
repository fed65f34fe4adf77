"""The report: JSON, the tables in README.md, and the picture."""

import os
import platform
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from ae_search.files import write_atomically
from bench.headlines import headlines
from bench.measure import TARGETS
from bench.over_versions import draw
from bench.progress import CORES
from bench.record import RESULTS, Record, path_of, rounded

HERE = Path(__file__).parent
README, FIGURES = HERE / "README.md", HERE.parent / "docs" / "figures.md"
PACKAGES = ("ae-search", "annoy", "numpy", "hnswlib", "faiss-cpu", "usearch", "tensorflow", "keras")

_NOT_REACHED = "not reached"


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Describe where and with what the figures were measured."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": model,
        "cores": CORES,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version(name) for name in packages},
    }


def where(machine: dict[str, Any]) -> str:
    """Return the sentence that says where and with what figures were measured."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; "
        f"Python {machine['python']}, {packages}."
    )


def write(results: dict[str, Any], trial: Path | None) -> list[Path]:
    """Write everything.

    Args:
        results: The figures.
        trial: Folder for figures that are not to stay; None writes those of the repository.

    Returns:
        The files written.
    """
    folder = trial or HERE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    figures, picture = write_figures(results, "index", folder), folder / "recall-latency.png"
    write_atomically(picture, lambda path: _draw(results["data_sets"], path))
    return [figures, picture, write_tables(_tables(results), "index", trial)]


def write_figures(results: dict[str, Any], name: str, folder: Path) -> Path:
    """Write the figures of the benchmark of that name as JSON, in the one format of them all (see `record`).

    Where they are to stay, the page of the documentation is drawn anew.
    """
    # As the file will have them, so that whoever reads it comes to the same ratios.
    kept = rounded({key: results[key] for key in results if key != "machine"})
    found = Record.of(name, results, headlines(name, kept))
    path = path_of(name, found.version, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, found.as_json())
    if folder == RESULTS:
        draw()
    return path


def write_tables(tables: str, name: str, trial: Path | None, *, page: Path = README) -> Path:
    """Write the tables of a benchmark between its marks in a page, or into the folder of a trial."""
    begin, end = (f"<!-- written by bench/{name}.py: {mark} -->" for mark in ("begin", "end"))
    text = f"{begin}\n\n{tables}\n\n{end}"
    if trial:
        page = trial / f"{name}.md"
        write_atomically(page, text + "\n")
    else:
        before, _, rest = page.read_text(encoding="utf-8").partition(begin)
        write_atomically(page, before + text + rest.partition(end)[2])
    return page


def _tables(results: dict[str, Any]) -> str:
    parts = [f"{where(results['machine'])} Seed {results['seed']}."]
    sets = results["data_sets"]
    last = sets[-1]["name"]
    everyone = [data for data in sets if data["name"] != last or data is sets[-1]]
    for data in everyone:
        parts += [f"### {data['name']}, {data['items']:,} items", _size_table(data), _speed_table(data)]
    growing = [data for data in sets if data["name"] == last]
    parts += ["### Growth", _growth_table(growing), "### Checks", check_table(results["checks"])]
    return "\n\n".join(part for part in parts if part)


def _size_table(data: dict[str, Any]) -> str:
    rows = []
    for name, figures in data["engines"].items():
        seconds = dict(figures["seconds"])
        wall = seconds.pop("wall")
        stages = ", ".join(f"{stage} {spent:.2f}" for stage, spent in seconds.items())
        memory = figures["reader"]["memory_mb"]
        rows.append([
            name, f"{wall:.2f}", stages, f"{figures['bytes_per_item']:.0f}", f"{1e3 * figures['first_open_s']:.1f}",
            f"{1e3 * figures['reader']['open_s']:.1f}", f"{memory['anonymous']:.0f}", f"{memory['files']:.0f}",
            f"{memory['rss']:.0f}",
        ])  # fmt: skip
    head = ["engine", "build s", "of that", "bytes an item", "first open ms", "second open ms", "own MB", "of files MB",
            "resident MB"]  # fmt: skip
    return table(head, rows)


def _speed_table(data: dict[str, Any]) -> str:
    rows = []
    for name, figures in data["engines"].items():
        if "default" in figures:
            rows.append([name, "its default", *_speed_cells(figures, figures["default"])])
        for target in TARGETS:
            rows.append([name, f"{target:.2f}", *_speed_cells(figures, figures["at"][str(target)])])
    return table(["engine", "recall asked", "setting", "recall@10", "median ms", "p99 ms", "batch queries/s"], rows)


def _speed_cells(figures: dict[str, Any], at: dict[str, float] | None) -> list[str]:
    if at is None:
        best = max(point["recall"] for point in figures["curve"])
        return [_NOT_REACHED, f"at best {best:.4f}", "", "", ""]
    setting = f"{figures['parameter']} {at['setting']}" if figures["parameter"] else "exact"
    return [setting, f"{at['recall']:.4f}", f"{at['median_ms']:.3f}", f"{at['p99_ms']:.3f}", f"{at['batch_per_s']:.0f}"]


def _growth_table(sets: list[dict[str, Any]]) -> str:
    rows = []
    for data in sets:
        for name in ("ae-search", "annoy", "ae-search faiss", "faiss IVF"):
            if (figures := data["engines"].get(name)) is None:
                continue
            at = figures["at"]
            chosen = [("its default", figures["default"])] if "default" in figures else []
            chosen += [(f"{target:.2f}", at[str(target)]) for target in TARGETS]
            for asked, point in chosen:
                cells = _speed_cells(figures, point)
                rows.append([f"{data['items']:,}", name, f"{figures['seconds']['wall']:.2f}", asked, *cells])
    head = ["items", "engine", "build s", "recall asked", "setting", "recall@10", "median ms", "p99 ms",
            "batch queries/s"]  # fmt: skip
    return table(head, rows) if rows else ""


def check_table(checks: list[dict[str, Any]]) -> str:
    """Return the table of the promises."""
    rows = []
    for check in checks:
        sign, verdict = "≤" if check["at_most"] else "≥", "PASS" if check["passed"] else "FAIL"
        unit = f" {check['unit']}" if check["unit"] else ""
        rows.append([check["name"], f"{check['measured']:.4g}{unit}", f"{sign} {check['target']:g}{unit}", verdict])
    return table(["check", "measured", "target", ""], rows) if rows else ""


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, its figures to the right."""
    rule = ["---", *("---" if name in ("engine", "of that", "setting", "check", "way") else "--:" for name in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _draw(sets: list[dict[str, Any]], path: Path) -> None:
    """Draw recall against median latency, one panel for each data set that all engines were measured on."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [sets[0], sets[-1]]
    figure, panels = pyplot.subplots(1, len(shown), figsize=(13, 5.2), sharey=True, layout="constrained")
    for panel, data in zip(panels, shown, strict=True):
        for number, (name, figures) in enumerate(data["engines"].items()):
            points = sorted(figures["curve"], key=lambda point: point["setting"])
            line = {"color": f"C{number}", "label": name, "marker": "o", "markersize": 4}
            panel.plot([p["median_ms"] for p in points], [p["recall"] for p in points], **line)
            if "default" in figures:
                own = figures["default"]
                panel.plot(own["median_ms"], own["recall"], "*", color=f"C{number}", markersize=15,
                           label=f"{name}, its default")  # fmt: skip
        panel.set(xscale="log", ylim=(0.6, 1.01), title=f"{data['name']}, {data['items']:,} latents of 128")
        panel.set_xlabel("median latency of one query, ms (further left is faster)")
        panel.grid(visible=True, which="both", alpha=0.25)
    panels[0].set_ylabel("recall@10")
    panels[-1].legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
