"""The one format of the results of all benchmarks, and where they lie.

bench/results/VERSION/NAME.json, of one run of one benchmark with one version of the package:
  name, version, date    which benchmark, which release, and the day in UTC
  machine                cpu, cores, memory_gb, load_at_start, python, sqlite, packages
  figures                those to follow over versions: name, value, unit, and where there is one the peer (what it is
                         compared with in the same run) and the ratio of the value to the peer's
  checks                 promises: name, measured, target, unit, at_most, passed
  details                all that was measured, in a shape of the benchmark's own: its tables are made of this

It imports no other module of the benchmarks but `bench.check`, so that the page of the documentation can be drawn
without their packages.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bench.check import Check

RESULTS = Path(__file__).parent / "results"
# Fields of `machine`, in memory, that stand at the top of a file.
DATE = "date"


@dataclass(frozen=True)
class Figure:
    """A figure to follow over versions.

    Attributes:
        name: What was measured.
        value: How much it is.
        unit: Its unit; empty for shares and ratios.
        peer: What it is compared with in the same run; None where nothing is.
        ratio: The value divided by the peer's; None without a peer.
    """

    name: str
    value: float
    unit: str = ""
    peer: str | None = None
    ratio: float | None = None


def beside(name: str, value: float, unit: str, peer: tuple[str, float]) -> Figure:
    """Return a figure and its peer, whose name and value are given."""
    return Figure(name, value, unit, peer[0], value / peer[1])


@dataclass(frozen=True)
class Record:
    """One run of one benchmark.

    Attributes:
        name: The benchmark.
        version: Version of the package.
        date: Day of the run in UTC, as 2026-11-30.
        machine: Where, and with what packages.
        figures: Figures to follow over versions.
        checks: Promises, and what was measured.
        details: All that was measured.
    """

    name: str
    version: str
    date: str
    machine: dict[str, Any]
    figures: list[Figure]
    checks: list[Check]
    details: dict[str, Any]

    @classmethod
    def of(cls, name: str, results: dict[str, Any], figures: list[Figure]) -> "Record":
        """Return the record of what a benchmark has in memory: `machine`, maybe `checks`, and its details."""
        machine = dict(results["machine"])
        date = machine.pop(DATE)
        checks = [_check(check) for check in results.get("checks", [])]
        details = {key: value for key, value in results.items() if key not in ("machine", "checks")}
        return cls(name, machine["packages"]["ae-search"], date, machine, figures, checks, details)

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Return what a file holds."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.keys() != {one.name for one in fields(cls)}:
            raise ValueError(f"{path} is no record of a benchmark: it has {', '.join(raw)}.")
        figures = [Figure(**figure) for figure in raw.pop("figures")]
        checks = [_check(check) for check in raw.pop("checks")]
        return cls(figures=figures, checks=checks, **raw)

    def results(self) -> dict[str, Any]:
        """Return what the benchmark had in memory."""
        machine = {DATE: self.date, **self.machine}
        return {"machine": machine, **self.details, "checks": [check.as_dict() for check in self.checks]}

    def as_json(self) -> str:
        """Return the text of the file, with five significant digits: more is noise."""
        whole = {one.name: getattr(self, one.name) for one in fields(self)}
        whole |= {"figures": [asdict(one) for one in self.figures], "checks": [one.as_dict() for one in self.checks]}
        return json.dumps(rounded(whole), indent=1) + "\n"


def path_of(name: str, version: str, folder: Path = RESULTS) -> Path:
    """Return where the record of a benchmark lies."""
    return folder / version / f"{name}.json"


def all_records(folder: Path = RESULTS) -> list[Record]:
    """Return all records, of older versions first."""
    return sorted(map(Record.read, folder.glob("*/*.json")), key=lambda one: (ordered(one.version), one.name))


def newest(name: str, folder: Path = RESULTS) -> Record | None:
    """Return the record of a benchmark of the newest version, None where there is none."""
    return next((record for record in reversed(all_records(folder)) if record.name == name), None)


def ordered(version: str) -> tuple[tuple[int, str], ...]:
    """Return what versions are sorted by: their parts, as numbers where they are."""
    return tuple((int(part), "") if part.isdigit() else (0, part) for part in version.split("."))


def _check(raw: dict[str, Any]) -> Check:
    return Check(**{one.name: raw[one.name] for one in fields(Check)})


def rounded(value: Any) -> Any:
    """Return figures with five significant digits, wherever they stand."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
