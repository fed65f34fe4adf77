"""Forks: a child does not hold or release its parent's lock, and opens the index anew, whatever other threads do."""

import os
import signal
import threading
import time
import warnings

import pytest
from index_fixtures import *  # noqa: F403

from ae_search.errors import ConfigurationError, IndexBusyError
from ae_search.files import locked
from ae_search.index import LatentIndex
from ae_search.index.items.changes import CHANGES
from ae_search.index.items.changes_writer import ChangesWriter
from ae_search.index.manifest import live_generation
from ae_search.index.sqlite.gate import within_sqlite
from ae_search.index.store.place import sole_writer

GIVEN_S = 30.0


def forked(action):
    """Run an action in a forked child; return its process id."""
    with warnings.catch_warnings():
        # From Python 3.12 on: the child of a process with threads may hang, which is what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    try:
        action()
        os._exit(0)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)


def code_of(child):
    """Return how a child ended; one that does not end is killed."""
    end = time.monotonic() + GIVEN_S
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def test_a_child_that_lives_on_does_not_keep_the_lock(ready):
    path = ready()
    with sole_writer(path):
        child = forked(lambda: time.sleep(GIVEN_S))
    try:
        with LatentIndex.open(path) as index:
            index.remove(["key-1"])
            assert len(index) == 599
    finally:
        os.kill(child, signal.SIGKILL)
        code_of(child)


def test_a_child_that_outlives_its_killed_parent_does_not_keep_the_lock(ready, tmp_path):
    path, note = ready(), tmp_path / "grandchild"

    def parent():
        with sole_writer(path):
            grandchild = forked(lambda: time.sleep(GIVEN_S))
            note.write_text(str(grandchild))
            os.kill(os.getpid(), signal.SIGKILL)

    assert code_of(forked(parent)) == -signal.SIGKILL
    try:
        with LatentIndex.open(path) as index:
            index.remove(["key-1"])
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_a_child_that_leaves_the_block_does_not_release_the_lock(ready):
    path = ready()

    def busy():
        with pytest.raises(IndexBusyError), LatentIndex.open(path) as index:
            index.remove(["key-1"])

    block = sole_writer(path)
    block.__enter__()
    assert code_of(forked(lambda: block.__exit__(None, None, None))) == 0
    assert code_of(forked(busy)) == 0
    block.__exit__(None, None, None)
    with LatentIndex.open(path) as index:
        index.remove(["key-1"])


def test_a_child_that_leaves_the_block_keeps_a_lock_of_its_own(tmp_path):
    """Its lock may have the number of the descriptor that was its parent's."""
    block = locked(tmp_path / "parents")
    block.__enter__()

    def child():
        with locked(tmp_path / "own"):
            block.__exit__(None, None, None)
            with pytest.raises(BlockingIOError), locked(tmp_path / "own"):
                pass

    assert code_of(forked(child)) == 0
    block.__exit__(None, None, None)


def test_an_index_that_was_opened_before_a_fork_is_refused_in_the_child(ready, latents):
    path = ready()
    with LatentIndex.open(path) as index:

        def use():
            for action in (
                lambda: index.search(latents[0]),
                lambda: index.keys(),
                lambda: index.remove(["key-1"]),
                lambda: index.thumbnail("key-1"),
            ):
                with pytest.raises(ValueError, match="before this process was forked; open it anew"):
                    action()
            index.close()
            with LatentIndex.open(path) as own:
                own.remove(["key-1"])
                assert own.search(latents[2], 1)[0][0].key == "key-2"

        assert code_of(forked(use)) == 0
        assert "key-1" not in index
        index.remove(["key-2"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("work", ["open", "filter", "search", "change"])
@pytest.mark.slow
def test_children_forked_beside_threads_that_use_the_index(ready, latents, work):
    path, stop = ready(), threading.Event()
    shared = LatentIndex.open(path)

    def use():
        at = 0
        while not stop.is_set():
            at += 1
            if work == "open":
                LatentIndex.open(path).close()
            elif work == "filter":
                shared.search(latents[0], 3, where={"label": f"label-{at}"})
                shared.thumbnail(f"key-{at % 500}")
            elif work == "search":
                shared.search(latents[:200], 3)
            else:
                shared.update(["key-1"], labels=[str(at)], wait_s=GIVEN_S)

    def child():
        with LatentIndex.open(path) as own:
            assert own.search(latents[5], 1)[0][0].key == "key-5"
            assert len(own.search(latents[:100], 2)) == 100

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        codes = [code_of(forked(child)) for _ in range(12)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 12
    shared.close()


def test_a_fork_waits_for_a_transaction(ready):
    """SQLite's account of the locks of its process would go on in the child, which holds none of them."""
    path = ready()
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def write():
        changes = ChangesWriter(live_generation(path) / CHANGES)
        begun.set()
        may_end.wait(GIVEN_S)
        ended.set()
        changes.close()

    def child():
        with LatentIndex.open(path) as own:
            own.remove(["key-1"])

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait(GIVEN_S)
    threading.Timer(0.3, may_end.set).start()
    forking = forked(child)
    assert ended.is_set()
    thread.join()
    assert code_of(forking) == 0


def test_a_fork_that_cannot_wait_is_told(ready):
    """The thread that forks is itself in the middle of something."""
    path = ready()

    def child():
        with pytest.raises(ConfigurationError, match="forked in the middle of a use.*spawn"):
            LatentIndex.open(path)

    with within_sqlite:
        forking = forked(child)
    assert code_of(forking) == 0
    LatentIndex.open(path).close()
