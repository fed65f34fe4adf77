"""The names in `__all__` of each room, so that none appears, goes or is renamed by accident.

After a change that is meant, write the expectation anew: python tests/test_public_names.py
"""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ae_search"
EXPECTED = Path(__file__).with_name("public_names.json")
PUBLIC = re.findall(
    r"^\| `(ae_search[\w.]*)` \|", (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8"), re.MULTILINE
)


def rooms():
    """Return the names in `__all__` by module: of each package, and of `errors`."""
    files = sorted(PACKAGE.rglob("__init__.py")) + [PACKAGE / "errors.py"]
    found = {}
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "__all__":
                found[".".join(parts).removesuffix(".__init__")] = ast.literal_eval(statement.value)
    return found


def test_the_names_of_each_room_are_those_that_were_agreed():
    told = f"if that is meant: python {Path(__file__).relative_to(ROOT)}, and a line in CHANGELOG.md"
    assert rooms() == json.loads(EXPECTED.read_text(encoding="utf-8")), told


def test_every_public_module_of_the_reference_has_its_names():
    assert len(PUBLIC) > 10
    assert set(PUBLIC) <= rooms().keys()


@pytest.mark.parametrize("module", rooms())
def test_every_name_is_there_and_sorted(module):
    names = rooms()[module]
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_public_is_documented(module):
    """Each class and function has a docstring, which the reference shows."""
    room = importlib.import_module(module)
    for name in rooms()[module]:
        value = getattr(room, name)
        if callable(value) and getattr(value, "__module__", "").startswith("ae_search"):
            assert (value.__doc__ or "").strip(), f"{module}.{name}"


if __name__ == "__main__":
    EXPECTED.write_text(json.dumps(rooms(), indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {EXPECTED.relative_to(ROOT)}\n")
