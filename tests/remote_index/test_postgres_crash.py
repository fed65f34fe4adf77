"""Kills of a backend, of the writer and of the whole server, at any moment: each write is whole or not at all.

`make crashtest-postgres` kills 100 times; AE_SEARCH_CRASH_ROUNDS and AE_SEARCH_CRASH_SEED choose others.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from crash_operations import KINDS, Operation, first_build, outcome, perform
from crash_writer import read_journal
from postgres_server import PostgresServer

from ae_search.open_index import open_index

WRITER = Path(__file__).with_name("postgres_crash_writer.py")
ROUNDS = int(os.environ.get("AE_SEARCH_CRASH_ROUNDS", "6"))
SEED = int(os.environ.get("AE_SEARCH_CRASH_SEED", "1"))
VICTIMS = ("backend", "postmaster", "writer")


@pytest.fixture(scope="module")
def server():
    own = PostgresServer()
    yield own
    own.close()


def backends(server):
    return [
        pid
        for (pid,) in server.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'ae-search' ORDER BY backend_start"
        )
    ]


def hit(server, victim, writer):
    """Kill one of them; a backend that is killed takes all others with it, and the postmaster starts anew."""
    if victim == "writer":
        writer.kill()
    elif victim == "postmaster":
        server.kill()
    else:
        while not (found := backends(server)) and writer.poll() is None:
            time.sleep(0.002)
        for pid in found[:1]:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.slow
def test_a_write_that_is_hit_is_whole_or_not_at_all(server, tmp_path, number):
    rng = np.random.default_rng([SEED, number])
    victim, kind = VICTIMS[number % 3], KINDS[1 + number % (len(KINDS) - 1)]
    place = f"{server.url()}&index=crash-{number}"
    before = first_build(place, "angular", number)
    before.moves = False
    journal = tmp_path / "journal"
    journal.touch()
    command = [sys.executable, str(WRITER), place, str(journal), str(number + 1000 * SEED), kind]
    paths = os.pathsep.join(str(WRITER.parents[at] / folder) for at, folder in ((2, ""), (1, "index"), (0, "")))
    environment = {**os.environ, "PYTHONPATH": paths}
    with (
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as writer,
        open_index(place) as reader,
    ):
        reader.search(np.ones(8), 3)
        while writer.poll() is None and journal.read_text().count("end") < 2:
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0.0, 0.15)))
        hit(server, victim, writer)
        if victim == "postmaster":
            server.start()
        # After a backend, the writer may have gone on: it is told by its next statement, or by none.
        time.sleep(0.05)
        writer.kill()
        server.wait()
        told = writer.stderr.read()
        assert writer.wait() in (3, -signal.SIGKILL), told
        done, begun = read_journal(journal)
        state = before
        for operation in done:
            state = outcome(operation, state)
        candidates = [state] + ([outcome(begun, state)] if begun else [])
        with open_index(place) as fresh:
            differences = [one.difference(fresh) for one in candidates]
            assert None in differences, (victim, begun, differences)
            state = candidates[differences.index(None)]
            # An open reader has gone on.
            state.check(reader)
            assert [check.fault for check in fresh.verify() if check.fault] == []
        # The next one writes as if nothing had been, and removes what was left.
        for more in (Operation("add", 999_000 + number), Operation("rebuild", 998_000 + number)):
            perform(more, place, state)
            state = outcome(more, state)
            state.check(reader)
    left = server.execute("SELECT count(*) FROM ae_search.generations WHERE index = %s", (f"crash-{number}",))
    assert left == [(1,)]
