"""Runs a command on a terminal, and returns what that terminal received."""

import os
import pty
import subprocess
import sys
from pathlib import Path


def run_on_terminal(words, *, folder: Path, environment=None) -> tuple[int, bytes]:
    """Run the command line of this checkout with a terminal as its output and errors; return exit code and bytes."""
    ours, theirs = pty.openpty()
    root = str(Path(__file__).parents[2])
    variables = {**os.environ, "PYTHONPATH": root, "TERM": "xterm-256color", "COLUMNS": "200", **(environment or {})}
    command = [sys.executable, "-m", "ae_search", *words]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=folder, env=variables
        ) as child:
            os.close(theirs)
            received = b"".join(iter(lambda: _read(ours), b""))
            return child.wait(timeout=120), received
    finally:
        os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the last process has closed the other end
        return b""
