"""The releases that the tests and the containers install are those that setup.cfg allows, for every Python."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
PYTHONS = ("3.11", "3.12", "3.13")


def _requirements():
    texts = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
    lines = (line for text in texts for line in text.splitlines() if line and not line.startswith("#"))
    wanted = {str(one): one for one in map(Requirement, lines)}
    return [one for one in wanted.values() if one.name != SETUP["metadata"]["name"]]


def _pins(python):
    """Return the version of each distribution on a Python, by its name; two for one name fail."""
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.5"}
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), line
        if pin.marker is None or pin.marker.evaluate(environment):
            assert canonicalize_name(pin.name) not in found, line
            found[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    return found


def test_the_pythons_are_those_of_the_package():
    allowed = SpecifierSet(SETUP["options"]["python_requires"])
    assert [f"3.{minor}" for minor in range(30) if allowed.contains(f"3.{minor}.5")] == list(PYTHONS)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("wanted", _requirements(), ids=str)
def test_every_requirement_has_a_pin_in_its_range(wanted, python):
    pinned = _pins(python)[canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(pinned), pinned


@pytest.mark.parametrize("python", PYTHONS)
def test_protobuf_goes_with_apache_beam(python):
    assert SpecifierSet(">=6,<7").contains(_pins(python)["protobuf"])


def test_the_gate_installs_with_the_pins():
    installing = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert installing and all("-c constraints.txt" in line for line in installing)
    assert "constraints.txt" in re.search(r"^\.venv/\.installed:(.*)$", (ROOT / "Makefile").read_text(), re.M)[1]


def test_what_is_planned_is_in_no_extra_yet():
    planned = [
        Requirement(line)
        for line in (ROOT / "tools" / "planned-extras.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    there = {canonicalize_name(one.name) for one in _requirements()}
    assert not there & {canonicalize_name(one.name) for one in planned}
