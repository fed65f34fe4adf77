"""The tables of the large indexes: what was measured, how it grows, and what to expect beyond."""

import math
from collections.abc import Callable
from typing import Any

from bench import report

EXPECTED = 100_000_000

# What each row is called, where it is among the figures, and how it is written.
_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], float], str], ...] = (
    ("build, s", lambda found: found["build"]["seconds"]["wall"], ",.0f"),
    ("build, peak memory, MB", lambda found: found["build"]["peak_mb"], ",.0f"),
    ("bytes an item", lambda found: found["build"]["bytes_per_item"], ",.0f"),
    ("disk while it is compacted, bytes an item", lambda found: found["disk"]["most_bytes_per_item"], ",.0f"),
    ("effort at recall 0.95", lambda found: found["warm"]["0.95"]["effort"], ",.0f"),
    ("a query at recall 0.95, warm, ms", lambda found: found["warm"]["0.95"]["median_ms"], ".3f"),
    ("its p99, ms", lambda found: found["warm"]["0.95"]["p99_ms"], ".3f"),
    ("effort at recall 0.99", lambda found: found["warm"]["0.99"]["effort"], ",.0f"),
    ("a query at recall 0.99, warm, ms", lambda found: found["warm"]["0.99"]["median_ms"], ".3f"),
    ("its p99, ms", lambda found: found["warm"]["0.99"]["p99_ms"], ".3f"),
    ("the first query, cold, ms", lambda found: found["cold"]["first_ms"], ".1f"),
    ("the first 100, cold, median ms", lambda found: found["cold"]["median_ms"], ".2f"),
    ("opening it cold, s", lambda found: found["cold"]["open_s"], ".3f"),
    ("opening it again, s", lambda found: found["reader"]["open_s"], ".3f"),
    ("a reader's own memory, MB", lambda found: found["reader"]["anonymous_mb"], ",.1f"),
    ("10,000 additions in one call, s", lambda found: found["adds"]["added_s"], ".2f"),
    ("a query then, ms", lambda found: found["adds"]["median_ms"], ".3f"),
    ("compacting beside a reader, s", lambda found: found["compact"]["compact_s"], ",.0f"),
    ("a query meanwhile, p99 ms", lambda found: found["compact"]["p99_ms"], ".2f"),
    ("verify, s", lambda found: found["verify"]["verify_s"], ",.1f"),
)

# What hangs on the disk, or on what else the machine does, follows no law of growth.
_OF_THE_MACHINE = (
    "its p99, ms", "the first query, cold, ms", "the first 100, cold, median ms", "opening it cold, s",
    "10,000 additions in one call, s", "a query then, ms", "a query meanwhile, p99 ms",
)  # fmt: skip


def tables(results: dict[str, Any]) -> str:
    """Return a table for each engine, a column for each size, and the expected one."""
    parts = [report.where(results["machine"])]
    sizes = results["sizes"]
    for name in sizes[0]["engines"]:
        measured = [size for size in sizes if name in size["engines"]]
        beyond = len(measured) > 1 and EXPECTED / 10 <= measured[-1]["items"] < EXPECTED
        head = [name, *(f"{size['items']:,}" for size in measured)]
        if beyond:
            head.append(f"*{EXPECTED:,}, expected*")
        rows = []
        for told, figure, form in _ROWS:
            values = [figure(size["engines"][name]) for size in measured]
            cells = [f"{value:{form}}" for value in values]
            if beyond:
                expected = _expected([size["items"] for size in measured], values)
                cells.append("" if told in _OF_THE_MACHINE else f"*{expected:{form}}*")
            rows.append([told, *cells])
        parts.append(report.table(head, rows))
    parts.append(
        "Expected figures were not measured: each goes on growing as it did between the two sizes before it. "
        "Where files do not fit into memory, queries wait for the disk as well, which is not in them."
    )
    return "\n\n".join(parts)


def _expected(items: list[int], values: list[float]) -> float:
    """Return a figure at the expected size, along the power law through the last two."""
    if min(values[-2:]) <= 0:
        return values[-1]
    power = math.log(values[-1] / values[-2]) / math.log(items[-1] / items[-2])
    return values[-1] * (EXPECTED / items[-1]) ** power
