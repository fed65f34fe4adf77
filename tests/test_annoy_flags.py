"""The flags for an Annoy that runs on other machines: Annoy's own, but for the processor, and told alike everywhere."""

import platform
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tools" / "annoy-flags.sh"
# What the setup.py of Annoy 1.17.3 gives the compiler on Linux, on any machine.
OWN = {
    "-D_CRT_SECURE_NO_WARNINGS", "-fpermissive", "-O3", "-ffast-math", "-fno-associative-math",
    "-DANNOYLIB_MULTITHREADED_BUILD", "-std=c++14",
}  # fmt: skip


def flags(*machine):
    ended = subprocess.run([SCRIPT, *machine], capture_output=True, text=True, check=True)
    return ended.stdout.strip()


@pytest.mark.parametrize(
    ("machine", "march"), [("x86_64", {"-march=x86-64-v3"}), ("aarch64", set()), ("ppc64le", set())]
)
def test_they_are_annoys_own_and_a_processor_on_x86_only(machine, march):
    assert set(flags(machine).split(",")) == OWN | march
    assert "annoy==1.17.3" in (ROOT / "constraints.txt").read_text()


def test_without_a_word_it_is_this_machine():
    assert flags() == flags(platform.machine())


def test_the_docs_and_the_checks_of_a_change_have_the_same():
    told = (ROOT / "docs" / "troubleshooting.md").read_text()
    (documented,) = re.findall(r"^ENV ANNOY_COMPILER_ARGS=(.*)$", told, re.MULTILINE)
    assert documented == flags("x86_64")
    for name in (".ci/run", ".github/workflows/test.yml", ".github/workflows/publish.yml"):
        text = (ROOT / name).read_text()
        assert "ANNOY_COMPILER_ARGS=$(tools/annoy-flags.sh)" in text, name


def test_make_compiles_for_the_machine_that_it_runs_on():
    assert "ANNOY" not in (ROOT / "Makefile").read_text()
    assert shlex.split(flags("x86_64")) == [flags("x86_64")]
