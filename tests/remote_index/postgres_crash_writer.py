"""Changes an index on PostgreSQL until its server is gone: `python postgres_crash_writer.py URL JOURNAL SEED KIND`.

As `crash_writer.py` does for a folder. It ends with code 3 where an error says that the server is gone.
"""

import sys

import numpy as np
from crash_operations import KINDS, Operation, outcome, perform
from crash_writer import Journal
from index_oracle import Oracle

from ae_search.errors import ServerError
from ae_search.open_index import open_index


def main(place, journal, seed, target):
    with open_index(place) as index:
        state = Oracle.read(index)
    state.moves = False
    rng = np.random.default_rng(seed)
    kinds = [*rng.choice(KINDS, 2), target, *rng.choice(KINDS, 10_000)]
    for number, kind in enumerate(kinds):
        operation = Operation(str(kind), 100_000 * seed + number)
        journal.write("begin", *operation)
        perform(operation, place, state)
        journal.write("end")
        state = outcome(operation, state)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Journal(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    except ServerError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)
