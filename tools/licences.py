"""Write docs/licences.md: the licence of each distribution that the base install, the extras and the tests bring.

usage: python tools/licences.py [--check]

Taken from what is installed; all extras must be. With --check nothing is written; exit code 1 says that the committed
page lacks a distribution, or tells another licence than an installed one has.
"""

import configparser
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import cast

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
BASE = "base install"
HEAD = """# Licences of what ae-search installs

ae-search is under the Apache License 2.0. This page lists what it installs, with the licence that the metadata names.
`dev`, `bench`, `fuzz`, `coverage` and `docs` are for work on ae-search only. Written by `make licences`.
"""
# Metadata spell them in many ways; a "BSD License" without a number is left as it is.
SPELLINGS = {
    "Apache-2.0": (
        "apache",
        "apache 2.0",
        "apache license 2.0",
        "apache license, version 2.0",
        "apache software license",
    ),  # fmt: skip
    "BSD": ("bsd license",),
    "BSD-3-Clause": ("3-clause bsd license", "bsd 3-clause", "bsd 3-clause license"),
    "ISC": ("isc license", "isc license (iscl)"),
    "MIT": ("mit license",),
    "MPL-2.0": ("mozilla public license 2.0 (mpl 2.0)",),
    "PSF": ("python software foundation license",),
}
KNOWN = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}
# By the LICENSE file that they bring, where the metadata say nothing.
UNTOLD = {"atheris": "Apache-2.0", "hnswlib": "Apache-2.0", "namex": "Apache-2.0"}
# Whose wheels are under another licence than the metadata name, by a file that they bring.
WHEELS = {
    "axe-playwright-python": "MPL-2.0 (the axe-core that it holds; its own code: MIT)",
    "pillow-heif": "GPL-2.0-only (its wheels, which hold x265; its own code: BSD-3-Clause)",
}
NOT_TOLD = "not told by its metadata"


def groups() -> dict[str, list[Requirement]]:
    """Return what setup.cfg names: the base install, then each extra without those that are made of others."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    named = {BASE: parser["options"]["install_requires"], **parser["options.extras_require"]}
    found = {}
    for group, text in named.items():
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        wanted = [Requirement(line) for line in lines]
        found[group] = [one for one in wanted if one.name != parser["metadata"]["name"]]
    return {group: wanted for group, wanted in found.items() if wanted}


def licence_of(name: str) -> str:
    """Return the licence of an installed distribution, by its SPDX name where there is no doubt.

    Raises:
        PackageNotFoundError: It is not installed.
    """
    if name in WHEELS:
        return WHEELS[name]
    told = cast(Message, metadata.metadata(name))
    if expression := told.get("License-Expression"):
        return str(expression)
    first, *rest = (told.get("License") or "").strip().splitlines() or [""]
    classes = [one.split(" :: ")[-1] for one in told.get_all("Classifier") or [] if one.startswith("License :: OSI")]
    spdx = [KNOWN.get(text.lower(), text) for text in (first, *sorted(classes))]
    # A text of many lines is no name, and some names say only that there are several.
    name_of_one = spdx[0] if not rest and spdx[0] not in ("", "UNKNOWN", "Dual License") else ""
    return (KNOWN.get(first.lower()) or name_of_one or " or ".join(spdx[1:])) or UNTOLD.get(name, NOT_TOLD)


def brought_by(wanted: Iterable[Requirement], seen: set[tuple[str, str]]) -> Iterator[str]:
    """Yield what requirements bring, themselves included, as far as it is installed."""
    for one in wanted:
        name = canonicalize_name(one.name)
        new = {(name, extra) for extra in (*one.extras, "")} - seen
        seen |= new
        try:
            needed = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        yield name
        for _, extra in sorted(new):
            yield from brought_by([each for each in needed if _applies(each, extra)], seen)


def _applies(one: Requirement, extra: str) -> bool:
    return one.marker is None or one.marker.evaluate({"extra": extra})


def installed() -> dict[str, dict[str, str]]:
    """Return the licence of each installed distribution by group; what the base install brings is there only."""
    found: dict[str, dict[str, str]] = {}
    for group, wanted in groups().items():
        names = set(brought_by(wanted, set())) - {*found.get(BASE, {})}
        found[group] = {name: licence_of(name) for name in sorted(names)}
    return found


def page() -> str:
    """Return the page."""
    named = {group: {canonicalize_name(one.name) for one in wanted} for group, wanted in groups().items()}
    parts = [HEAD]
    for group, licences in installed().items():
        rows: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        for name, licence in licences.items():
            rows[licence][name not in named[group]].append(name)
        lines = [f"| {key} | {', '.join(ours)} | {', '.join(theirs)} |" for key, (ours, theirs) in sorted(rows.items())]
        title = group if group == BASE else f"`[{group}]`"
        head = "| licence | named in setup.cfg | brought by those |\n|---|---|---|"
        parts.append("\n".join([f"## {title}\n\n{head}", *lines, ""]))
    return "\n".join(parts)


def listed(text: str) -> dict[str, dict[str, str]]:
    """Return the licences that a page tells, by group."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ").strip("`[]")
            found[group] = {}
        elif line.startswith("| ") and not line.startswith("| licence "):
            licence, ours, theirs = (cell.strip() for cell in line.strip("|").split("|"))
            found[group] |= {name: licence for cell in (ours, theirs) for name in cell.split(", ") if name}
    return found


def faults(text: str) -> list[str]:
    """Return what a page lacks or tells otherwise."""
    told = listed(text)
    base = told.get(BASE, {})
    found = []
    for group, wanted in groups().items():
        there = {**told.get(group, {}), **base}
        names = {canonicalize_name(one.name) for one in wanted}
        found += [f"{name} of {group} is not listed" for name in sorted(names - there.keys())]
    for group, licences in installed().items():
        there = {**told.get(group, {}), **base}
        for name, licence in licences.items():
            if there.get(name, "") != licence:
                found.append(f"{name}, brought by {group}, is under: {licence}; listed: {there.get(name, 'nowhere')}")
    return found


def main() -> int:
    """Write or check the page."""
    if "--check" in sys.argv[1:]:
        found = faults(PAGE.read_text(encoding="utf-8"))
        for fault in found:
            print(fault, file=sys.stderr)
        if found:
            print(f"{PAGE} is out of date; look at what is new, and run `make licences`", file=sys.stderr)
        return 1 if found else 0
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
