"""Nothing in the package prints or sets up logging but `cli/terminal.py`, and what that prints is printable."""

import ast
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ae_search.cli import app, terminal

PACKAGE = Path(__file__).parents[2] / "ae_search"
THE_WAY = PACKAGE / "cli" / "terminal.py"
PRINTING = {
    "print",
    "input",
    "sys.stdout.write",
    "sys.stdout.writelines",
    "sys.stdout.buffer.write",
    "sys.stderr.write",
    "sys.stderr.writelines",
    "sys.stderr.buffer.write",
    "sys.__stdout__.write",
    "sys.__stderr__.write",
    "traceback.print_exc",
    "traceback.print_exception",
    "traceback.print_stack",
    "logging.debug",
    "logging.info",
    "logging.warning",
    "logging.error",
    "logging.exception",
    "logging.critical",
    "logging.log",
    "logging.basicConfig",
    "logging.StreamHandler",
    "logging.Formatter",
    "typer.echo",
    "typer.secho",
    "typer.confirm",
    "typer.prompt",
    "typer.progressbar",
}
PRINTERS = {"rich", "click", "tqdm", "pprint", "curses"}


def _sites(source: str) -> Iterator[str]:
    """Yield what prints in a module, by its full name, whatever it is imported as."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names if alias.asname}
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            imported = [node.module or ""]
        else:
            continue
        yield from (name for name in imported if name.split(".")[0] in PRINTERS)
    for node in ast.walk(tree):
        # Not only calls: a function may be handed on as well.
        if isinstance(node, ast.Name | ast.Attribute) and (name := _full_name(node, names)) in PRINTING:
            yield name


def _full_name(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_prints_past_the_one_way(path):
    found = list(_sites(path.read_text(encoding="utf-8")))
    assert bool(found) == (path == THE_WAY), found


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "def f(): print('x')",
        "import typer\ntyper.echo('x')",
        "from typer import echo as say\nsay('x')",
        "import typer as t\nt.secho('x')",
        "import sys\nsys.stderr.write('x')",
        "from sys import stdout\nstdout.write('x')",
        "def f():\n    from rich.console import Console",
        "import rich",
        "import logging\nlogging.warning('x')",
        "import logging as l\nl.basicConfig()",
        "import traceback\ntraceback.print_exc()",
        "show = print",
    ],
)
def test_a_site_that_prints_is_found(source):
    assert len(list(_sites(source))) == 1


def test_a_log_record_is_one_line_and_a_traceback_stands_apart():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(terminal.PrintableFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("stranger")
    logger.addHandler(handler)
    logger.warning("left out %s", "a\x1b[31m\nERROR forged")
    try:
        raise ValueError("b\x9b\u202e\nERROR forged")
    except ValueError:
        logger.exception("%s failed", "c\r", stack_info=True)
    first, second, *below = stream.getvalue().splitlines()
    assert first == r"WARNING left out a\x1b[31m\nERROR forged"
    assert second == r"ERROR c\r failed"
    assert below and all(line.startswith("  ") and line.isprintable() for line in below)
    assert r"  ValueError: b\x9b\u202e" in below


def test_a_traceback_and_a_warning_pass_the_same_way(monkeypatch, capsys, caplog):
    import threading
    import warnings

    for module, name in ((sys, "excepthook"), (threading, "excepthook"), (warnings, "showwarning")):
        monkeypatch.setattr(module, name, getattr(module, name))
    terminal.set_hooks()

    def fail():
        raise ValueError("a\x1b[31m")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    told = capsys.readouterr().err
    assert told.replace("\n", "").isprintable()
    assert told.count(r"ValueError: a\x1b[31m") == 2
    warnings.showwarning("odd\x1b", UserWarning, "file", 1)
    assert caplog.messages == ["UserWarning: odd\x1b"]  # the formatter of the handler makes it printable


def test_json_holds_no_control_character_and_stays_exact(capsys):
    import json

    text = "".join(map(chr, [*range(0xA0), 0x202E, 0xDCFF, 0x1F600]))
    terminal.say_json(json.dumps({text: text}))
    told = capsys.readouterr().out
    assert told.rstrip("\n").isprintable()
    assert json.loads(told) == {text: text}


def test_help_is_what_it_was():
    for words in (["--help"], [], ["query", "--help"], ["index"]):
        result = CliRunner().invoke(app, words)
        assert "Usage" in result.output and len(result.output.splitlines()) > 10
        assert r"\n" not in result.output
