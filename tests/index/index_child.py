"""What tests need another process for: `python index_child.py MODE INDEX [unprivileged]`.

read: for each line of JSON on stdin, a latent, print what the index holds and what is nearest to it.
hold: hold the writer's lock until stdin ends.
spilled: die as a writer with half a transaction in the file, its journal beside it.
committed: die as a writer between the commit and the moment when readers are told.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import ae_search.index.engine.annoy  # noqa: F401 - or else the first index that is opened imports it
from ae_search.contract import checked_items
from ae_search.errors import AeSearchError
from ae_search.index import LatentIndex
from ae_search.index.items.changes import CHANGES
from ae_search.index.items.changes_writer import ChangesWriter
from ae_search.index.manifest import live_generation
from ae_search.index.store.following import changing
from ae_search.index.store.place import sole_writer

NOBODY = 65534


def read(path):
    with LatentIndex.open(path) as index:
        print("ready", flush=True)
        for line in sys.stdin:
            (found,) = index.search(json.loads(line), 3, exact=True)
            print(json.dumps({"keys": index.keys(), "nearest": [n.key for n in found]}), flush=True)


def hold(path):
    with sole_writer(path):
        print("ready", flush=True)
        sys.stdin.read()


def die(path, committed):
    with sole_writer(path):
        changes = ChangesWriter(live_generation(path) / CHANGES)
        if not committed:
            # Without room in memory, and allowed to, SQLite writes pages into the file before the commit.
            changes.close()
            changes._connection = sqlite3.connect(live_generation(path) / CHANGES, isolation_level=None)
            changes._connection.execute("PRAGMA cache_size = 1")
            changes._connection.execute("BEGIN IMMEDIATE")
        count = 1 if committed else 500
        changes.add(checked_items([f"late-{i}" for i in range(count)]), np.ones((count, 1, 8), np.float32))
        changes.remove([0])
        with changing(path):
            if committed:
                changes.commit()
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def child(mode, path, *options):
    """Start this script; yields it when it is ready, and ends it."""
    command = [sys.executable, __file__, mode, str(path), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if mode in ("read", "hold") and (first := process.stdout.readline()) != "ready\n":
                raise RuntimeError(first)
            yield process
        finally:
            process.kill()


def killed_writer(path, when):
    """Let a writer die at a certain moment."""
    with child(when, path) as process:
        assert process.wait(60) == -signal.SIGKILL


def ask(process, latent):
    """Return what a reading child sees."""
    process.stdin.write(json.dumps(np.asarray(latent).tolist()) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main(mode, path, *options):
    # Not before all is imported: the interpreter may be in a private place.
    if options and not os.geteuid():
        os.setuid(NOBODY)
    try:
        read(path) if mode == "read" else hold(path) if mode == "hold" else die(path, mode == "committed")
    except AeSearchError as error:
        print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
