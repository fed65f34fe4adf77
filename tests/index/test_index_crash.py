"""A writer is killed at any moment; the index holds what it held before the write or after it, and nothing else.

AE_SEARCH_CRASH_ROUNDS and AE_SEARCH_CRASH_SEED say how often and from which seed; `make crashtest` is the long run.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from build_options import build_options
from crash_operations import KINDS, Operation, first_build, outcome, perform
from crash_writer import read_journal
from index_fixtures import *  # noqa: F403
from index_oracle import Oracle

from ae_search.errors import ConfigurationError
from ae_search.index import IndexBuilder, LatentIndex

ROUNDS = int(os.environ.get("AE_SEARCH_CRASH_ROUNDS", "12"))
SEED = int(os.environ.get("AE_SEARCH_CRASH_SEED", "1"))
# In so many rounds, each kind of write is hit several times, however unlucky they are.
LONG = 100
# About how long a write takes, in s; the kill comes up to a little later than that.
TAKES_S = dict.fromkeys(("build", "rebuild", "compact", "tune"), 0.03) | dict.fromkeys(
    ("add", "update", "remove"), 0.004
)
CLEAN = re.compile(r"\.lock|\.epoch|CURRENT|generation-\d{6}")
HERE = Path(__file__).parent


def killed(path, journal, seed, target, delay_s):
    """Let a writer run until its third write has been under way for a moment, and kill it."""
    command = [sys.executable, HERE / "crash_writer.py", path, journal, str(seed), target]
    with subprocess.Popen(command) as writer:
        try:
            while not journal.exists() or journal.read_bytes().count(b"begin") < 3:
                assert writer.poll() is None, "the writer ended by itself"
                time.sleep(0.0002)
            time.sleep(delay_s)
        finally:
            writer.kill()
        assert writer.wait(60) == -signal.SIGKILL


def settled(index, candidates):
    """Return the one of several states that an index is in."""
    differences = [state.difference(index) for state in candidates]
    assert None in differences, differences
    return candidates[differences.index(None)]


def write_on(path, state, seed):
    """Write as the next process would, and return what the index must hold then."""
    for kind in ("add", "remove"):
        perform(Operation(kind, seed), path, state)
        state = outcome(Operation(kind, seed), state)
    return state


@pytest.mark.timeout(60 + 10 * ROUNDS)
def test_a_killed_writer_leaves_one_state_or_the_other(tmp_path):
    print(f"\nAE_SEARCH_CRASH_SEED={SEED}, {ROUNDS} rounds")
    rng, hits, sides = np.random.default_rng(SEED), Counter(), Counter()
    path = tmp_path / "index"
    state = first_build(path, ("angular", "euclidean")[SEED % 2], SEED)
    with LatentIndex.open(path) as reader:
        for round_ in range(ROUNDS):
            target, journal = KINDS[round_ % len(KINDS)], tmp_path / f"journal-{round_}"
            seed = 1_000_000 * SEED + 10 * round_
            killed(path, journal, seed, target, TAKES_S[target] * rng.uniform(0.0, 2.5))
            done, under_way = read_journal(journal)
            for operation in done:
                state = outcome(operation, state)
            candidates = [state] if under_way is None else [state, outcome(under_way, state)]
            # Either may be the first to find what the writer left.
            if round_ % 2:
                state = settled(reader, candidates)
            with LatentIndex.open(path) as fresh:
                state = settled(fresh, candidates if round_ % 2 == 0 else [state])
            state.check(reader)
            hits[under_way.kind if under_way else "between two"] += 1
            if under_way:
                sides["before" if state is candidates[0] else "after"] += 1
            state = write_on(path, state, seed + 5)
            state.check(reader)
            assert [entry.name for entry in path.iterdir() if not CLEAN.fullmatch(entry.name)] == []
            assert len(list(path.glob("generation-*"))) == 1
    print(f"killed during {dict(hits)}; the write was found {dict(sides)}")
    if ROUNDS >= LONG:
        assert set(KINDS) <= set(hits)
        assert set(sides) == {"before", "after"}


def test_a_writer_killed_before_each_of_its_steps(tmp_path):
    """The steps that Python knows of, one after another; those within SQLite are left to the dice above."""
    stride = 1 if ROUNDS >= LONG else 3
    command = [sys.executable, HERE / "crash_steps.py", tmp_path, str(stride)]
    report = subprocess.run(command, capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr
    counts = json.loads(report.stdout)
    print(f"killed before each {stride}. step: {counts}")
    assert set(counts) == set(KINDS)
    assert all(stride * sum(sides.values()) > 8 for sides in counts.values())
    assert counts["build"]["before"] and counts["build"]["after"]


FIRST_BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from index_fixtures import build_at, clustered
print(flush=True)
build_at(Path(sys.argv[2]), clustered(150), jobs=1)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.04, 0.06, 0.1])
def test_a_killed_first_build_leaves_no_index_or_all_of_it(tmp_path, card, latents, delay_s):
    path = tmp_path / "index"
    with subprocess.Popen([sys.executable, "-c", FIRST_BUILD, HERE, path], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        time.sleep(delay_s)
        writer.kill()
    try:
        with LatentIndex.open(path) as index:
            assert index.keys() == [f"key-{i}" for i in range(150)]
    except ConfigurationError as error:
        assert "is no index" in str(error)
    with IndexBuilder(path, card, build_options(n_trees=2, replace=True)) as builder:
        builder.add(latents[:5], list("abcde"))
    oracle = Oracle()
    oracle.add(latents[:5], list("abcde"))
    with LatentIndex.open(path) as index:
        oracle.check(index)
    assert [entry.name for entry in path.iterdir() if not CLEAN.fullmatch(entry.name)] == []


@pytest.mark.slow
def test_readers_go_on_while_a_writer_is_at_work(tmp_path):
    """Whatever a reader finds is one of the states that the writer went through, in their order."""
    path, journal = tmp_path / "index", tmp_path / "journal"
    state, seen = first_build(path, "angular", 3), []
    with LatentIndex.open(path) as reader:
        with subprocess.Popen([sys.executable, HERE / "crash_writer.py", path, journal, "3", "add"]) as writer:
            try:
                end = time.monotonic() + 30.0
                while len(seen) < 100 and time.monotonic() < end:
                    assert writer.poll() is None
                    keys = reader.keys()
                    if not seen or seen[-1] != keys:
                        seen.append(keys)
            finally:
                writer.kill()
        done, under_way = read_journal(journal)
        states = [state]
        for operation in [*done, *([under_way] if under_way else [])]:
            states.append(outcome(operation, states[-1]))
        settled(reader, states[-2:])
    order = iter([list(state.items) for state in states])
    assert all(keys in order for keys in seen)
    assert len(seen) == 100
