"""Runs what touches hostile input in a process of its own, and tells how long it took and how much memory."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Exit code, negative for a signal.
        stdout: What it wrote there.
        stderr: What it wrote there.
        peak_mib: Its largest resident set, in MiB; not that of wait4, which begins with the size of the parent.
        seconds: From its start to its end.
    """

    code: int
    stdout: str
    stderr: str
    peak_mib: float
    seconds: float


def run_bounded(arguments, *, folder: Path, timeout_s: float = 120.0, environment=None, signal_after_s=None) -> Ended:
    """Run a command with no standard input; one that takes too long is killed and fails the test.

    Args:
        arguments: The command; "ae-search" stands for the command line of this checkout, "python" for this Python.
        folder: Its working directory; its output is kept there while it runs.
        timeout_s: Seconds that it may take.
        environment: Variables to set beside those of this process.
        signal_after_s: Seconds after which it is sent SIGINT, None for never.
    """
    command = {"ae-search": [sys.executable, "-m", "ae_search"], "python": [sys.executable]}
    first, *rest = map(str, arguments)
    root = str(Path(__file__).parents[2])
    variables = {**os.environ, "PYTHONPATH": root, **(environment or {})}
    out, err = folder / "child.stdout", folder / "child.stderr"
    started = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = subprocess.Popen(
            [*command.get(first, [first]), *rest],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=folder,
            env=variables,
        )
    interrupted, peak_kib = False, 0
    while True:
        peak_kib = max(peak_kib, _peak_kib(child.pid))
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        seconds = time.monotonic() - started
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            break
        if signal_after_s is not None and not interrupted and seconds > signal_after_s:
            child.send_signal(2)
            interrupted = True
        if seconds > timeout_s:
            child.kill()
            os.waitpid(child.pid, 0)
            child.returncode = -9
            raise AssertionError(f"{' '.join(map(str, arguments))} took more than {timeout_s:g} s.")
        time.sleep(0.01)
    texts = [path.read_text(errors="replace") for path in (out, err)]
    return Ended(child.returncode, *texts, peak_kib / 1024, seconds)


def _peak_kib(pid: int) -> int:
    """Return the largest resident set so far; 0 once the process has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
