"""The one way from the command line to a person: what strangers wrote is shown, and obeyed by nothing.

Keys, labels, names of files and models, and what servers say may hold anything. All that is printed or logged passes
`printable` here, and no other module prints.
"""

import io
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from ae_search.cli.interrupted import NEXT
from ae_search.printable import printable

# The base of all errors of usage, which Typer does not name.
_UsageError: Any = typer.BadParameter.__base__
INTERRUPTED_EXIT_CODE = 130
# Characters in a line of a table that goes to a pipe, at most; longer cells are folded.
_WIDEST = 1_000_000


def say(text: str, *, err: bool = False) -> None:
    """Print one line to stdout, or to stderr."""
    typer.echo(printable(text), err=err)


def say_json(text: str) -> None:
    """Print JSON that `json.dumps` wrote in ASCII, to stdout; it stays exact."""
    # The one control character that JSON lets stand.
    typer.echo(text.replace("\x7f", "\\u007f"))


def show_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str] | None]) -> None:
    """Print a table to stdout; no cell is ever cut: a terminal folds long ones, a pipe gets one line a row.

    Args:
        title: Above it.
        heads: Titles of the columns.
        rows: Cells of each row; None draws a line.
    """
    from rich.measure import Measurement
    from rich.table import Column, Table
    from rich.text import Text

    def shown(text: str) -> Text:
        return Text(printable(text))  # a plain text would be read as rich's markup

    table = Table(*(Column(shown(head), overflow="fold") for head in heads), title=shown(title))
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*map(shown, row))
    console = _console(soft_wrap=True)
    if not console.is_terminal:
        wide = console.options.update(max_width=_WIDEST)
        console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    console.print(table)


def _console(**options: Any) -> Any:
    """Return a console of rich's that colours nothing where nobody can see it or wants to."""
    from rich.console import Console

    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") in ("dumb", "unknown")
    return Console(color_system=None if plain else "auto", **options)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr, unless only warnings are asked for; yield what advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    described = TextColumn("{task.description}", markup=False)
    columns = (described, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Results printed meanwhile belong to stdout, which may be a file, and not to the console of the bar.
    quiet = not logging.getLogger().isEnabledFor(logging.INFO)
    with Progress(*columns, console=_console(stderr=True), redirect_stdout=False, disable=quiet) as bar:
        task = bar.add_task(printable(what), total=total)
        yield lambda done: bar.advance(task, done)


def set_up(level: int) -> None:
    """Log to stderr from a level on, a line a record, and let no encoding of the terminal end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[lines])
    for chatty in ("absl", "tensorflow", "faiss"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def set_hooks() -> None:
    """Let warnings and the tracebacks of bugs pass the same way, for the rest of the process."""
    sys.excepthook = _say_traceback
    threading.excepthook = _say_end_of_thread
    warnings.showwarning = _log_warning


class PrintableFormatter(logging.Formatter):
    """Formats a record as one line, below it a traceback, if there is one, moved to the right."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        record.message = record.getMessage()
        below = [self.formatException(record.exc_info)] if record.exc_info else []
        below += [self.formatStack(record.stack_info)] if record.stack_info else []
        lines = [line for text in below for line in text.split("\n")]
        return "\n".join([printable(self.formatMessage(record)), *(f"  {printable(line)}" for line in lines)])


class PrintableGroup(TyperGroup):
    """Commands whose usage errors are printable: what they repeat may be a file's name that a shell filled in."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Read the command line, as the base class does."""
        with _printable_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, as the base class does; after Ctrl-C, tell what it does next."""
        try:
            with _printable_usage_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            group = f"{ctx.info_name} " if ctx.parent is not None else ""
            told = NEXT.get(f"{group}{ctx.invoked_subcommand}")
            say(f"interrupted; {told}" if told else "interrupted", err=True)
            raise typer.Exit(INTERRUPTED_EXIT_CODE) from None


def refuse_unknown(context: typer.Context) -> None:
    """Refuse what a command that takes options of others was given and does not know, as any other command does."""
    if context.args:
        first = context.args[0]
        told = "No such option" if first.startswith("-") else "Got unexpected extra argument"
        raise _UsageError(f"{told}: {first}", ctx=context)


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        # Its text is a whole help page, and nobody else's.
        if type(error).__name__ != "NoArgsIsHelpError":
            error.message = printable(error.message)
        raise


def _say_traceback(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    for text in traceback.format_exception(kind, error, trace):
        for line in text.rstrip("\n").split("\n"):
            say(line, err=True)


def _say_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is not SystemExit:  # which ends a thread without a word
        _say_traceback(ended.exc_type, ended.exc_value, ended.exc_traceback)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    logging.getLogger("py.warnings").warning("%s: %s", category.__name__, message)
