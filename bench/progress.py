"""What all parts of the benchmark share: progress lines, and jobs in processes of their own."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

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
