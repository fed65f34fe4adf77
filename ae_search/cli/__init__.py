"""The command `ae-search`."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any

import typer

# Before gRPC is imported, which reads it then: its own lines about a failed handshake would stand before our answer.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from ae_search.cli.terminal import INTERRUPTED_EXIT_CODE, PrintableGroup, say, set_hooks, set_up
from ae_search.errors import AeSearchError
from ae_search.extras import install

if TYPE_CHECKING:
    app: typer.Typer

__all__ = ["app", "main"]

# Each is a module of this room, imported only where its command is meant.
_COMMANDS = (
    "train", "export", "serve", "index", "query", "drift", "evaluate", "web", "embed", "doctor", "demo",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Return `app` with all commands, for whoever looks at it from outside."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = app_of(_COMMANDS)
    return globals()["app"]


def __dir__() -> list[str]:
    # `python -m typer`, which writes the reference, looks for it here.
    return [*globals(), "app"]


def app_of(names: Sequence[str]) -> typer.Typer:
    """Return the application with some commands."""
    made = typer.Typer(
        cls=PrintableGroup,
        help="Reverse image search: train, export, serve, index, query.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    made.callback()(settings)
    for name in names:
        module = importlib.import_module(f"ae_search.cli.{name}")
        if name == "index":
            made.add_typer(module.app, name=name)
        else:
            made.command(context_settings=getattr(module, "CONTEXT", None))(getattr(module, name))
    return made


def _meant(words: Sequence[str]) -> Sequence[str]:
    """Return the command that a command line begins with; all of them where it is none, or asks for help."""
    first = next((word for word in words if word not in ("-q", "--quiet")), "")
    return (first,) if first in _COMMANDS else _COMMANDS


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"ae-search {metadata.version('ae-search')}")
        raise typer.Exit


def settings(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Set up logging, on stderr, before any command runs."""
    set_up(logging.WARNING if quiet else logging.INFO)
    # TensorFlow's greeting about CPU instructions and missing GPUs would bury a newcomer's own messages.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    """Run the command.

    Exit code 0 done, 1 an error told in one line, 2 wrong usage, 3 done but for images left out, 130 interrupted.
    """
    set_hooks()
    try:
        app_of(_meant(sys.argv[1:]))()
    except AeSearchError as error:
        say(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:  # before a command runs
        sys.exit(INTERRUPTED_EXIT_CODE)
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("tensorflow", "keras", "tensorflow_serving", "grpc_health"):
            raise
        say(f"error: this command needs {error.name}: {install('tensorflow')}", err=True)
        sys.exit(1)
