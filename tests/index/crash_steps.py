"""Kills a writer before each of its steps in turn: `python crash_steps.py FOLDER STRIDE`; prints how many by kind.

A step is what Python tells its audit hooks of: a file opened for writing or by SQLite, renamed or removed, a folder
made or removed. Every STRIDE-th one is taken. The writer is a fork, so that a round takes some hundredths of a second.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from crash_operations import KINDS, Operation, first_build, outcome, perform

from ae_search.index import LatentIndex

STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "sqlite3.connect", "mmap.__new__"}
# Seeds by which no operation is without effect.
SEED = 12


def die_before(step):
    """Let this process be killed before the step of that number."""
    left = step

    def hook(event, arguments):
        nonlocal left
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in STEPS or is_write:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def was_killed(operation, path, before, step):
    """Perform an operation in a process that dies before a step; tell whether there was such a step."""
    child = os.fork()
    if not child:
        try:
            die_before(step)
            perform(operation, path, before)
        except BaseException as error:
            print(f"{operation}: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def check(operation, folder, template, before, step):
    """Return whether the writer was killed, and on which side of the write."""
    path = folder / "index"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(template, path)
    after = outcome(operation, before)
    with LatentIndex.open(path) as reader:
        before.check(reader)
        killed = was_killed(operation, path, before, step)
        with LatentIndex.open(path) as fresh:
            differences = before.difference(fresh), after.difference(fresh)
        assert None in differences[0 if killed else 1 :], (operation, step, differences)
        state = before if differences[0] is None else after
        state.check(reader)
        # The next process writes as if nothing had been.
        more = Operation("add", 999)
        perform(more, path, state)
        outcome(more, state).check(reader)
    leftovers = sorted(entry.name for entry in path.iterdir())
    assert leftovers[:3] == [".epoch", ".lock", "CURRENT"] and len(leftovers) == 4, (operation, step, leftovers)
    return killed, state is after


def main(folder, stride):
    before = first_build(folder / "template", "angular", SEED)
    with LatentIndex.open(folder / "template") as index:
        for change in ("add", "update", "remove"):
            operation = Operation(change, SEED)
            perform(operation, index.path, before)
            before = outcome(operation, before)
    counts = {}
    for kind in KINDS:
        step, sides = 0, {"before": 0, "after": 0}
        while True:
            killed, is_after = check(Operation(kind, SEED + 1), folder, folder / "template", before, step)
            if not killed:
                break
            sides["after" if is_after else "before"] += 1
            step += stride
        counts[kind] = sides
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
