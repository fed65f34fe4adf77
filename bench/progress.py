"""What all parts of the benchmark share: progress lines, and jobs in processes of their own."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

CORES = len(os.sched_getaffinity(0))

Given = ParamSpec("Given")
Result = TypeVar("Result")


def progress(text: str) -> None:
    """Write a line with the time of day to stderr."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def in_fresh_process(job: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Run a job in a new process, so that its memory is its own and is given back.

    Args:
        job: A function of a module.
        args: What it takes; must be picklable.
        kwargs: As `args`.

    Returns:
        What the job returns.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(job, *args, **kwargs).result()


class Disk:
    """Looks each second how much of the disk a folder takes.

    Attributes:
        most_bytes: The largest size seen.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._done, self.most_bytes = folder, threading.Event(), 0
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look a last time."""
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            is_done, size = self._done.wait(1.0), 0
            for folder, _, names in os.walk(self._folder):
                for name in names:
                    # A file may go away meanwhile; a sparse one takes less than its length.
                    with suppress(OSError):
                        size += 512 * os.lstat(os.path.join(folder, name)).st_blocks
            self.most_bytes = max(self.most_bytes, size)
            if is_done:
                return
