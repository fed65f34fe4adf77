"""Draws the page of the documentation that follows the benchmarks' figures over versions: `make figures`."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from bench.record import RESULTS, Figure, Record, all_records, ordered

PAGE = Path(__file__).parents[1] / "docs" / "figures-over-versions.md"
TITLES = {
    "index": "The index",
    "large": "Large indexes",
    "postgres": "An index on PostgreSQL",
    "client": "The client",
    "web": "The service",
    "images": "Image files",
    "latents": "What the latents find",
    "copies": "Copies",
    "train": "The training",
    "trust": "Trust",
}
HEAD = """# Figures over versions

Each benchmark leaves its figures in `bench/results/VERSION/NAME.json`, in the format of `bench/record.py`, and draws
this page anew; `make figures` draws it from the files that are there. How each figure is measured, and all tables of
the last run, are in `bench/README.md`.

*Ratio* is the value divided by that of the peer, which was measured in the same run. Compare ratios over versions:
values also differ by the machine. From the second version on, a line is drawn for each figure, of its ratios where it
has a peer, from the least to the greatest."""

WIDTH, HEIGHT, MARGIN = 120, 24, 4


def draw() -> None:
    """Write the page."""
    PAGE.write_text(page(all_records(RESULTS)), encoding="utf-8")


def page(records: Sequence[Record]) -> str:
    """Return the page of some records, in Markdown."""
    parts = [HEAD]
    for name, title in TITLES.items():
        if of_name := [record for record in records if record.name == name]:
            parts += [f"## {title}", _runs(of_name), _table(of_name)]
    return "\n\n".join(parts) + "\n"


def _runs(records: Sequence[Record]) -> str:
    """Return one sentence a run: when, where, and how many promises were kept."""
    told = []
    for record in records:
        kept = sum(check.passed for check in record.checks)
        promises = f"; {kept} of {len(record.checks)} checks passed" if record.checks else ""
        about = record.machine
        told.append(f"{record.version}: {record.date}, {about['cpu']}, {about['cores']} cores{promises}.")
    return "  \n".join(told)


def _table(records: Sequence[Record]) -> str:
    """Return a row for each figure of the last run, and for those that only earlier ones had."""
    versions = sorted({record.version for record in records}, key=ordered)
    by_version = {record.version: {figure.name: figure for figure in record.figures} for record in records}
    names = list(dict.fromkeys(name for version in reversed(versions) for name in by_version[version]))
    rows = [_row(name, [by_version[version].get(name) for version in versions]) for name in names]
    head = ["figure", *versions, "peer", "ratio", "over versions"][: len(rows[0])]
    rule = ["---", *("--:" for _ in versions), "---", "--:", "---"][: len(rows[0])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _row(name: str, figures: Sequence[Figure | None]) -> list[str]:
    last = next(figure for figure in reversed(figures) if figure is not None)
    values = ["" if figure is None else f"{_told(figure.value)} {figure.unit}".strip() for figure in figures]
    ratio = "" if last.ratio is None else _told(last.ratio)
    # Ratios where there are some, since machines differ.
    drawn = [figure and (figure.value if last.ratio is None else figure.ratio) for figure in figures]
    line = [_line(name, drawn)] if len(figures) > 1 else []
    return [name, *values, last.peer or "", ratio, *line]


def _told(value: float) -> str:
    """Return three significant digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _line(name: str, values: Sequence[float | None]) -> str:
    """Return a line through the values, from the left to the right, as a picture within the table."""
    there = [value for value in values if value is not None]
    low, high = min(there), max(there)
    points = []
    for at, value in enumerate(values):
        if value is not None:
            x = MARGIN + (WIDTH - 2 * MARGIN) * at / (len(values) - 1)
            y = HEIGHT / 2 if low == high else MARGIN + (HEIGHT - 2 * MARGIN) * (high - value) / (high - low)
            points.append((f"{x:.1f}", f"{y:.1f}"))
    line = f'<polyline points="{" ".join(map(",".join, points))}" fill="none" stroke="currentColor"/>'
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.5" fill="currentColor"/>' for x, y in points)
    label = f'role="img" aria-label="{escape(name)} over versions"'
    return f'<svg width="{WIDTH}" height="{HEIGHT}" {label}>{line if len(points) > 1 else ""}{dots}</svg>'


if __name__ == "__main__":
    draw()
