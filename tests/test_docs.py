"""The documentation is whole: the command line's reference is what the commands say, and no page is left out."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

import ae_search
from ae_search import errors
from ae_search.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


PAGES = [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / f"{folder}/README.md" for folder in ("serving", "export"))]
PAGES += [ROOT / "examples" / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]


def commands(command=None, name="ae-search"):
    """Yield each command with its full name."""
    command = command or typer.main.get_command(app)
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {child}")


@pytest.fixture(scope="module")
def reference():
    return (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")


def test_the_reference_of_the_command_line_is_current(reference, tmp_path):
    words = ["-m", "typer", "ae_search.cli", "utils", "docs", "--name", "ae-search", "--title", "Command line"]
    subprocess.run([sys.executable, *words, "--output", tmp_path / "cli.md"], cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "cli.md").read_text(encoding="utf-8") == reference, "run `make docs` and commit what it writes"


def test_every_command_and_option_is_documented(reference):
    for name, command in commands():
        assert f"`{name}`" in reference or name == "ae-search"
        for parameter in command.params:
            for option in (one for one in parameter.opts if one.startswith("--")):
                assert re.search(rf"{option}\b", reference), (name, option)


def written_commands(page):
    """Yield each command of the tool on a page, in blocks of code and within sentences, as a list of words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [
        line.strip() for block in re.findall(r"^ *```\w+\n(.*?)^ *```", text, re.M | re.S) for line in block.split("\n")
    ]
    for line in [*lines, *re.findall(r"`(ae-search [^`\n]+)`", text)]:
        if line.startswith("ae-search "):
            yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_written_command_and_its_options_exist(page):
    for words in written_commands(page):
        command = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        others = used - known - {"--help", "--install-completion"}
        if others and "--runner" in used:  # which must be Beam's then
            from ae_search.beam import options_of

            options_of("DirectRunner", [word for word in words if word.split("=")[0] in others])
        else:
            assert not others, (words, others)
        # What is left of a group's name is a placeholder, never a command that is not there.
        assert not (getattr(command, "commands", {}) and words and re.fullmatch(r"[a-z]+", words[0])), words


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Reads the tags of Python that plugins may use as nothing."""

    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = set(re.findall(r"[\w/-]+\.md", str(yaml.load(text, Loader)["nav"])))
    decisions = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(DOCS).as_posix()
        assert name in pages or f"({path.name})" in decisions, name


def test_every_error_has_its_row():
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    for name in errors.__all__:
        assert f"`{name}`" in page, name


def test_the_version():
    written = re.search(r"^version = (\S+)$", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE)[1]
    tool = Path(sys.executable).with_name("ae-search")
    assert ae_search.__version__ == written
    assert (
        subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
        == f"ae-search {written}\n"
    )
