"""Holds the rooms of ae_search: who may import whom, and what the query side must not load."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "ae_search"
TF = frozenset({"tensorflow", "tensorflow_serving"})
KERAS = frozenset({"keras"})
GRPC = frozenset({"grpc", "grpc_health"})
ANNOY = frozenset({"annoy", "faiss"})
FRONT_DOOR = "ae_search"
# What every room may import, those of its own floor too.
FOR_ALL = frozenset({"checked_json", "errors", "extras", "printable"})


class Room(NamedTuple):
    """A room's floor and the foreign packages that it must not import."""

    floor: int
    banned: frozenset[str] = frozenset()


ROOMS = {
    "errors": Room(0, frozenset(sys.stdlib_module_names) | TF | KERAS | GRPC | ANNOY),
    "checked_json": Room(0, TF | KERAS | GRPC | ANNOY),
    "printable": Room(0, TF | KERAS | GRPC | ANNOY),
    "cores": Room(0, TF | KERAS | GRPC | ANNOY),
    "extras": Room(0, TF | KERAS | GRPC | ANNOY),
    "contract": Room(0, TF | KERAS | GRPC | ANNOY),
    "files": Room(0, TF | KERAS | GRPC | ANNOY),
    "image_file": Room(0, TF | KERAS | GRPC | ANNOY),
    "handshake": Room(1, TF | KERAS | GRPC | ANNOY),
    "quiet_import": Room(0, TF | KERAS | GRPC | ANNOY),
    "plan": Room(0, TF | KERAS | GRPC | ANNOY),
    "version_folders": Room(0, TF | KERAS | GRPC | ANNOY),
    "calibration": Room(1, TF | KERAS | GRPC | ANNOY),
    "explaining": Room(1, TF | KERAS | GRPC | ANNOY),
    "nearest": Room(1, TF | KERAS | GRPC | ANNOY),
    "precision": Room(1, TF | KERAS | GRPC | ANNOY),
    "principal": Room(1, TF | KERAS | GRPC | ANNOY),
    "regions": Room(1, TF | KERAS | GRPC | ANNOY),
    "views": Room(1, TF | KERAS | GRPC | ANNOY),
    "trust": Room(2, TF | KERAS | GRPC | ANNOY),
    "data": Room(2, GRPC | ANNOY),
    "model": Room(2, GRPC | ANNOY),
    "index": Room(2, TF | KERAS | GRPC),
    "remote_index": Room(2, TF | KERAS | ANNOY),
    "exchange": Room(1, TF | KERAS | GRPC | ANNOY),
    "client": Room(2, TF | KERAS | ANNOY),
    "model_server": Room(2, ANNOY),
    "open_index": Room(3, TF | KERAS | GRPC),
    "drift": Room(3, TF | KERAS | GRPC | ANNOY),
    "training": Room(4, GRPC | ANNOY),
    "export": Room(4, GRPC | ANNOY),
    "search": Room(3, TF | KERAS),
    "indexing": Room(4, GRPC | ANNOY),
    "evaluation": Room(4, GRPC),
    "plots": Room(4, GRPC),
    "diagnosis": Room(4, TF | KERAS),
    "web": Room(5),
    "beam": Room(5, TF | KERAS | GRPC | ANNOY),
    "testing": Room(5, TF | ANNOY),
    "cli": Room(6),
    # `import ae_search` is for users, `python -m ae_search` for the shell; no room imports either.
    FRONT_DOOR: Room(7, TF | KERAS),
    "__main__": Room(7, TF | KERAS),
}


def _modules() -> list[str]:
    """Return the dotted names of all modules, `ae_search.index` for `ae_search/index/__init__.py`."""
    paths = (path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(path.parts[:-1] if path.name == "__init__" else path.parts) for path in paths)


def _path(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _room(module: str) -> str:
    """Return the room of a module of ae_search; what is no module is a name of the front door."""
    parts = module.split(".")
    if len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file()):
        return parts[1]
    return FRONT_DOOR


