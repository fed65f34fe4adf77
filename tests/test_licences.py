"""docs/licences.md lists what we depend on, and its check finds what it lacks."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def licences():
    spec = importlib.util.spec_from_file_location("licences", ROOT / "tools" / "licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text(licences):
    return licences.PAGE.read_text(encoding="utf-8")


def test_all_that_is_named_is_listed(licences, text):
    assert [fault for fault in licences.faults(text) if fault.endswith("is not listed")] == []
    assert licences.listed(text)["dev"]["hypothesis"] == "MPL-2.0"
    assert licences.listed(text)["base install"]["annoy"] == "Apache-2.0"


def test_what_is_missing_or_changed_is_found(licences, text):
    assert "hypothesis of dev is not listed" in licences.faults(text.replace("hypothesis", "hypotenuse"))
    assert "grpcio of base install is not listed" in licences.faults(text.replace("annoy, grpcio |", "annoy |"))
    changed = licences.faults(text.replace("| MPL-2.0 | hypothesis", "| Expensive | hypothesis"))
    assert "hypothesis, brought by dev, is under: MPL-2.0; listed: Expensive" in changed
    # What comes with others is looked at as well.
    assert any(fault.startswith("mdurl, brought by") for fault in licences.faults(text.replace("mdurl", "x")))


def test_the_page_is_read_as_it_is_written(licences):
    told, there = licences.listed(licences.page()), licences.installed()
    assert {group: told[group] for group in told if told[group]} == {
        group: there[group] for group in there if there[group]
    }
