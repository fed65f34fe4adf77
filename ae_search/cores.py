"""How many cores this process may use."""

import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

# Quota and period in µs, or "max" (docs.kernel.org/admin-guide/cgroup-v2.html, "CPU Interface Files"); then version 1.
CGROUP = Path("/sys/fs/cgroup")


@cache
def cores() -> int:
    """Return the cores that this process may use: 2 in a container with 2 of a machine's 64."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = quota(CGROUP)
    return allowed if share >= allowed else max(1, math.ceil(share))


def quota(cgroup: Path) -> float:
    """Return how many cores' time a control group may use, infinity where there is no limit that can be read."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = (cgroup / "cpu.max").read_bytes().split()
        return math.inf if limit == b"max" else int(limit) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        files = (cgroup / "cpu" / f"cpu.cfs_{what}_us" for what in ("quota", "period"))
        spent, per = (int(file.read_bytes()) for file in files)
        return math.inf if spent < 0 else spent / per
    return math.inf