def _imports(source: str, package: str) -> Iterator[str]:
    """Yield the dotted name of all that is imported at any depth, with `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _faults(module: str, source: str) -> list[str]:
    """Return what the table forbids."""
    package = module if _path(module).name == "__init__.py" else module.rpartition(".")[0]
    name = _room(module)
    room = ROOMS[name]
    faults = []
    for imported in _imports(source, package):
        top = imported.split(".")[0]
        if top in room.banned:
            faults.append(f"{name} must not import {top}")
        if top != "ae_search":
            continue
        target = _room(imported)
        below = target in FOR_ALL or (target in ROOMS and ROOMS[target].floor < room.floor)
        if target != name and not below:
            faults.append(f"{name} must not import {target}, which is not on a lower floor")
    return faults


def test_every_module_belongs_to_a_room():
    assert {_room(module) for module in _modules()} <= ROOMS.keys()


@pytest.mark.parametrize("module", _modules())
def test_imports_point_downwards(module):
    assert _faults(module, _path(module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ae_search.errors", "import json"),
        ("ae_search.errors", "from ae_search.contract import ModelCard"),
        ("ae_search.printable", "from ae_search.files import make_folder"),
        ("ae_search.contract", "from ae_search.data import decode"),
        ("ae_search.contract", "from ae_search.files import make_folder"),
        ("ae_search.data", "def load():\n    import grpc"),
        ("ae_search.data", "from ae_search import model"),
        ("ae_search.data", "from ..model import conv"),
        ("ae_search.data", "from .. import model"),
        ("ae_search.data", "import ae_search.training.fit as fit"),
        ("ae_search.data", "from ae_search import ImageSearch"),
        ("ae_search.data", "from ae_search import cli"),
    ],
)
def test_a_wrong_import_is_found(module, source):
    assert len(_faults(module, source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import json, tensorflow",
        "from ae_search.errors import ImageError",
        "from . import decode",
        "from ..files import x",
    ],
)
def test_a_right_import_passes(source):
    assert _faults("ae_search.data", source) == []


@pytest.mark.parametrize(
    "code",
    [
        "import ae_search; [getattr(ae_search, name) for name in ae_search.__all__]",
        "import ae_search.cli",
        "import sys; sys.argv[1:] = ['--help']; from ae_search.cli import main; main()",
        "import sys; sys.argv[1:] = ['query', '--help']; from ae_search.cli import main; main()",
    ],
    ids=["package", "cli", "help", "query-help"],
)
def test_neither_tensorflow_nor_beam(code):
    watch = (
        "import atexit, sys\n"
        "loaded = lambda: sorted({'tensorflow', 'keras', 'tensorflow_serving', 'apache_beam'} & sys.modules.keys())\n"
        "atexit.register(lambda: print('loaded:', loaded(), file=sys.stderr))\n"
    )
    run = subprocess.run([sys.executable, "-c", watch + code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[-1] == "loaded: []"


def _declared(module: str) -> list[str] | None:
    for node in ast.parse(_path(module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return ast.literal_eval(node.value)
    return None


@pytest.mark.parametrize("module", [module for module in _modules() if _declared(module) is not None])
def test_all_is_sorted_and_true(module):
    names = _declared(module)
    assert names == sorted(set(names))
    imported = importlib.import_module(module)
    assert [name for name in names if not hasattr(imported, name)] == []


@pytest.mark.parametrize("library", sorted(ANNOY))
def test_only_its_engine_imports_an_engines_library(library):
    """So that the package can be imported without it."""
    importing = []
    for module in _modules():
        package = module if _path(module).name == "__init__.py" else module.rpartition(".")[0]
        if library in {name.split(".")[0] for name in _imports(_path(module).read_text(encoding="utf-8"), package)}:
            importing.append(module)
    assert importing
    assert all(module.startswith(f"ae_search.index.engine.{library}") for module in importing)


def test_the_front_door_offers_the_query_side():
    assert {"ImageSearch", "LatentClient", "LatentIndex"} <= set(_declared(FRONT_DOOR) or [])
