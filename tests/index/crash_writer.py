"""Changes an index until it is killed: `python crash_writer.py INDEX JOURNAL SEED KIND`.

Before each write, one line with its kind and seed goes to the journal, and one after it has returned; both are on disk
before the next thing happens. The write that is to be hit comes third.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from crash_operations import KINDS, Operation, outcome, perform
from index_oracle import Oracle

from ae_search.index import LatentIndex


class Journal:
    """Appends lines that a reader finds whole, whenever this process dies."""

    def __init__(self, path):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, *words):
        os.write(self._descriptor, (json.dumps(words) + "\n").encode())
        os.fsync(self._descriptor)


def read_journal(path):
    """Return the operations that have returned, and the one that was under way, if any."""
    done, begun = [], None
    for line in Path(path).read_text().split("\n")[:-1]:
        what, *operation = json.loads(line)
        if what == "begin":
            begun = Operation(*operation)
        else:
            done.append(begun)
            begun = None
    return done, begun


def main(path, journal, seed, target):
    with LatentIndex.open(path) as index:
        state = Oracle.read(index)
    rng = np.random.default_rng(seed)
    kinds = [*rng.choice(KINDS, 2), target, *rng.choice(KINDS, 10_000)]
    for number, kind in enumerate(kinds):
        operation = Operation(str(kind), 100_000 * seed + number)
        journal.write("begin", *operation)
        perform(operation, path, state)
        journal.write("end")
        state = outcome(operation, state)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Journal(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
